package tlspolicy_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mtasts"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/tlspolicy"
)

// checkWorld has a domain for each level, with hosts named mx.LEVEL.example.
func checkWorld(t *testing.T) (*world, map[string]*tls.ConnectionState) {
	t.Helper()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{tlspolicy.Schema}); err != nil {
		t.Fatal(err)
	}
	w := open(t, d, "", func(c *tlspolicy.Config) {
		c.Overrides = map[string]tlspolicy.Override{
			"none.example": {Level: tlspolicy.None}, "encrypt.example": {Level: tlspolicy.Encrypt}, "verify.example": {Level: tlspolicy.Verify},
			"names.example": {Level: tlspolicy.Verify, Names: []string{".provider.example", "mail.example"}},
		}
	})
	names := []string{"mx.none.example", "mx.default.example", "mx.encrypt.example", "mx.verify.example", "mx.sts.example", "mx.test.example", "mx.dane.example", "mx.signed.example"}
	good := w.ca.Leaf(names...)
	sessions := map[string]*tls.ConnectionState{
		"good": state(good), "stranger": state(certtest.New(t).Leaf(names...)), "other name": state(w.ca.Leaf("mx.example")),
		"expired":  state(w.ca.From(func(c *x509.Certificate) { c.DNSNames, c.NotAfter = names, c.NotBefore.Add(time.Second) })),
		"provider": state(w.ca.Leaf("MX7.Provider.example")), "no certificate": {HandshakeComplete: true}, "plain": nil, "broken": nil,
	}
	w.dns(`
none.example. MX 5 mx.none.example.
mx.none.example. A 192.0.2.1
default.example. MX 5 mx.default.example.
mx.default.example. A 192.0.2.1
encrypt.example. MX 5 mx.encrypt.example.
mx.encrypt.example. A 192.0.2.1
verify.example. MX 5 mx.verify.example.
mx.verify.example. A 192.0.2.1
names.example. MX 5 mx.verify.example.
sts.example. MX 5 mx.sts.example.
mx.sts.example. A 192.0.2.1
_mta-sts.sts.example. TXT "v=STSv1; id=1;"
test.example. MX 5 mx.test.example.
mx.test.example. A 192.0.2.1
_mta-sts.test.example. TXT "v=STSv1; id=1;"
dane.example. MX 5 mx.dane.example.
mx.dane.example. A 192.0.2.1
_25._tcp.mx.dane.example. TLSA ` + ee(good) + `
signed.example. MX 5 mx.signed.example.
mx.signed.example. A 192.0.2.1
!secure dane.example
!secure signed.example
`)
	w.fetch.set("sts.example", policy(mtasts.Enforce, time.Hour, "mx.sts.example"))
	w.fetch.set("test.example", policy(mtasts.Testing, time.Hour, "mx.test.example"))
	return w, sessions
}

func (w *world) check(domain, session string, cs *tls.ConnectionState) tlspolicy.Verdict {
	w.t.Helper()
	var handshake error
	if session == "broken" {
		handshake = errors.New("tls: no cipher in common")
	}
	return w.require(domain).Check(cs, handshake)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w, sessions := checkWorld(t)
	for _, c := range []struct{ domain, session, want string }{
		{"none.example", "plain", "none ok "},
		{"default.example", "plain", "none ok starttls-not-supported"},
		{"default.example", "broken", "none ok validation-failure"},
		{"default.example", "good", "verify ok "},
		{"default.example", "stranger", "encrypt ok "},
		{"default.example", "expired", "encrypt ok "},
		{"encrypt.example", "plain", "none refused starttls-not-supported"},
		{"encrypt.example", "broken", "none refused validation-failure"},
		{"encrypt.example", "stranger", "encrypt ok "},
		{"encrypt.example", "no certificate", "encrypt ok "},
		{"verify.example", "good", "verify ok "},
		{"verify.example", "plain", "none refused starttls-not-supported"},
		{"verify.example", "stranger", "encrypt refused "},
		{"names.example", "good", "encrypt refused "},
		{"names.example", "provider", "verify ok "},
		{"sts.example", "good", "verify ok "},
		{"sts.example", "plain", "none refused starttls-not-supported"},
		{"sts.example", "stranger", "encrypt refused certificate-not-trusted"},
		{"sts.example", "expired", "encrypt refused certificate-expired"},
		{"sts.example", "other name", "encrypt refused certificate-host-mismatch"},
		{"sts.example", "no certificate", "encrypt refused validation-failure"},
		{"test.example", "good", "verify ok "},
		{"test.example", "plain", "none ok starttls-not-supported"},
		{"test.example", "stranger", "encrypt ok certificate-not-trusted"},
		{"dane.example", "good", "dane ok "},
		{"dane.example", "stranger", "encrypt refused validation-failure"},
		{"dane.example", "plain", "none refused starttls-not-supported"},
		{"dane.example", "no certificate", "encrypt refused validation-failure"},
	} {
		v := w.check(c.domain, c.session, sessions[c.session])
		verdict := "ok"
		if v.Err != nil {
			verdict = "refused"
		}
		if got := fmt.Sprintf("%s %s %s", v.Shown, verdict, v.Result); got != c.want {
			t.Errorf("%s, %s: got %q, want %q (%v; %s)", c.domain, c.session, got, c.want, v.Err, v.Detail)
		}
	}
}

func TestPermit(t *testing.T) {
	t.Parallel()
	w, sessions := checkWorld(t)
	require, optional := tlspolicy.Demand{RequireTLS: true, Offered: true}, tlspolicy.Demand{TLSOptional: true}
	for _, c := range []struct {
		name, domain, session string
		demand                tlspolicy.Demand
		want                  string
	}{
		{"policy met", "sts.example", "good", tlspolicy.Demand{}, "yes"},
		{"no TLS", "sts.example", "plain", tlspolicy.Demand{}, "451 4.7.10"},
		{"wrong certificate", "sts.example", "stranger", tlspolicy.Demand{}, "451 4.7.5"},
		{"TLS-Required: No without TLS", "sts.example", "plain", optional, "yes"},
		{"TLS-Required: No with any certificate", "dane.example", "stranger", optional, "yes"},
		{"REQUIRETLS by MTA-STS", "sts.example", "good", require, "yes"},
		{"REQUIRETLS by MTA-STS in mode testing", "test.example", "good", require, "yes"},
		{"REQUIRETLS by DANE", "dane.example", "good", require, "yes"},
		{"REQUIRETLS by a signed MX record", "signed.example", "good", require, "yes"},
		{"REQUIRETLS by configured names", "names.example", "provider", require, "yes"},
		{"REQUIRETLS, an MX record that anyone may forge", "default.example", "good", require, "550 5.7.10"},
		{"REQUIRETLS, not offered", "sts.example", "good", tlspolicy.Demand{RequireTLS: true}, "550 5.7.30"},
		{"REQUIRETLS without TLS", "sts.example", "plain", require, "550 5.7.10"},
		{"REQUIRETLS, wrong certificate, no policy", "signed.example", "stranger", require, "550 5.7.10"},
		{"REQUIRETLS, wrong certificate, policy", "sts.example", "stranger", require, "451 4.7.5"},
		{"REQUIRETLS goes before TLS-Required: No", "default.example", "plain", tlspolicy.Demand{RequireTLS: true, TLSOptional: true}, "550 5.7.10"},
		{"a report about REQUIRETLS", "default.example", "plain", tlspolicy.Demand{RequireTLS: true, NullSender: true}, "yes"},
		{"a report is held to the policy", "sts.example", "plain", tlspolicy.Demand{RequireTLS: true, NullSender: true}, "451 4.7.10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := w.check(c.domain, c.session, sessions[c.session]).Permit(c.demand)
			got := "yes"
			if e, ok := errors.AsType[*smtp.Error](err); ok {
				got = fmt.Sprintf("%d %d.%d.%d", e.Reply.Code, e.Reply.Code/100, e.Reply.Subject, e.Reply.Detail)
			} else if err != nil {
				t.Errorf("got %T", err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestOptionalDespiteLeftOut: a host that is left out takes mail with TLS-Required: No.
func TestOptionalDespiteLeftOut(t *testing.T) {
	t.Parallel()
	w, sessions := checkWorld(t)
	w.fetch.set("sts.example", policy(mtasts.Enforce, time.Hour, "elsewhere.example"))
	p, route := w.plan("sts.example")
	_, err := p.Host(t.Context(), route.Hosts[0])
	left, ok := errors.AsType[*tlspolicy.HostError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	v := left.Requirement().Check(sessions["stranger"], nil)
	if v.Err != nil || left.Requirement().Needed() {
		t.Errorf("got %+v", v)
	}
	// The session stays open for the next message, which did not say so.
	for _, d := range []tlspolicy.Demand{{}, {NullSender: true}, {RequireTLS: true, Offered: true}, {RequireTLS: true, TLSOptional: true, NullSender: true}} {
		if v.Permit(d) == nil {
			t.Errorf("a host that is left out takes a message with %+v", d)
		}
	}
	if err := v.Permit(tlspolicy.Demand{TLSOptional: true}); err != nil {
		t.Error(err)
	}
}

// TestOldTLS: a session that was opened where nothing is demanded is too old for a
// domain that demands something.
func TestOldTLS(t *testing.T) {
	t.Parallel()
	w, sessions := checkWorld(t)
	old := *sessions["good"]
	old.Version = tls.VersionTLS10
	for domain, want := range map[string]bool{"sts.example": false, "encrypt.example": false, "default.example": true} {
		if v := w.check(domain, "good", &old); (v.Permit(tlspolicy.Demand{}) == nil) != want {
			t.Errorf("%s: %v", domain, v.Err)
		}
	}
}

// TestHandshake makes a true handshake: nothing is verified in it, the server gets
// the name, and Check has the chain.
func TestHandshake(t *testing.T) {
	t.Parallel()
	w, _ := checkWorld(t)
	stranger := certtest.New(t).Leaf("elsewhere.example")
	w.dns("dane.example. MX 5 mx.dane.example.\nmx.dane.example. A 192.0.2.1\n_25._tcp.mx.dane.example. TLSA " + ee(stranger) + "\n!secure dane.example\n")
	r := w.require("dane.example")
	here, there := net.Pipe()
	var asked string
	server := tls.Server(there, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		asked = h.ServerName
		return &stranger, nil
	}})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	client := tls.Client(here, r.TLS(nil))
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	cs := client.ConnectionState()
	if v := r.Check(&cs, nil); v.Err != nil || v.Shown != tlspolicy.DANE || asked != "mx.dane.example" {
		t.Errorf("got %+v, SNI %q", v, asked)
	}
	base := &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}}
	if c := r.TLS(base); c.MinVersion != tls.VersionTLS12 || len(c.CurvePreferences) != 1 || base.InsecureSkipVerify {
		t.Errorf("got %+v", c)
	}
}

// TestLevels asks what a requirement means before there is a session.
func TestLevels(t *testing.T) {
	t.Parallel()
	w, _ := checkWorld(t)
	for name, want := range map[string]string{
		"none.example": "offered=false needed=false min=301", "default.example": "offered=true needed=false min=301", "test.example": "offered=true needed=false min=301",
		"encrypt.example": "offered=true needed=true min=303", "sts.example": "offered=true needed=true min=303", "dane.example": "offered=true needed=true min=303",
	} {
		r := w.require(name)
		if got := fmt.Sprintf("offered=%v needed=%v min=%x", r.Offered(), r.Needed(), r.TLS(nil).MinVersion); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// TestFixed has a smart host, by name and by address.
func TestFixed(t *testing.T) {
	t.Parallel()
	w, sessions := checkWorld(t)
	r := w.store.Fixed(domain(t, "mx.verify.example"), tlspolicy.Verify)
	for session, want := range map[string]bool{"good": true, "stranger": false, "other name": false, "plain": false} {
		v := r.Check(sessions[session], nil)
		if (v.Err == nil) != want || v.Downgrade {
			t.Errorf("%s: got %+v", session, v)
		}
		w.store.Note(t.Context(), tlspolicy.Result{Verdict: v})
	}
	if err := w.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := w.store.Unreported(t.Context(), tlspolicy.Day(w.clock()), "", 10); err != nil || len(left) != 0 {
		t.Errorf("a smart host is in a report: %v, %v", left, err)
	}
	byAddr := w.store.Fixed(domain(t, "[192.0.2.1]"), tlspolicy.Verify)
	if v := byAddr.Check(state(w.ca.From(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} })), nil); v.Err != nil || byAddr.ServerName != "" {
		t.Errorf("got %+v", v)
	}
	if v := w.store.Fixed(domain(t, "mx.example"), tlspolicy.Encrypt).Check(sessions["stranger"], nil); v.Err != nil {
		t.Errorf("got %+v", v)
	}
}

// TestWords has who demanded what in the words for operators.
func TestWords(t *testing.T) {
	t.Parallel()
	w, sessions := checkWorld(t)
	for _, c := range []struct{ domain, session, refusal, words string }{
		{"sts.example", "stranger", "what MTA-STS demands", "encrypt"},
		{"sts.example", "good", "", "verify (mta-sts)"},
		{"dane.example", "plain", "encryption that DANE demands", "none"},
		{"dane.example", "good", "", "dane"},
		{"verify.example", "stranger", "what our configuration demands", "encrypt"},
		{"verify.example", "good", "", "verify"},
	} {
		v := w.check(c.domain, c.session, sessions[c.session])
		got := ""
		if err := v.Permit(tlspolicy.Demand{}); err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.refusal) || (got == "") != (c.refusal == "") || v.Words() != c.words {
			t.Errorf("%s, %s: got %q and %q, want %q and %q", c.domain, c.session, got, v.Words(), c.refusal, c.words)
		}
	}
}
