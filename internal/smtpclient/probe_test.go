package smtpclient_test

import (
	"errors"
	"fmt"
	"testing"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/smtpclient"
)

// TestProbe asks several times in one session; no message comes of it.
func TestProbe(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{Rules: []peer.Rule{
		{Stage: peer.Mail, Match: "banned@", Do: peer.Reply("550 5.7.1 not from you")},
		{Stage: peer.Rcpt, Match: "nobody@", Do: peer.Reply("550 5.1.1 nobody")},
		{Stage: peer.Rcpt, Match: "odd@", Do: peer.Reply("354 go on")},
	}})
	s, err := smtpclient.Open(t.Context(), p.Dial(), smtpclient.Config{Hello: "us.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for _, tt := range []struct{ from, to, want string }{
		{"", "a@peer.example", "250 RCPT true"},
		{"", "a@peer.example", "250 RCPT true"},
		{"", "nobody@peer.example", "550 RCPT false"},
		{"banned@us.example", "a@peer.example", "550 MAIL false"},
		{"", "żółw@peer.example", "250 RCPT true"},
	} {
		out, err := s.Probe(t.Context(), tt.from, tt.to)
		if got := fmt.Sprintf("%d %v %v", out.Reply.Code, out.Stage, out.Accepted); got != tt.want || err != nil || !s.Usable() {
			t.Errorf("from %q to %q: %s, %v; want %s", tt.from, tt.to, got, err, tt.want)
		}
	}
	if e, ok := errors.AsType[*smtpclient.Error](probe(t, s, "a>b@peer.example")); !ok || !e.Local {
		t.Error("a path that breaks the command was sent")
	}
	if p.Seen(peer.Reset) != 3 || len(p.Messages()) != 0 {
		t.Errorf("%d times RSET, %d messages", p.Seen(peer.Reset), len(p.Messages()))
	}
	if err := probe(t, s, "odd@peer.example"); !errors.Is(err, smtpclient.ErrProtocol) || s.Usable() {
		t.Errorf("354 to RCPT: %v", err)
	}
	if err := probe(t, s, "a@peer.example"); !errors.Is(err, smtpclient.ErrClosed) {
		t.Errorf("a closed session: %v", err)
	}
	plain := peer.Start(t, peer.Config{Extensions: []string{"PIPELINING"}})
	s, err = smtpclient.Open(t.Context(), plain.Dial(), smtpclient.Config{Hello: "us.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, ok := errors.AsType[*smtpclient.Unsupported](probe(t, s, "żółw@peer.example")); !ok {
		t.Error("SMTPUTF8 was not missed")
	}
}

func probe(t *testing.T, s *smtpclient.Session, to string) error {
	t.Helper()
	_, err := s.Probe(t.Context(), "", to)
	return err
}
