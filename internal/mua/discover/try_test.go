package discover_test

import (
	"crypto/x509"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/discover"
)

// otherCA is an authority that nobody trusts.
func otherCA(w *world) *certtest.CA { return certtest.New(w.t) }

// candidate is one with both servers at mail.example.org.
func candidate(change ...func(c *discover.Candidate)) discover.Candidate {
	server := func(p clientconfig.Protocol, port uint16, s clientconfig.Security) discover.Server {
		return discover.Server{Server: clientconfig.Server{Protocol: p, Host: "mail.example.org", Port: port, Security: s}, InDomain: true, Logins: []string{"ala@example.org", "ala"}}
	}
	c := discover.Candidate{Incoming: []discover.Server{server(clientconfig.POP3, 995, clientconfig.TLS), server(clientconfig.POP3, 110, clientconfig.StartTLS)},
		Outgoing: []discover.Server{server(clientconfig.SMTP, 465, clientconfig.TLS), server(clientconfig.SMTP, 587, clientconfig.StartTLS)}}
	for _, f := range change {
		f(&c)
	}
	return c
}

// only keeps the servers under TLS from the first octet.
func only(c *discover.Candidate) { c.Incoming, c.Outgoing = c.Incoming[:1], c.Outgoing[:1] }

// TestTry logs in, and says plainly what failed. No mail is sent.
func TestTry(t *testing.T) {
	t.Parallel()
	good := discover.Credentials{Password: "secret"}
	for _, c := range []struct {
		name  string
		build func(w *world)
		cand  discover.Candidate
		cred  discover.Credentials
		want  []discover.Result
		works bool
	}{
		{"right", nil, candidate(), good, []discover.Result{discover.LoggedIn, discover.LoggedIn}, true},
		{"wrong password", nil, candidate(), discover.Credentials{Password: "wrong"}, []discover.Result{discover.WrongPassword}, false},
		{"STARTTLS where 995 is closed", func(w *world) {
			delete(w.places, "mail.example.org:995")
			w.pop("mail.example.org:110", poppeer.Config{})
		}, candidate(), good, []discover.Result{discover.Refused, discover.LoggedIn, discover.LoggedIn}, true},
		{"the local part is the name", func(w *world) {
			w.pop("mail.example.org:995", poppeer.Config{Login: "ala", Password: "secret"})
			w.smtp("mail.example.org:465", peer.Config{Login: "ala", Password: "secret"})
		}, candidate(), good, []discover.Result{discover.LoggedIn, discover.LoggedIn}, true},
		{"self-signed", func(w *world) {
			w.pop("mail.example.org:995", poppeer.Config{TLS: tlsOf(otherCA(w).Leaf("mail.example.org"))})
		}, candidate(only), good, []discover.Result{discover.CertUnknown, discover.LoggedIn}, false},
		{"expired", func(w *world) {
			w.pop("mail.example.org:995", poppeer.Config{TLS: tlsOf(w.ca.From(func(c *x509.Certificate) {
				c.DNSNames, c.NotBefore, c.NotAfter = []string{"mail.example.org"}, time.Now().Add(-50*time.Minute), time.Now().Add(-time.Minute)
			}))})
		}, candidate(only), good, []discover.Result{discover.CertExpired, discover.LoggedIn}, false},
		{"another name", func(w *world) {
			w.smtp("mail.example.org:465", peer.Config{TLS: w.secure("smtp.example.org")})
		}, candidate(only), good, []discover.Result{discover.LoggedIn, discover.CertName}, false},
		{"another name behind STARTTLS", func(w *world) {
			delete(w.places, "mail.example.org:465")
			w.smtp("mail.example.org:587", peer.Config{TLS: w.secure("smtp.example.org")})
		}, candidate(), good, []discover.Result{discover.LoggedIn, discover.Refused, discover.CertName}, false},
		{"blocked ports", func(w *world) {
			w.silent("mail.example.org:465")
			w.silent("mail.example.org:587")
		}, candidate(), good, []discover.Result{discover.LoggedIn, discover.Timeout, discover.Timeout}, false},
		{"no AUTH", func(w *world) {
			w.smtp("mail.example.org:465", peer.Config{Rules: []peer.Rule{{Stage: peer.Hello, Do: peer.Reply("250 mail.example.org")}}})
		}, candidate(only), good, []discover.Result{discover.LoggedIn, discover.NoMechanism}, false},
		{"mechanisms that nobody knows", func(w *world) {
			w.smtp("mail.example.org:465", peer.Config{Rules: []peer.Rule{{Stage: peer.Hello, Do: peer.Reply("250-mail.example.org", "250 AUTH CRAM-MD5 GSSAPI")}}})
		}, candidate(only), good, []discover.Result{discover.LoggedIn, discover.NoMechanism}, false},
		{"no login needed here", func(w *world) {
			w.smtp("mail.example.org:465", peer.Config{Rules: []peer.Rule{{Stage: peer.Hello, Do: peer.Reply("250 mail.example.org")}}})
		}, candidate(only, func(c *discover.Candidate) {
			c.Outgoing[0].Authentications = []clientconfig.Authentication{clientconfig.ClientIP}
		}), good, []discover.Result{discover.LoggedIn, discover.Open}, true},
		{"no STLS", func(w *world) {
			delete(w.places, "mail.example.org:995")
			w.pop("mail.example.org:110", poppeer.Config{Rules: []poppeer.Rule{{Stage: poppeer.Stls, Do: poppeer.Reply("-ERR unknown command")}}})
		}, candidate(), good, []discover.Result{discover.Refused, discover.NoTLS, discover.LoggedIn}, false},
		{"in use", func(w *world) {
			w.pop("mail.example.org:995", poppeer.Config{Rules: []poppeer.Rule{{Stage: poppeer.Pass, Do: poppeer.Reply("-ERR [IN-USE] busy")}}})
		}, candidate(only), good, []discover.Result{discover.InUse, discover.LoggedIn}, true},
		{"not now", func(w *world) {
			w.pop("mail.example.org:995", poppeer.Config{Rules: []poppeer.Rule{{Stage: poppeer.Pass, Do: poppeer.Reply("-ERR [SYS/TEMP] later")}}})
			w.smtp("mail.example.org:465", peer.Config{Rules: []peer.Rule{{Stage: peer.Auth, Do: peer.Reply("454 4.7.0 later")}}})
		}, candidate(only), good, []discover.Result{discover.Later, discover.Later}, false},
		{"the server hangs up", func(w *world) {
			w.pop("mail.example.org:995", poppeer.Config{Rules: []poppeer.Rule{{Stage: poppeer.Greeting, Do: poppeer.Drop()}}})
			w.smtp("mail.example.org:465", peer.Config{Rules: []peer.Rule{{Stage: peer.Greeting, Do: peer.Drop()}}})
		}, candidate(only), good, []discover.Result{discover.Lost, discover.Lost}, false},
		{"something else answers", func(w *world) {
			w.places["mail.example.org:995"], w.places["mail.example.org:465"] = w.places["mail.example.org:465"], w.places["mail.example.org:995"]
		}, candidate(only), good, []discover.Result{discover.OtherProtocol, discover.OtherProtocol}, false},
		{"a token alone is taken", nil, candidate(only, func(c *discover.Candidate) {
			c.Incoming[0].Authentications = []clientconfig.Authentication{clientconfig.OAuth2}
		}), good, []discover.Result{discover.NeedsOAuth, discover.LoggedIn}, false},
		{"a token", func(w *world) {
			w.pop("mail.example.org:995", poppeer.Config{Login: "ala@example.org", Token: "t0ken", Mechanisms: []string{"OAUTHBEARER"}})
		}, candidate(only, func(c *discover.Candidate) { c.Outgoing = nil }), discover.Credentials{Token: "t0ken"}, []discover.Result{discover.LoggedIn}, false},
		{"a name of the person's own", func(w *world) {
			w.pop("mail.example.org:995", poppeer.Config{Login: "u7", Password: "secret"})
			w.smtp("mail.example.org:465", peer.Config{Login: "u7", Password: "secret"})
		}, candidate(only), discover.Credentials{Username: "u7", Password: "secret"}, []discover.Result{discover.LoggedIn, discover.LoggedIn}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				_, out := w.servers("mail.example.org")
				if c.build != nil {
					c.build(w)
				}
				trial, err := w.finder().Try(t.Context(), c.cand, c.cred)
				if err != nil {
					t.Fatal(err)
				}
				var got []discover.Result
				for _, s := range trial.Steps {
					got = append(got, s.Result)
					t.Log(s.Text("en"))
					if strings.Contains(s.Text("pl"), "secret") {
						t.Errorf("a step has the password: %s", s.Text("pl"))
					}
				}
				if diff := cmp.Diff(c.want, got); diff != "" || trial.Works() != c.works {
					t.Errorf("works %v, %s", trial.Works(), diff)
				}
				if trial.Works() && c.cred.Username != "" && (trial.IncomingLogin != c.cred.Username || trial.OutgoingLogin != c.cred.Username) {
					t.Errorf("logins %q %q", trial.IncomingLogin, trial.OutgoingLogin)
				}
				if n := out.Seen(peer.Mail); n != 0 {
					t.Errorf("%d MAIL commands", n)
				}
			})
		})
	}
}

// TestConfirm: nothing at all goes to a host that a stranger could have named.
func TestConfirm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.dns("_pop3s._tcp.example.org. SRV 0 1 995 mail.provider.example.", "_submissions._tcp.example.org. SRV 0 1 465 mail.provider.example.")
		pop, _ := w.servers("mail.provider.example")
		f := w.finder()
		r, err := f.Find(t.Context(), person(t, "ala@example.org"))
		if err != nil || len(r.Candidates) == 0 {
			t.Fatal(err)
		}
		c := r.Candidates[0]
		if trial, err := f.Try(t.Context(), c, discover.Credentials{Password: "secret"}); !errors.Is(err, discover.ErrUnconfirmed) || trial != nil {
			t.Errorf("got %v, %v", trial, err)
		}
		if n := pop.Connections(); n != 0 {
			t.Errorf("%d connections before the person agreed", n)
		}
		c.Confirmed = true
		trial, err := f.Try(t.Context(), c, discover.Credentials{Password: "secret"})
		if err != nil || !trial.Works() {
			t.Errorf("got %+v, %v", trial, err)
		}
	})
}

// TestWrongPasswordOnce: a wrong password is tried as often as there are names, and no more.
func TestWrongPasswordOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pop, smtp := w.servers("mail.example.org")
		second := w.pop("mail.example.org:110", poppeer.Config{})
		trial, err := w.finder().Try(t.Context(), candidate(), discover.Credentials{Password: "wrong"})
		if err != nil || trial.Works() {
			t.Fatal(trial, err)
		}
		if pop.Connections() != 2 || second.Connections() != 0 || smtp.Connections() != 0 {
			t.Errorf("connections: %d, %d, %d", pop.Connections(), second.Connections(), smtp.Connections())
		}
	})
}

// TestSentences: every result has a sentence of its own in both languages.
func TestSentences(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("step.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\t(\w+) +Result += "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
		name, value := m[1], m[2]
		en := discover.Step{What: "x", Result: discover.Result(value)}.Text("en")
		pl := discover.Step{What: "x", Result: discover.Result(value)}.Text("pl-PL")
		if en == pl || seen[en] || seen[pl] {
			t.Errorf("%s: %q, %q", name, en, pl)
		}
		seen[en], seen[pl] = true, true
	}
	if len(seen) < 50 {
		t.Errorf("only %d sentences found", len(seen))
	}
	if got := (discover.Step{What: "x", Result: discover.Status, Detail: "503"}).Text(""); !strings.HasSuffix(got, " (503)") {
		t.Errorf("got %q", got)
	}
}
