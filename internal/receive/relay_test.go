package receive_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mailtest/transcript"
	"poczta.example/poczta/internal/receive"
	"poczta.example/poczta/internal/relaydomain"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpserver"
)

// dialer connects everything to one peer.
type dialer struct{ p *peer.Peer }

func (d dialer) DialContext(context.Context, string, string) (net.Conn, error) {
	return d.p.Dial(), nil
}

func (dialer) Find(context.Context, address.Domain, string) ([]netip.AddrPort, error) {
	return []netip.AddrPort{netip.MustParseAddrPort("192.0.2.5:25")}, nil
}

// queue has 14 messages for every domain.
type queue struct{}

func (queue) Run(context.Context, address.Domain) (int, error) { return 14, nil }

// relayDomains are backup.example, whose host knows everybody but nobody@, and
// whose queue those of 192.0.2.0/24 may run.
func relayDomains(t testing.TB) *relaydomain.Domains {
	t.Helper()
	p := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Rcpt, Match: "nobody@", Do: peer.Reply("550 5.1.1 nobody here")}}})
	d, err := relaydomain.New(relaydomain.Config{Hello: "mx.example.org", Finder: dialer{p}, Dialer: dialer{p}, Queue: queue{},
		Domains: []relaydomain.Domain{{Name: intaketest.Addr(t, "x@backup.example").Domain(), ETRN: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestRelayTranscripts runs the dialogues of a backup MX, from 192.0.2.1 or, with
// peer=, from elsewhere.
func TestRelayTranscripts(t *testing.T) {
	t.Parallel()
	transcript.Runner{}.RunFiles(t, "testdata/relay/*.txt", func(t *testing.T, s *transcript.Script) net.Conn {
		service, _ := newServiceWith(t, receive.Config{RelayDomains: relayDomains(t)})
		cfg := smtpserver.Config{Hostname: "mx.example.org", Service: service, LMTP: s.Options["lmtp"] == "yes"}
		if s.Options["proxy"] == "yes" {
			cfg.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		}
		server, err := smtpserver.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return memconn.Serve(t, server.Serve)
	})
}

// TestRelayed: what is accepted for a relay domain is queued for it, as a stranger's
// mail.
func TestRelayed(t *testing.T) {
	t.Parallel()
	service, accepter := newServiceWith(t, receive.Config{RelayDomains: relayDomains(t)})
	session := &smtpserver.Session{Origin: envelope.Origin{Protocol: "ESMTP"}}
	tx, err := service.Begin(t.Context(), session, envelope.Envelope{ReversePath: intaketest.From(t, ""), Origin: session.Origin})
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"ala@example.org", "ola@backup.example", "ula@backup.example"} { // a bounce with several recipients
		if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, to), Notify: envelope.NotifySuccess}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tx.Data(t.Context(), strings.NewReader("From: <jan@example.net>\r\n\r\nHi\r\n")); err != nil {
		t.Fatal(err)
	}
	d := accepter.Accepted()[0]
	if len(d.Locals) != 1 || len(d.Remotes) != 2 || d.Ours || d.Remotes[0].ForwardPath.String() != "<ola@backup.example>" {
		t.Errorf("%d locals, %d remotes, ours %v", len(d.Locals), len(d.Remotes), d.Ours)
	}
	if len(d.Also) != 0 {
		t.Error("a null reverse-path was reported to")
	}
}

// TestNoPromise: a stranger can't have mail bounced to whom they like by a time that the
// domain's host promises nothing of; a mailbox here takes it.
func TestNoPromise(t *testing.T) {
	t.Parallel()
	service, _ := newServiceWith(t, receive.Config{RelayDomains: relayDomains(t)})
	for mode, want := range map[envelope.ByMode]int{envelope.ByReturn: 550, envelope.ByNotify: 250, envelope.ByUndeclared: 250} {
		session := &smtpserver.Session{Origin: envelope.Origin{Protocol: "ESMTP", Peer: netip.MustParseAddrPort("192.0.2.1:999")}}
		env := envelope.Envelope{ReversePath: intaketest.From(t, "victim@example.net"), Origin: session.Origin, DeliverBy: envelope.DeliverBy{Mode: mode, Time: time.Now().Add(time.Hour)}}
		tx, err := service.Begin(t.Context(), session, env)
		if err != nil {
			t.Fatal(err)
		}
		for to, want := range map[string]int{"ola@backup.example": want, "ala@example.org": 250} {
			got := 250
			if e, ok := errors.AsType[*smtp.Error](tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, to)})); ok {
				got = e.Reply.Code
			}
			if got != want {
				t.Errorf("mode %v, %s: %d, want %d", mode, to, got, want)
			}
		}
		tx.Abort()
	}
}

// broken is relay domains whose answer is a fault, and that have no queues.
type broken struct{}

func (broken) Verify(context.Context, address.ForwardPath) (bool, error) {
	return true, errors.New("out of order")
}

// TestRelayFault: a fault is temporary, and relay domains without queues offer no ETRN.
func TestRelayFault(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		domains receive.RelayDomains
		want    string
	}{"a fault": {broken{}, "other"}, "no relay domains": {nil, "550"}} {
		service, _ := newServiceWith(t, receive.Config{RelayDomains: tt.domains})
		session := &smtpserver.Session{Origin: envelope.Origin{Protocol: "ESMTP", Peer: netip.MustParseAddrPort("192.0.2.1:999")}}
		tx, err := service.Begin(t.Context(), session, envelope.Envelope{ReversePath: intaketest.From(t, "a@example.net"), Origin: session.Origin})
		if err != nil {
			t.Fatal(err)
		}
		got := "other"
		if e, ok := errors.AsType[*smtp.Error](tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, "ola@backup.example")})); ok {
			got = fmt.Sprint(e.Reply.Code)
		}
		tx.Abort()
		if got != tt.want || service.Starts(session) {
			t.Errorf("%s: %s, want %s; ETRN %v", name, got, tt.want, service.Starts(session))
		}
		if _, err := service.Start(t.Context(), session, smtp.Node{}); err == nil {
			t.Errorf("%s: a queue was started", name)
		}
	}
}

// TestPrimaryAndBackup: two of our own servers over TCP, the second as backup of the
// first.
func TestPrimaryAndBackup(t *testing.T) {
	t.Parallel()
	first, _ := newService(t, nil)
	server, err := smtpserver.New(smtpserver.Config{Hostname: "primary.example.org", Service: first})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(t.Context(), l) }()
	t.Cleanup(func() { <-served }) // the test's context has ended
	org := intaketest.Addr(t, "x@example.org").Domain()
	backup, err := relaydomain.New(relaydomain.Config{Hello: "backup.example.org", Finder: &relaydomain.MX{},
		Domains: []relaydomain.Domain{{Name: org, Host: l.Addr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]int{"ala@example.org": 0, "nobody@example.org": 550} {
		relayed, err := backup.Verify(t.Context(), intaketest.To(t, to))
		got := 0
		if e, ok := errors.AsType[*smtp.Error](err); ok {
			got = e.Reply.Code
		}
		if !relayed || got != want {
			t.Errorf("%s: relayed %v, %v; want %d", to, relayed, err, want)
		}
	}
}
