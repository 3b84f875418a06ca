package mua

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mua/line"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
)

// The usual ports (RFC 8314 §7.3, RFC 1939 §3, RFC 6409 §3.1).
const (
	portPOP3S       = 995
	portPOP3        = 110
	portSubmissions = 465
	portSubmission  = 587
)

// byHand tries servers that the person has named.
func (s *Setup) byHand(ctx context.Context, a address.Address, w Wish, n *NewAccount) error {
	if w.Incoming == "" || w.Outgoing == "" {
		return fmt.Errorf("%w: give both --incoming and --outgoing, or neither to have them found", ErrUsage)
	}
	var err error
	if n.Account.Incoming, err = namedServer(clientconfig.POP3, w.Incoming, w); err != nil {
		return err
	}
	out := w
	if w.OutgoingSecurity != "" {
		out.Security = w.OutgoingSecurity
	}
	if n.Account.Outgoing, err = namedServer(clientconfig.SMTP, w.Outgoing, out); err != nil {
		return err
	}
	login := w.Login
	if login == "" {
		login = a.String()
	}
	n.Account.Incoming.Login, n.Account.Outgoing.Login = login, login
	if err := s.prove(ctx, a, w, nil, false, n); err != nil {
		return err
	}
	return s.byLine(ctx, w, n)
}

// namedServer is a server as HOST[:PORT] and the wish name it. Without a word about security the
// port says how TLS begins.
func namedServer(p clientconfig.Protocol, text string, w Wish) (profile.Server, error) {
	out := profile.Server{Server: clientconfig.Server{Protocol: p}, AuthorityFile: w.AuthorityFile, CertificateFile: w.CertificateFile, KeyFile: w.KeyFile, External: w.External}
	implicit, upgrade := uint16(portPOP3S), uint16(portPOP3)
	if p == clientconfig.SMTP {
		implicit, upgrade = portSubmissions, portSubmission
	}
	usual := implicit
	if w.Security == "starttls" || w.Security == "none" {
		usual = upgrade
	}
	var err error
	if out.Host, out.Port, err = hostPort(text, usual); err != nil {
		return out, err
	}
	switch w.Security {
	case "":
		out.Security = clientconfig.TLS
		if out.Port == upgrade || out.Port == 25 {
			out.Security = clientconfig.StartTLS
		}
	case "tls":
		out.Security = clientconfig.TLS
	case "starttls":
		out.Security = clientconfig.StartTLS
	case "none":
		out.Security = clientconfig.Plain
	default:
		return out, fmt.Errorf("%w: security %q; say tls, starttls or none", ErrUsage, w.Security)
	}
	return out, nil
}

// byLine logs in to both servers of an account as it will be used.
func (s *Setup) byLine(ctx context.Context, w Wish, n *NewAccount) error {
	var err error
	if n.Account.Incoming.Accepted, err = fingerprint("--accept", w.Accept); err != nil {
		return err
	}
	if n.Account.Outgoing.Accepted, err = fingerprint("--accept-outgoing", w.AcceptOutgoing); err != nil {
		return err
	}
	if w.AcceptOutgoing == "" && n.Account.Outgoing.Host == n.Account.Incoming.Host {
		n.Account.Outgoing.Accepted = n.Account.Incoming.Accepted
	}
	if err := n.Account.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	l, err := line.New(line.Config{Secrets: given{n, nil}, Roots: s.Roots, Dial: s.Dial})
	if err != nil {
		return err
	}
	if err := try(ctx, l, n.Account, true, true); err != nil {
		return s.refused(err, n)
	}
	s.Person.Say(s.text("Logged in to both servers.", "Zalogowano do obu serwerów."))
	return nil
}

// refused explains why a trial failed.
func (s *Setup) refused(err error, n *NewAccount) error {
	u, ok := errors.AsType[*page.Untrusted](err)
	if !ok {
		return fmt.Errorf("%w; %s", err, s.text("nothing is saved", "nic nie zapisano"))
	}
	e, flag := u.Certificate, "--accept "
	if u.Outgoing && (e.Host != n.Account.Incoming.Host || n.Account.Incoming.Accepted != "") {
		flag = "--accept-outgoing "
	}
	u.Text = fmt.Sprintf(s.text("the certificate of %s is not trusted: %v; no password was sent and nothing is saved. If you know by another way that it is right, run the command again with %s%s, or name its authority with --ca FILE",
		"certyfikat serwera %s nie jest zaufany: %v; nie wysłano hasła i nic nie zapisano. Jeśli inną drogą wiesz, że jest właściwy, uruchom polecenie jeszcze raz z %s%s albo wskaż jego urząd przez --ca PLIK"),
		e.Host, e.Err, flag, e.SHA256)
	return u
}

// try logs in to the servers of an account and leaves.
func try(ctx context.Context, l *line.Lines, a profile.Account, incoming, outgoing bool) error {
	l = l.Trial()
	if incoming {
		in, err := l.POP3(ctx, a)
		if err != nil {
			return fmt.Errorf("incoming server: %w", untrusted(err, false))
		}
		_ = in.Quit(ctx) // nothing was done there
	}
	if outgoing {
		out, err := l.SMTP(ctx, a)
		if err != nil {
			return fmt.Errorf("outgoing server: %w", untrusted(err, true))
		}
		_ = out.Quit(ctx)
	}
	return nil
}

// fingerprint reads a certificate's SHA-256 as programs write it: with colons, in capitals. flag
// is where a person gave it; "" is none.
func fingerprint(flag, s string) (string, error) {
	sum := strings.ToLower(strings.NewReplacer(":", "", " ", "", "sha256=", "", "SHA256=", "").Replace(s))
	if raw, err := hex.DecodeString(sum); err != nil || sum != "" && len(raw) != sha256.Size {
		return "", fmt.Errorf("%w: %s %q names no certificate; it takes the SHA-256 in 64 hexadecimal digits, as the refusal prints it", ErrUsage, flag, s)
	}
	return sum, nil
}

// given are secrets that are not in the vault yet. kept has the others; nil where there are none.
type given struct {
	n    *NewAccount
	kept *Secrets
}

// Key implements line.Keys.
func (g given) Key(ctx context.Context, a *profile.Account) (string, error) {
	if g.n.Key != "" || g.kept == nil {
		return g.n.Key, nil
	}
	return g.kept.Key(ctx, a)
}

// Password implements line.Secrets.
func (g given) Password(context.Context, *profile.Account, bool) (string, error) {
	return g.n.Password, nil
}

// Token implements line.Secrets.
func (g given) Token(context.Context, *profile.Account) (string, error) {
	if g.n.Token == nil {
		return "", errors.New("there is no token")
	}
	return g.n.Token.Access, nil
}
