package relay_test

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/relay"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/smtpclient"
	"poczta.example/poczta/internal/tlspolicy"
	"poczta.example/poczta/internal/trace"
)

// TestTLS has hosts with and without TLS and mail that demands it, or not.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert, roots := peer.Certificate(t, "mx.them.example")
	server := &tls.Config{Certificates: []tls.Certificate{cert}}
	broken := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{0x1234}}
	tests := []struct {
		name     string
		tls      *tls.Config
		ext      []string
		override tlspolicy.Level // 0: none
		trusted  bool            // the certificate's issuer
		change   func(d *post.Delivery)
		secure   bool // DNSSEC vouches for the MX answer
		want     string
		plain    bool // the message came without TLS
	}{
		{name: "opportunistic", tls: server, want: "relayed mx.them.example [192.0.2.1] (TLS 1.3 TLS_"},
		{name: "opportunistic without", want: "relayed mx.them.example [192.0.2.1]: 250", plain: true},
		{name: "handshake fails", tls: broken, want: "relayed mx.them.example [192.0.2.1]: 250", plain: true},
		{name: "encrypt without", override: tlspolicy.Encrypt, want: "deferred 451 4.7.10"},
		{name: "encrypt, handshake fails", tls: broken, override: tlspolicy.Encrypt, want: "deferred 451 4.7.5"},
		{name: "verify, unknown issuer", tls: server, override: tlspolicy.Verify, want: "deferred 451 4.7.5"},
		{name: "verify", tls: server, override: tlspolicy.Verify, trusted: true, want: "relayed mx.them.example [192.0.2.1] (TLS 1.3"},
		{name: "TLS-Required: No", tls: server, override: tlspolicy.Verify, change: func(d *post.Delivery) { d.TLSOptional = true }, want: "relayed mx.them.example [192.0.2.1] (TLS 1.3"},
		{name: "TLS-Required: No, handshake fails", tls: broken, override: tlspolicy.Verify, change: func(d *post.Delivery) { d.TLSOptional = true }, want: "relayed", plain: true},
		{name: "REQUIRETLS", tls: server, trusted: true, secure: true, ext: []string{"REQUIRETLS", "8BITMIME"}, change: func(d *post.Delivery) { d.Envelope.RequireTLS = true }, want: "relayed mx.them.example [192.0.2.1] (TLS 1.3"},
		{name: "REQUIRETLS not offered", tls: server, trusted: true, secure: true, change: func(d *post.Delivery) { d.Envelope.RequireTLS = true }, want: "bounced 550 5.7.30"},
		{name: "REQUIRETLS without DNSSEC", tls: server, trusted: true, ext: []string{"REQUIRETLS"}, change: func(d *post.Delivery) { d.Envelope.RequireTLS = true }, want: "bounced 550 5.7.10"},
		{name: "REQUIRETLS without TLS", secure: true, change: func(d *post.Delivery) { d.Envelope.RequireTLS = true }, want: "bounced 550 5.7.10"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sqlite(t)
			s := newStreet(t, d)
			s.names.secure = tt.secure
			zone, err := resolver.NewZone("")
			if err != nil {
				t.Fatal(err)
			}
			cfg := tlspolicy.Config{DB: d, Resolver: zone, NoReports: true, Roots: x509.NewCertPool()}
			if tt.trusted {
				cfg.Roots = roots
			}
			if tt.override != 0 {
				cfg.Overrides = map[string]tlspolicy.Override{"them.example": {Level: tt.override}}
			}
			if s.cfg.TLS, err = tlspolicy.New(cfg); err != nil {
				t.Fatal(err)
			}
			p := s.serve(t, "them.example", peer.Config{TLS: tt.tls, Extensions: tt.ext})
			mail := s.Delivery(t, posttest.Text("hello"), nil, "a@them.example")
			if tt.change != nil {
				tt.change(mail)
			}
			if err := s.Post.Accept(t.Context(), mail); err != nil {
				t.Fatal(err)
			}
			s.start(t)
			var got string
			wait(t, "a result", func() bool {
				if m, err := s.Queue.Show(t.Context(), mail.ID); err == nil && m.Recipients[0].Attempts > 0 {
					got = "deferred " + m.Recipients[0].LastStatus
				} else if f := s.fate(t, mail.ID, 0); !strings.HasPrefix(f, "queued") {
					got = f
				}
				return got != ""
			})
			if !strings.Contains(strings.ReplaceAll(got, "mx.them.example [192.0.2.1]: 5", "5"), tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			came := p.Messages()
			if (len(came) == 1) != strings.HasPrefix(tt.want, "relayed") || len(came) == 1 && (came[0].TLS == tt.plain || strings.Contains(tt.name, "REQUIRETLS") != strings.Contains(came[0].Params, "REQUIRETLS")) {
				t.Errorf("came %+v", came)
			}
		})
	}
}

// TestSmartHost logs in under TLS.
func TestSmartHost(t *testing.T) {
	t.Parallel()
	cert, roots := peer.Certificate(t, "smart.example")
	server := &tls.Config{Certificates: []tls.Certificate{cert}}
	for _, tt := range []struct {
		name, password string
		implicit       bool
		want           string
	}{
		{"STARTTLS", "secret", false, "relayed smart.example [192.0.2.1]:465 by smart (TLS 1.3"},
		{"implicit", "secret", true, "relayed smart.example [192.0.2.1]:465 by smart (TLS 1.3"},
		{"wrong password", "wrong", false, "deferred 535"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sqlite(t)
			s := newStreet(t, d)
			zone, err := resolver.NewZone("")
			if err != nil {
				t.Fatal(err)
			}
			if s.cfg.TLS, err = tlspolicy.New(tlspolicy.Config{DB: d, Resolver: zone, Roots: roots}); err != nil {
				t.Fatal(err)
			}
			p := peer.Start(t, peer.Config{Name: "smart.example", TLS: server, ImplicitTLS: tt.implicit, Login: "poczta", Password: "secret"})
			s.peers["192.0.2.1:465"] = p
			s.names.hosts["smart.example"] = []string{"smart.example=192.0.2.1"}
			s.cfg.Routes = []relay.Route{{Name: "smart", Host: domainOf("smart.example"), Port: 465, Implicit: tt.implicit, Level: tlspolicy.Verify,
				Login: &smtpclient.Credentials{Username: "poczta", Password: tt.password}}}
			mail := s.Delivery(t, posttest.Text("hello"), nil, "a@them.example")
			if err := s.Post.Accept(t.Context(), mail); err != nil {
				t.Fatal(err)
			}
			s.start(t)
			var got string
			wait(t, "a result", func() bool {
				if m, err := s.Queue.Show(t.Context(), mail.ID); err == nil && m.Recipients[0].Attempts > 0 {
					got = "deferred " + m.Recipients[0].LastStatus
				} else if f := s.fate(t, mail.ID, 0); !strings.HasPrefix(f, "queued") {
					got = f
				}
				return got != ""
			})
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if came := p.Messages(); tt.password == "secret" && (len(came) != 1 || came[0].Login != "poczta") {
				t.Errorf("came %+v", came)
			}
			if said, err := s.Trace.Dialogues(t.Context(), trace.Viewer{Operator: true}, mail.ID); err != nil || strings.Contains(strings.ToLower(stringOf(said)), "secret") {
				t.Errorf("a dialogue shows the password: %v, %v", said, err)
			}
		})
	}
}

func stringOf(list []trace.Dialogue) string {
	var s string
	for _, d := range list {
		s += d.Text
	}
	return s
}

// sqlite is a database with the tables of the house.
func sqlite(t testing.TB) db.Database {
	t.Helper()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, append(posttest.Components(), tlspolicy.Schema)); err != nil {
		t.Fatal(err)
	}
	return d
}
