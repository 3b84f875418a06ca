package mua

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mua/discover"
	"poczta.example/poczta/internal/mua/identity"
	"poczta.example/poczta/internal/mua/oauth"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/resolver"
)

// Person is asked and told while an account is set up.
type Person interface {
	Say(text string)
	Confirm(question string) (bool, error)
	Password(prompt string) (string, error)
	Browse(address string) error
}

// Reader is a Person who is shown the code of another device in a way of its own. The code comes
// again when its Away changes, and an empty one in the end.
type Reader interface{ Code(c oauth.Code) }

// Wish is what a person says of an account to be.
type Wish struct {
	Address, Name string
	Login         string // "" is found out: the address, or its local part
	// Incoming and Outgoing are HOST or HOST:PORT; both empty are found out.
	Incoming, Outgoing       string
	Security                 string // "", tls, starttls, none
	OutgoingSecurity         string // "" is Security
	AuthorityFile            string // PEM
	CertificateFile, KeyFile string // PEM
	External                 bool
	Accept, AcceptOutgoing   string // SHA-256 of certificates, in hexadecimal
	Policy                   profile.Policy
	Identity                 *identity.Identity // a client certificate that is kept with the account, in place of the files
	OAuth                    oauth.Provider     // ClientID, ClientSecret, DeviceURL; its URLs where they are not found
}

// NewAccount is an account that was tried, with its secrets. It travels as JSON.
type NewAccount struct {
	Account      profile.Account `json:"account"`
	Password     string          `json:"password,omitempty"`
	Token        *oauth.Token    `json:"token,omitempty"`
	ClientSecret string          `json:"client_secret,omitempty"`
	Key          string          `json:"key,omitempty"` // of Account.Certificate
}

// Setup finds and tries the servers of new accounts. It needs no open mail.
type Setup struct {
	Person   Person            // required
	Language string            // of what the person is told: "pl" or English
	Resolver resolver.Resolver // nil asks the system's servers
	Roots    *x509.CertPool    // nil is the system's
	Dial     func(ctx context.Context, network, hostport string) (net.Conn, error)
	Now      func() time.Time
}

func (s *Setup) text(en, pl string) string { return choose(s.Language, en, pl) }

// explain is an error in words for the command line, of a kind that the page has its own words for.
func (s *Setup) explain(kind error, text string) error { return &explained{text, kind} }

// Account finds the servers of an address unless the wish names them, has the person confirm
// those that a stranger could have named, and logs in to both. Nothing is saved. A refused
// password is not tried again.
func (s *Setup) Account(ctx context.Context, w Wish) (NewAccount, error) {
	a, err := address.Parse(w.Address)
	if err != nil {
		return NewAccount{}, fmt.Errorf("%w: %q is not an address: %w; write as in ala@example.org", ErrUsage, w.Address, err)
	}
	for flag, sum := range map[string]string{"--accept": w.Accept, "--accept-outgoing": w.AcceptOutgoing} {
		if _, err := fingerprint(flag, sum); err != nil {
			return NewAccount{}, err
		}
	}
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	n := NewAccount{Account: profile.Account{Address: a.String(), Name: w.Name, Policy: w.Policy, ClientID: w.OAuth.ClientID, Created: now().UTC().Truncate(time.Second)}}
	if n.Account.Policy.Keep == "" {
		n.Account.Policy.Keep = profile.Leave
	}
	if w.Identity != nil {
		if n.Key, err = w.Identity.Key(); err != nil {
			return n, err
		}
		n.Account.Certificate = w.Identity.Chain()
	}
	if w.Incoming != "" || w.Outgoing != "" {
		return n, s.byHand(ctx, a, w, &n)
	}
	return n, s.found(ctx, a, w, &n)
}

// found looks for the servers and tries them.
func (s *Setup) found(ctx context.Context, a address.Address, w Wish, n *NewAccount) error {
	f, err := s.finder(w)
	if err != nil {
		return err
	}
	s.Person.Say(s.text("Looking for the servers of "+a.Domain().String()+" …", "Szukam serwerów domeny "+a.Domain().String()+" …"))
	report, err := f.Find(ctx, a)
	if err != nil {
		return err
	}
	s.Person.Say(strings.TrimRight(report.Text(s.Language), "\n"))
	c, err := s.pick(a, report)
	if err != nil {
		return err
	}
	cred := discover.Credentials{Username: w.Login, External: w.External}
	if w.Identity != nil {
		cred.Certificate = w.Identity.TLS()
	} else if w.CertificateFile != "" {
		pair, err := tls.LoadX509KeyPair(w.CertificateFile, w.KeyFile)
		if err != nil {
			return fmt.Errorf("read your certificate: %w", err)
		}
		cred.Certificate = &pair
	}
	if err := s.prove(ctx, a, w, c.OAuth, wantsToken(c), n); err != nil {
		return err
	}
	cred.Password = n.Password
	if n.Token != nil {
		cred.Token = n.Token.Access
	}
	if w.Accept != "" || w.AcceptOutgoing != "" {
		n.Account.Incoming, n.Account.Outgoing = server(c.Incoming[0], w, login(c.Incoming[0], w)), server(c.Outgoing[0], w, login(c.Outgoing[0], w))
		return s.byLine(ctx, w, n)
	}
	trial, err := f.Try(ctx, c, cred)
	if err != nil {
		return err
	}
	if !trial.Works() && n.Token == nil && needsToken(trial) {
		s.Person.Say(s.text("The provider takes a login in your browser instead of a password.", "Dostawca wymaga logowania w przeglądarce zamiast hasła."))
		if err := s.prove(ctx, a, w, c.OAuth, true, n); err != nil {
			return err
		}
		cred.Password, cred.Token = "", n.Token.Access
		if trial, err = f.Try(ctx, c, cred); err != nil {
			return err
		}
	}
	for _, step := range trial.Steps {
		s.Person.Say(step.Text(s.Language))
	}
	if !trial.Works() {
		return s.failed(ctx, c, w, trial, n)
	}
	n.Account.Incoming, n.Account.Outgoing = server(*trial.Incoming, w, trial.IncomingLogin), server(*trial.Outgoing, w, trial.OutgoingLogin)
	return n.Account.Validate()
}

// pick takes the first candidate whose hosts are proven or confirmed.
func (s *Setup) pick(a address.Address, r *discover.Report) (discover.Candidate, error) {
	asked := false
	for _, c := range r.Candidates {
		if !c.Complete() {
			continue
		}
		if c.NeedsConfirmation() {
			asked = true
			yes, err := s.Person.Confirm(c.Question(a, s.Language))
			if err != nil {
				return c, err
			}
			if !yes {
				continue
			}
			c.Confirmed = true
		}
		return c, nil
	}
	if asked {
		return discover.Candidate{}, s.explain(page.ErrUnconfirmed, s.text("no server was confirmed, so nothing was sent and nothing is saved; name the servers with --incoming and --outgoing",
			"nie potwierdzono żadnego serwera, więc nic nie wysłano ani nie zapisano; podaj serwery przez --incoming i --outgoing"))
	}
	return discover.Candidate{}, s.explain(page.ErrNoServers, s.text("no POP3 and SMTP servers were found; your provider's help pages name them: give them with --incoming and --outgoing",
		"nie znaleziono serwerów POP3 i SMTP; strony pomocy dostawcy podają ich nazwy: podaj je przez --incoming i --outgoing"))
}

// failed says why a trial ended without both logins.
func (s *Setup) failed(ctx context.Context, c discover.Candidate, w Wish, t *discover.Trial, n *NewAccount) error {
	for _, step := range t.Steps {
		switch step.Result {
		case discover.CertUnknown, discover.CertExpired, discover.CertName, discover.CertInvalid:
			// Once more, for the name of the certificate; nothing secret goes there before it is verified.
			n.Account.Incoming, n.Account.Outgoing = server(c.Incoming[0], w, login(c.Incoming[0], w)), server(c.Outgoing[0], w, login(c.Outgoing[0], w))
			return s.byLine(ctx, w, n)
		case discover.WrongPassword:
			return s.explain(page.ErrCredentials, s.text("the password or the login name was refused, and was not tried again; nothing is saved. Run the command again; --login NAME gives another login name",
				"odmówiono hasła lub nazwy logowania i nie próbowano ponownie; nic nie zapisano. Uruchom polecenie jeszcze raz; --login NAZWA podaje inną nazwę"))
		}
	}
	return s.explain(page.ErrNoLogin, s.text("the login to both servers did not succeed (see above); nothing is saved", "nie udało się zalogować do obu serwerów (zob. wyżej); nic nie zapisano"))
}

// prove gets the password, or a token where the provider wants one.
func (s *Setup) prove(ctx context.Context, a address.Address, w Wish, o *clientconfig.OAuth, token bool, n *NewAccount) (err error) {
	if w.External {
		return nil
	}
	if !token && w.OAuth.ClientID == "" {
		if n.Password, err = s.Person.Password(s.text("Password of ", "Hasło do ") + a.String() + ": "); err == nil && n.Password == "" {
			err = s.explain(page.ErrNoPassword, s.text("no password was given", "nie podano hasła"))
		}
		return err
	}
	n.Account.OAuth = endpoints(o, w.OAuth)
	if n.Account.OAuth == nil || w.OAuth.ClientID == "" {
		return s.explain(page.ErrNoClient, s.text("this provider takes no passwords but a login in the browser (OAuth2), for programs that are registered there: give --client-id with the client id that you got for this program (and --auth-url, --token-url, --scope where they were not found)",
			"ten dostawca nie przyjmuje haseł, tylko logowanie w przeglądarce (OAuth2) z programów, które są u niego zarejestrowane: podaj --client-id z identyfikatorem uzyskanym dla tego programu (oraz --auth-url, --token-url i --scope, jeśli ich nie znaleziono)"))
	}
	t, err := s.Token(ctx, &n.Account, w.OAuth.ClientSecret, w.OAuth.DeviceURL)
	if err != nil {
		return err
	}
	n.Token, n.Password, n.ClientSecret = &t, "", w.OAuth.ClientSecret
	return nil
}

// endpoints are where tokens come from: as the person says, else as was found.
func endpoints(o *clientconfig.OAuth, p oauth.Provider) *clientconfig.OAuth {
	if p.AuthURL != "" || p.TokenURL != "" {
		return &clientconfig.OAuth{AuthURL: p.AuthURL, TokenURL: p.TokenURL, Scope: p.Scope, DeviceURL: p.DeviceURL}
	}
	if o == nil || p.DeviceURL == "" {
		return o
	}
	with := *o
	with.DeviceURL = p.DeviceURL
	return &with
}

// Token has the person log in with the provider of an account: in a browser here, or with
// deviceURL on another device.
func (s *Setup) Token(ctx context.Context, a *profile.Account, clientSecret, deviceURL string) (oauth.Token, error) {
	p := Provider(a)
	p.ClientSecret, p.DeviceURL = clientSecret, deviceURL
	if deviceURL != "" {
		return s.device(ctx, p)
	}
	return p.Loopback(ctx, a.Address, func(address string) error {
		s.Person.Say(s.text("Log in with your browser; if it does not open by itself, open this address:\n", "Zaloguj się w przeglądarce; jeśli nie otworzy się sama, otwórz ten adres:\n") + address)
		return s.Person.Browse(address)
	})
}

// device has the person enter a code on another device.
func (s *Setup) device(ctx context.Context, p *oauth.Provider) (oauth.Token, error) {
	show := s.code(true)
	if r, ok := s.Person.(Reader); ok {
		show = r.Code
		defer r.Code(oauth.Code{})
	}
	return p.Device(ctx, show)
}

// code says a code to a Person who is no Reader.
func (s *Setup) code(first bool) func(oauth.Code) {
	return func(c oauth.Code) {
		switch {
		case c.Away:
			s.Person.Say(s.text("The provider can't be reached at the moment; it is asked again until the code ends.", "Dostawca chwilowo nie odpowiada; pytamy ponownie, dopóki kod jest ważny."))
		case !first:
			s.Person.Say(s.text("The provider can be reached again.", "Dostawca znowu odpowiada."))
		default:
			s.Person.Say(fmt.Sprintf(s.text("Open %s on any device and enter the code %s", "Otwórz %s na dowolnym urządzeniu i wpisz kod %s"), c.Address, c.Text))
		}
		first = false
	}
}

// finder looks for servers.
func (s *Setup) finder(w Wish) (*discover.Finder, error) {
	names := s.Resolver
	if names == nil {
		var err error
		if names, err = systemResolver(); err != nil {
			return nil, err
		}
	}
	roots := s.Roots
	if w.AuthorityFile != "" {
		text, err := os.ReadFile(w.AuthorityFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificates of your authority: %w", err)
		}
		if roots == nil {
			roots, err = x509.SystemCertPool()
		} else {
			roots = roots.Clone()
		}
		if err != nil {
			return nil, fmt.Errorf("read the system's authorities: %w", err)
		}
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", w.AuthorityFile)
		}
	}
	return discover.New(discover.Config{Resolver: names, Roots: roots, Dial: s.Dial})
}

// server is a found server as an account has it.
func server(d discover.Server, w Wish, login string) profile.Server {
	out := profile.Server{Server: d.Server, Login: login, AuthorityFile: w.AuthorityFile, CertificateFile: w.CertificateFile, KeyFile: w.KeyFile, External: w.External}
	if d.Raised {
		out.Security = clientconfig.StartTLS
	}
	return out
}

func login(d discover.Server, w Wish) string {
	if w.Login != "" || len(d.Logins) == 0 {
		return w.Login
	}
	return d.Logins[0]
}

// wantsToken reports whether a provider says that it takes nothing but tokens.
func wantsToken(c discover.Candidate) bool {
	list := c.Incoming[0].Authentications
	return len(list) == 1 && list[0] == clientconfig.OAuth2
}

func needsToken(t *discover.Trial) bool {
	for _, s := range t.Steps {
		if s.Result == discover.NeedsOAuth {
			return true
		}
	}
	return false
}

// hostPort reads HOST or HOST:PORT.
func hostPort(s string, port uint16) (string, uint16, error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return strings.Trim(s, "[]"), port, nil
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("%w: %q is no server; write HOST or HOST:PORT", ErrUsage, s)
	}
	return host, uint16(n), nil
}
