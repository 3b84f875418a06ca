package page

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mua/profile"
)

// serverView is a server in a form.
type serverView struct {
	Side, Title           string // in or out
	Host, Port, Security  string
	Login, Accepted       string
	DefaultTLS, StartPort string
}

func (v *visit) serverViews() (in, out serverView) {
	return serverView{Side: "in", Title: v.t.Incoming, DefaultTLS: "995", StartPort: "110", Security: string(clientconfig.TLS)},
		serverView{Side: "out", Title: v.t.Outgoing, DefaultTLS: "465", StartPort: "587", Security: string(clientconfig.TLS)}
}

func hostOf(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return hostport
	}
	return host
}

// serverOf reads a server from a form, and says what is wrong with it. Without a port it is the
// usual one (RFC 8314 §7.3, RFC 1939 §3, RFC 6409 §3.1).
func (v *visit) serverOf(f url.Values, side string) (s clientconfig.Server, problems []string) {
	s.Protocol = clientconfig.POP3
	usual := map[clientconfig.Security]uint16{clientconfig.TLS: 995, clientconfig.StartTLS: 110, clientconfig.Plain: 110}
	if side == "out" {
		s.Protocol = clientconfig.SMTP
		usual = map[clientconfig.Security]uint16{clientconfig.TLS: 465, clientconfig.StartTLS: 587, clientconfig.Plain: 587}
	}
	s.Security = map[string]clientconfig.Security{"starttls": clientconfig.StartTLS, "none": clientconfig.Plain}[f.Get(side+"_security")]
	if s.Security == "" {
		s.Security = clientconfig.TLS
	}
	s.Host = strings.Trim(strings.TrimSpace(f.Get(side+"_host")), "[]")
	ip, err := netip.ParseAddr(s.Host)
	if _, derr := address.ParseDomain(s.Host); err != nil && derr != nil && s.Host != "localhost" {
		problems = append(problems, v.t.about(v.t.BadServer, s.Host))
	}
	s.Port = usual[s.Security]
	if text := strings.TrimSpace(f.Get(side + "_port")); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			problems = append(problems, v.t.about(v.t.BadPort, text))
		}
		s.Port = uint16(n)
	}
	if s.Security == clientconfig.Plain && s.Host != "localhost" && (err != nil || !ip.IsLoopback()) {
		problems = append(problems, v.t.PlainFar)
	}
	return s, problems
}

// serversOf puts a form's servers over an account's.
func (v *visit) serversOf(a profile.Account, f url.Values) (profile.Account, []string) {
	in, problems := v.serverOf(f, "in")
	out, more := v.serverOf(f, "out")
	problems = append(problems, more...)
	for _, x := range []struct {
		to   *profile.Server
		from clientconfig.Server
		side string
	}{{&a.Incoming, in, "in"}, {&a.Outgoing, out, "out"}} {
		if x.to.Host != x.from.Host || f.Get(x.side+"_unaccept") != "" {
			x.to.Accepted = "" // it was that other server's
		}
		x.to.Host, x.to.Port, x.to.Security = x.from.Host, x.from.Port, x.from.Security
		x.to.Login = strings.TrimSpace(f.Get(x.side + "_login"))
		x.to.AuthorityFile = strings.TrimSpace(f.Get("authority"))
		x.to.CertificateFile, x.to.KeyFile = strings.TrimSpace(f.Get("certificate")), strings.TrimSpace(f.Get("key"))
		x.to.External = f.Get("external") != ""
	}
	if a.Incoming.CertificateFile != "" {
		a.Certificate = "" // the files are in its place
	}
	if (a.Incoming.CertificateFile == "") != (a.Incoming.KeyFile == "") || a.Incoming.External && a.Incoming.CertificateFile == "" && a.Certificate == "" {
		problems = append(problems, v.t.KeyAndCertificate)
	}
	return a, problems
}

// serving is the attempt to use changed servers.
func (v *visit) serving(k Keeper, a profile.Account) talkWish {
	return talkWish{kind: "server", account: a.ID, title: v.t.about(v.t.ServersTrying, a.Address), back: accountPath(a.ID), done: accountPath(a.ID), success: v.t.about(v.t.ServersSaved, a.Address),
		run: func(ctx context.Context, _ *talk) error { return k.Server(ctx, a) },
		accept: func(v *visit, u *Untrusted) talkWish {
			if !u.Outgoing {
				a.Incoming.Accepted = u.Certificate.SHA256
			}
			if u.Outgoing || a.Outgoing.Host == a.Incoming.Host && a.Outgoing.Accepted == "" {
				a.Outgoing.Accepted = u.Certificate.SHA256
			}
			return v.serving(k, a)
		}}
}
