package discover_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/discover"
)

// settings is clientConfig for a host.
func settings(host string) string {
	return fmt.Sprintf(`<clientConfig version="1.1"><emailProvider id="x"><displayName>Provider</displayName>
<incomingServer type="imap"><hostname>%[1]s</hostname><port>993</port><socketType>SSL</socketType><username>%%EMAILADDRESS%%</username><authentication>password-cleartext</authentication></incomingServer>
<incomingServer type="pop3"><hostname>%[1]s</hostname><port>995</port><socketType>SSL</socketType><username>%%EMAILADDRESS%%</username><authentication>password-cleartext</authentication></incomingServer>
<outgoingServer type="smtp"><hostname>%[1]s</hostname><port>465</port><socketType>SSL</socketType><username>%%EMAILADDRESS%%</username><authentication>password-cleartext</authentication></outgoingServer>
</emailProvider></clientConfig>`, host)
}

// outlook is an answer of autodiscovery.
func outlook(inside string) string {
	return `<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"><Response xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"><Account>` + inside + `</Account></Response></Autodiscover>`
}

func protocols(host, login string) string {
	return outlook(fmt.Sprintf(`<Action>settings</Action><Protocol><Type>POP3</Type><Server>%[1]s</Server><Port>995</Port><SSL>on</SSL><LoginName>%[2]s</LoginName></Protocol>
<Protocol><Type>SMTP</Type><Server>%[1]s</Server><Port>465</Port><SSL>on</SSL><LoginName>%[2]s</LoginName></Protocol>`, host, login))
}

const srvLines = "_pop3s._tcp.example.org. SRV 0 1 995 %[1]s.\n_submissions._tcp.example.org. SRV 0 1 465 %[1]s."

// TestSources finds the servers by each way, and says how far each is to be trusted.
func TestSources(t *testing.T) {
	t.Parallel()
	const ours, theirs = "mail.example.org", "mail.provider.example"
	for _, c := range []struct {
		name    string
		build   func(w *world)
		source  discover.Source
		host    string
		trust   discover.Trust
		confirm bool
	}{
		{"SRV in the domain", func(w *world) { w.dns(fmt.Sprintf(srvLines, ours)) }, discover.SRV, ours, discover.Unproven, false},
		{"SRV elsewhere", func(w *world) { w.dns(fmt.Sprintf(srvLines, theirs)) }, discover.SRV, theirs, discover.Unproven, true},
		{"SRV to a name that ends alike", func(w *world) {
			w.servers("notexample.org")
			w.dns(fmt.Sprintf(srvLines, "notexample.org"))
		}, discover.SRV, "notexample.org", discover.Unproven, true},
		{"SRV elsewhere under DNSSEC", func(w *world) { w.dns(fmt.Sprintf(srvLines, theirs), "!secure example.org") }, discover.SRV, theirs, discover.DNSSEC, false},
		{"autoconfig", func(w *world) { w.web("autoconfig.example.org", text(200, settings(theirs))) }, discover.Autoconfig, theirs, discover.HTTPS, false},
		{"autoconfig that wants the address", func(w *world) {
			w.web("autoconfig.example.org", func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("emailaddress") != "ala@example.org" {
					http.Error(rw, "who?", http.StatusBadRequest)
					return
				}
				text(200, settings(theirs))(rw, r)
			})
		}, discover.Autoconfig, theirs, discover.HTTPS, false},
		{"autoconfig that leads elsewhere", func(w *world) {
			w.web("autoconfig.example.org", to("https://config.provider.example/x"))
			w.web("config.provider.example", text(200, settings(theirs)))
		}, discover.Autoconfig, theirs, discover.HTTPS, false},
		{"well-known", func(w *world) { w.web("example.org", wellKnown(settings(theirs))) }, discover.WellKnown, theirs, discover.HTTPS, false},
		{"autodiscover", func(w *world) {
			w.web("autodiscover.example.org", text(200, protocols(theirs, "ala@example.org")))
		}, discover.Autodiscover, theirs, discover.HTTPS, false},
		{"autodiscover that leads to a URL", func(w *world) {
			w.web("autodiscover.example.org", text(200, outlook("<Action>redirectUrl</Action><RedirectUrl>https://ad.provider.example/AD</RedirectUrl>")))
			w.web("ad.provider.example", text(200, protocols(theirs, "ala@example.org")))
		}, discover.Autodiscover, theirs, discover.HTTPS, false},
		{"autodiscover at the domain", func(w *world) {
			w.web("example.org", func(rw http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost || !strings.EqualFold(r.URL.Path, clientconfig.PathAutodiscover) {
					http.NotFound(rw, r)
					return
				}
				text(200, protocols(theirs, "ala"))(rw, r)
			})
		}, discover.Autodiscover, theirs, discover.HTTPS, false},
		{"autodiscover by SRV", func(w *world) {
			w.dns("_autodiscover._tcp.example.org. SRV 0 0 443 ad.provider.example.")
			w.web("ad.provider.example", text(200, protocols(theirs, "postmaster@example.org")))
		}, discover.AutodiscoverSRV, theirs, discover.Unproven, true},
		{"autodiscover by SRV under DNSSEC", func(w *world) {
			w.dns("_autodiscover._tcp.example.org. SRV 0 0 443 ad.provider.example.", "!secure example.org")
			w.web("ad.provider.example", text(200, protocols(theirs, "ala@example.org")))
		}, discover.AutodiscoverSRV, theirs, discover.HTTPS, false},
		{"settings of the MX host's domain", func(w *world) {
			w.dns("example.org. MX 10 mx1.provider.example.")
			w.web("autoconfig.provider.example", text(200, settings(theirs)))
		}, discover.Exchanger, theirs, discover.Unproven, true},
		{"settings of the MX host's domain under DNSSEC", func(w *world) {
			w.dns("example.org. MX 10 mx1.provider.example.", "!secure example.org")
			w.web("provider.example", wellKnown(settings(theirs)))
		}, discover.Exchanger, theirs, discover.DNSSEC, false},
		{"guess", func(*world) {}, discover.Guess, ours, discover.Unproven, false},
		{"guess the MX host", func(w *world) {
			w.dns("example.org. MX 10 mx.provider.example.")
			delete(w.places, ours+":995")
			delete(w.places, ours+":465")
			w.servers("mx.provider.example")
		}, discover.Guess, "mx.provider.example", discover.Unproven, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.servers(ours)
				w.servers(theirs)
				c.build(w)
				r := w.find()
				if len(r.Candidates) == 0 || !r.Candidates[0].Complete() {
					t.Fatalf("nothing found:\n%s", tell(r))
				}
				got := r.Candidates[0]
				if got.Source != c.source || got.Incoming[0].Host != c.host || got.Outgoing[0].Host != c.host || got.Incoming[0].Trust != c.trust || got.NeedsConfirmation() != c.confirm {
					t.Errorf("got %+v\n%s", got, tell(r))
				}
				if got.Incoming[0].Logins[0] != "ala@example.org" && got.Incoming[0].Logins[0] != "ala" {
					t.Errorf("login %q", got.Incoming[0].Logins)
				}
				if c.confirm {
					if diff := cmp.Diff([]string{c.host}, got.Doubtful()); diff != "" {
						t.Error(diff)
					}
				}
			})
		})
	}
}

// wellKnown serves settings at the well-known path alone.
func wellKnown(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != clientconfig.PathWellKnown {
			http.NotFound(w, r)
			return
		}
		text(200, body)(w, r)
	}
}

// TestHostile has web servers that want to cost much, to be asked for ever, or to lead
// to where nothing is proven.
func TestHostile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		build func(w *world)
		want  discover.Result
	}{
		{"leads to itself", func(w *world) { w.web("autoconfig.example.org", to("https://autoconfig.example.org/again")) }, discover.RedirectLoop},
		{"leads to plain HTTP", func(w *world) {
			w.web("autoconfig.example.org", to("http://autoconfig.example.org/mail/config-v1.1.xml"))
		}, discover.PlainRedirect},
		{"leads to a file", func(w *world) { w.web("autoconfig.example.org", to("file:///etc/passwd")) }, discover.PlainRedirect},
		{"leads to a name and password", func(w *world) { w.web("autoconfig.example.org", to("https://a:b@autoconfig.example.org/")) }, discover.PlainRedirect},
		{"never ends", func(w *world) {
			w.web("autoconfig.example.org", func(rw http.ResponseWriter, r *http.Request) {
				for block := []byte(strings.Repeat("<a>", 10_000)); r.Context().Err() == nil; {
					if _, err := rw.Write(block); err != nil {
						return
					}
				}
			})
		}, discover.TooLarge},
		{"comes octet by octet", func(w *world) {
			w.web("autoconfig.example.org", func(rw http.ResponseWriter, r *http.Request) {
				tick := time.NewTicker(time.Second)
				defer tick.Stop()
				for r.Context().Err() == nil {
					_, _ = rw.Write([]byte(" "))
					_ = http.NewResponseController(rw).Flush()
					select {
					case <-tick.C:
					case <-r.Context().Done():
					}
				}
			})
		}, discover.Timeout},
		{"says nothing", func(w *world) { w.host("autoconfig.example.org"); w.silent("autoconfig.example.org:443") }, discover.Timeout},
		{"entities", func(w *world) {
			w.web("autoconfig.example.org", text(200, `<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><clientConfig><emailProvider id="&b;"/></clientConfig>`))
		}, discover.Malformed},
		{"a page", func(w *world) {
			w.web("autoconfig.example.org", text(200, "<html><body><p>Welcome</body></html>"))
		}, discover.Malformed},
		{"huge header", func(w *world) {
			w.web("autoconfig.example.org", func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("X", strings.Repeat("x", 200_000))
			})
		}, discover.Unreachable},
		{"self-signed", func(w *world) {
			w.web("autoconfig.example.org", text(200, settings("mail.example.org")), otherCA(w).Leaf("autoconfig.example.org"))
		}, discover.CertUnknown},
		{"another's certificate", func(w *world) {
			w.web("autoconfig.example.org", text(200, settings("mail.example.org")), w.ca.Leaf("www.example.org"))
		}, discover.CertName},
		{"asks for a password", func(w *world) { w.web("autoconfig.example.org", text(401, "")) }, discover.AsksPassword},
		{"a fault", func(w *world) { w.web("autoconfig.example.org", text(500, "")) }, discover.Status},
		{"IMAP alone", func(w *world) {
			one, _, _ := strings.Cut(settings("mail.example.org"), `<incomingServer type="pop3">`)
			w.web("autoconfig.example.org", text(200, one+"</emailProvider></clientConfig>"))
		}, discover.OnlyIMAP},
		{"no name server answers", func(w *world) { w.dns("!servfail autoconfig.example.org") }, discover.NoDNS},
		{"nothing there", func(*world) {}, discover.Absent},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c.build(w)
				start := time.Now()
				r := w.find()
				if took := time.Since(start); took > discover.DefaultTotal {
					t.Errorf("it took %s", took)
				}
				if diff := cmp.Diff([]discover.Result{c.want}, results(r, discover.Autoconfig)); diff != "" {
					t.Errorf("%s\n%s", diff, tell(r))
				}
				if len(r.Candidates) > 0 {
					t.Errorf("found %+v", r.Candidates)
				}
				if n := len(w.asked); n > 20 { // six each: without the address, and with it
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}

// TestLoops has autodiscovery that leads on and on, by every way that it has.
func TestLoops(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		want       discover.Result
	}{
		{"addresses", outlook("<Action>redirectAddr</Action><RedirectAddr>ala@example.org</RedirectAddr>"), discover.RedirectLoop},
		{"URLs", outlook("<Action>redirectUrl</Action><RedirectUrl>https://autodiscover.example.org/x</RedirectUrl>"), discover.RedirectLoop},
		{"plain HTTP", outlook("<Action>redirectUrl</Action><RedirectUrl>http://autodiscover.example.org/x</RedirectUrl>"), discover.PlainRedirect},
		{"no address", outlook("<Action>redirectAddr</Action><RedirectAddr>nobody</RedirectAddr>"), discover.Turned},
		{"an error", string(clientconfig.Refuse(500, "no such address")), discover.Turned},
		{"Exchange alone", outlook("<Action>settings</Action><Protocol><Type>EXCH</Type><Server>x.example</Server></Protocol>"), discover.NoServer},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.web("autodiscover.example.org", text(200, c.body))
				r := w.find()
				if got := results(r, discover.Autodiscover); len(got) == 0 || got[0] != c.want {
					t.Errorf("got %q\n%s", got, tell(r))
				}
				if n := len(w.asked); n > 8 {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}

// TestPrivacy: who doesn't need the local part doesn't get it, and nobody outside the
// domain does unless the domain leads there.
func TestPrivacy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.dns("example.org. MX 10 mx1.provider.example.", "_autodiscover._tcp.example.org. SRV 0 0 443 ad.stranger.example.")
		for _, h := range []string{"example.org", "autoconfig.provider.example", "provider.example", "ad.stranger.example"} {
			w.web(h, text(404, ""))
		}
		w.web("autoconfig.example.org", text(200, settings("mail.example.org")))
		r := w.find()
		if len(w.asked) < 6 {
			t.Errorf("only %q asked\n%s", w.asked, tell(r))
		}
		for _, a := range w.asked {
			if strings.Contains(a, "ala") && !strings.HasPrefix(a, "POST https://example.org/") {
				t.Errorf("the local part went out: %s", a)
			}
		}
		for _, s := range r.Steps {
			if strings.Contains(s.Text("en"), "ala@") {
				t.Errorf("the report has the local part: %s", s.Text("en"))
			}
		}
	})
}

// TestSRVOrder reads priorities, weights and services that are said not to be there.
func TestSRVOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.dns("_pop3s._tcp.example.org. SRV 20 1 995 c.example.org.", "_pop3s._tcp.example.org. SRV 10 1 995 b.example.org.", "_pop3s._tcp.example.org. SRV 10 9 1995 a.example.org.",
			"_pop3._tcp.example.org. SRV 0 0 110 d.example.org.", "_submissions._tcp.example.org. SRV 0 0 0 .", "_submission._tcp.example.org. SRV 0 0 587 s.example.org.", "_imaps._tcp.example.org. SRV 0 0 993 i.example.org.")
		r := w.find()
		var got []string
		for _, s := range append(r.Candidates[0].Incoming, r.Candidates[0].Outgoing...) {
			got = append(got, fmt.Sprintf("%s:%d %s", s.Host, s.Port, s.Security))
		}
		if diff := cmp.Diff([]string{"a.example.org:1995 SSL", "b.example.org:995 SSL", "c.example.org:995 SSL", "d.example.org:110 STARTTLS", "s.example.org:587 STARTTLS"}, got); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]discover.Result{discover.Found, discover.Found, discover.Declined, discover.Found}, results(r, discover.SRV)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"ala@example.org", "ala"}, r.Candidates[0].Incoming[0].Logins); diff != "" { // RFC 6186 §4
			t.Error(diff)
		}
	})
}

// TestGuess: TLS from the first octet, else STARTTLS; a certificate for another name, a
// web server and an MX host without AUTH don't count.
func TestGuess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, h := range []string{"pop.example.org", "pop3.example.org", "smtp.example.org", "mail.example.org", "mx.example.org"} {
			w.host(h)
		}
		w.dns("example.org. MX 10 mx.example.org.")
		w.pop("pop.example.org:995", poppeer.Config{TLS: w.secure("other.example.org")})
		w.pop("pop3.example.org:110", poppeer.Config{})
		w.pop("mail.example.org:110", poppeer.Config{Capabilities: []string{"USER"}, Rules: []poppeer.Rule{{Stage: poppeer.Stls, Do: poppeer.Reply("-ERR no")}}})
		w.smtp("smtp.example.org:587", peer.Config{})
		w.smtp("mail.example.org:465", peer.Config{Rules: []peer.Rule{{Stage: peer.Hello, Do: peer.Reply("250 mail.example.org")}}})
		w.silent("mx.example.org:995")
		start := time.Now()
		r := w.find()
		if took := time.Since(start); took > discover.DefaultTotal {
			t.Errorf("it took %s", took)
		}
		if len(r.Candidates) != 1 || len(r.Candidates[0].Incoming) != 1 || len(r.Candidates[0].Outgoing) != 1 {
			t.Fatal(tell(r))
		}
		in, out := r.Candidates[0].Incoming[0], r.Candidates[0].Outgoing[0]
		if in.Host != "pop3.example.org" || in.Port != 110 || out.Host != "smtp.example.org" || out.Port != 587 || in.Security != clientconfig.StartTLS {
			t.Errorf("got %+v %+v\n%s", in, out, tell(r))
		}
		told := tell(r)
		for _, want := range []string{"POP3 pop.example.org:995: the certificate is for another name", "SMTP mail.example.org:465: the server offers no way to log in",
			"POP3 mail.example.org:110: the server does not encrypt", "POP3 mx.example.org:995: no answer", "SMTP mx.example.org:465: nobody listens"} {
			if !strings.Contains(told, want) {
				t.Errorf("no %q in\n%s", want, told)
			}
		}
	})
}

// TestJoin makes one candidate of two sources with one direction each.
func TestJoin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host("smtp.example.org")
		w.dns("_pop3s._tcp.example.org. SRV 0 0 995 pop.elsewhere.example.")
		w.smtp("smtp.example.org:465", peer.Config{})
		r := w.find()
		if len(r.Candidates) == 0 || !r.Candidates[0].Complete() {
			t.Fatal(tell(r))
		}
		c := r.Candidates[0]
		if c.Incoming[0].Source != discover.SRV || c.Outgoing[0].Source != discover.Guess || !c.NeedsConfirmation() || len(c.Doubtful()) != 1 {
			t.Errorf("got %+v", c)
		}
	})
}

// TestNoDomain: what has no domain name can't be looked for.
func TestNoDomain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, a := range []string{"ala@[192.0.2.1]"} {
		if _, err := w.finder().Find(t.Context(), person(t, a)); err == nil || !strings.Contains(err.Error(), "by hand") {
			t.Errorf("got %v", err)
		}
		if _, err := w.finder().Guess(t.Context(), person(t, a)); err == nil {
			t.Error("guessed")
		}
	}
}

// TestSettle: who has an answer does not wait long for servers that say nothing, and
// servers that say nothing leave time for guesses.
func TestSettle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		build  func(w *world)
		source discover.Source
		within time.Duration
	}{
		{"answered", func(w *world) { w.web("autoconfig.example.org", text(200, settings("mail.example.org"))) }, discover.Autoconfig, 4 * time.Second},
		{"answered, to be confirmed", func(w *world) { w.dns(fmt.Sprintf(srvLines, "mail.provider.example")) }, discover.SRV, discover.DefaultTotal / 2},
		{"guessed", func(*world) {}, discover.Guess, discover.DefaultTotal},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.servers("mail.example.org")
				w.dns("example.org. MX 10 a.b.provider.example.", "example.org. MX 20 c.d.another.example.", "!timeout _imaps._tcp.example.org")
				for _, h := range []string{"example.org", "autodiscover.example.org", "autoconfig.b.provider.example", "b.provider.example", "autoconfig.provider.example", "provider.example", "autoconfig.another.example"} {
					w.host(h)
					w.silent(h + ":443")
				}
				c.build(w)
				start := time.Now()
				r := w.find()
				if took := time.Since(start); took > c.within {
					t.Errorf("it took %s", took)
				}
				if len(r.Candidates) == 0 || r.Candidates[0].Source != c.source || !r.Candidates[0].Complete() {
					t.Error(tell(r))
				}
				if got := results(r, discover.WellKnown); len(got) != 1 || got[0] != discover.Timeout && got[0] != discover.Late {
					t.Errorf("got %q", got)
				}
			})
		})
	}
}

// TestStopped: the person stops it.
func TestStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host("autoconfig.example.org")
		w.silent("autoconfig.example.org:443")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := w.finder().Find(ctx, person(t, "ala@example.org")); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
	})
}

// TestTexts: what people read.
func TestTexts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.dns(fmt.Sprintf(srvLines, "mail.provider.example"))
		r := w.find()
		for language, want := range map[string][]string{
			"en": {"_pop3._tcp.example.org: there is nothing\n", "  POP3 mail.provider.example:995, TLS, found in DNS without proof (_pop3s._tcp.example.org)\n"},
			"pl": {"_pop3._tcp.example.org: nic tam nie ma\n", "  SMTP mail.provider.example:465, TLS, znaleziony w DNS bez potwierdzenia (_submissions._tcp.example.org)\n"},
		} {
			for _, line := range want {
				if got := r.Text(language); !strings.Contains(got, line) {
					t.Errorf("no %q in\n%s", line, got)
				}
			}
		}
		c, ala := r.Candidates[0], r.Address
		if got := c.Question(ala, "en"); got != "Servers outside the domain example.org: mail.provider.example. Nothing proves that the domain's owner named them. Send name and password there?" {
			t.Error(got)
		}
		if got := c.Question(ala, "pl"); !strings.HasSuffix(got, "Czy wysłać tam nazwę i hasło?") {
			t.Error(got)
		}
		byHand, err := clientconfig.Parse([]byte(strings.ReplaceAll(settings("mail.provider.example"), "<port>995</port><socketType>SSL", "<port>110</port><socketType>plain")))
		if err != nil {
			t.Fatal(err)
		}
		c = discover.ByHand(ala, byHand)
		if c.NeedsConfirmation() || c.Question(ala, "en") != "" || len(c.Incoming) != 1 || !c.Incoming[0].Raised || c.Incoming[0].Security != clientconfig.StartTLS {
			t.Errorf("by hand: %+v", c)
		}
		if got := c.Incoming[0].Text("en"); !strings.Contains(got, "it is demanded all the same), given by you") {
			t.Error(got)
		}
		if empty := (&discover.Report{}); !strings.Contains(empty.Text("en"), "give them by hand") || !strings.Contains(empty.Text("pl"), "podaj je ręcznie") {
			t.Error(empty.Text("pl"))
		}
		cred := discover.Credentials{Username: "ala", Password: "secret", Token: "t0ken"}
		if got := fmt.Sprintf("%v %+v %#v", cred, cred, cred); strings.Contains(got, "secret") || strings.Contains(got, "t0ken") {
			t.Error(got)
		}
	})
}
