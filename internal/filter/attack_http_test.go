package filter_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/hook"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/rspamd"
	"poczta.example/poczta/internal/trace"
	"poczta.example/poczta/internal/verdict"
)

// TestHTTPFaults: Rspamd and a hook that misbehave get what Down says, in bounded time.
func TestHTTPFaults(t *testing.T) {
	t.Parallel()
	says := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, text)
		}
	}
	faults := map[string]http.HandlerFunc{
		"silent": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // a server hears of a client that goes only then
			<-r.Context().Done()
		},
		"endless":  func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, neverEnding{}) },
		"an error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
		"no JSON":      says("fine\x1b[2J"),
		"no number":    says(`{"score": 1e999, "action": "no action"}`),
		"a field more": says(`{"action": "deliver", "score": "x", "add_headers": [{"name": "X-Y", "value": "a\r\nBcc: evil@far.test"}]}`),
		"JSON in JSON": says(strings.Repeat("[", 1_000_000)),
	}
	for name, fault := range faults {
		for then, want := range map[verdict.Action]int{verdict.Deliver: 0, verdict.Defer: 451, verdict.Quarantine: 0} {
			t.Run(name+", "+then.String(), func(t *testing.T) {
				t.Parallel()
				server := httptest.NewServer(fault)
				t.Cleanup(server.Close)
				use := filter.Use{Incoming: true, Down: then, Large: then}
				check := func(t *testing.T, with func(*filter.Config)) {
					once(t, func(d db.Database) {
						h := newHouse(t, d, with)
						got, err := h.receive("192.0.2.1", "jan@good.test", letter("jan@good.test", "Dear Ala"), ala)
						if code(err) != want || err == nil && ((got.Locals[0].State == trace.Quarantined) != (then == verdict.Quarantine) || strings.Contains(got.Text, "evil")) {
							t.Errorf("got %v %+v, want %d", err, got, want)
						}
					})
				}
				t.Run("rspamd", func(t *testing.T) {
					check(t, func(c *filter.Config) {
						client := must[*rspamd.Client](t)(rspamd.New(rspamd.Config{URL: server.URL, Timeout: time.Second}))
						c.Rspamd = &filter.Rspamd{Client: client, Use: use}
					})
				})
				t.Run("hook", func(t *testing.T) {
					check(t, func(c *filter.Config) {
						client := must[*hook.Client](t)(hook.New(hook.Config{Name: "fake", URL: server.URL, Timeout: time.Second}))
						c.Hook = &filter.Hook{Client: client, Use: use}
					})
				})
			})
		}
	}
}

// TestLMTPFates: with LMTP each recipient has one fate and one reply, whoever else is written to.
func TestLMTPFates(t *testing.T) {
	t.Parallel()
	once(t, func(d db.Database) {
		refuses := libmilter(func(path string) string {
			if strings.Contains(path, "ala@") {
				return "r"
			}
			return "c"
		}, "+<abuse@example.org>\x00")
		h := newHouse(t, d, withMilter(t, verdict.Defer, refuses))
		env := envelope.Envelope{ReversePath: intaketest.From(t, "jan@good.test"), Origin: envelope.Origin{Peer: netip.MustParseAddrPort("127.0.0.1:9"), Helo: "here", Protocol: "LMTP"}}
		tx := must[*intake.Transaction](t)(h.in.Begin(env, intake.Rules{Inspect: h.filter.Inspect}))
		for _, p := range []string{"ola@example.org", ala, "ola@example.org"} {
			if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, p)}); err != nil {
				t.Fatal(err)
			}
		}
		o, err := tx.Data(t.Context(), strings.NewReader(letter("jan@good.test", "Dear Ala")))
		if err != nil || len(o.Recipients) != 3 || o.Recipients[0].Code != 250 || o.Recipients[1].Code != 550 || o.Recipients[2].Code != 250 {
			t.Fatalf("got %v %+v, want 250, 550, 250", err, o.Recipients)
		}
		got := h.accepter.Accepted()[0]
		if len(got.Locals) != 3 || got.Locals[0].State != 0 || got.Locals[1].State != trace.Discarded || got.Locals[2].State != 0 || h.accepter.Leaked() != 0 {
			t.Errorf("accepted %+v", got)
		}
	})
}
