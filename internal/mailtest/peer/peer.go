// Package peer is the other end for tests of whatever sends mail: an SMTP or LMTP server
// that keeps the standards until a Rule tells it not to, and remembers what it took.
//
//	p := peer.Start(t, peer.Config{Rules: []peer.Rule{
//		{Stage: peer.Rcpt, Match: "bad@", Do: peer.Reply("550 5.1.1 nobody")},
//		{Stage: peer.Final, Times: 2, Do: peer.Drop()},   // the reply is lost twice
//	}})
//	conn := p.Dial()              // in memory, works in testing/synctest bubbles
//	addr := p.Listen(t)           // or loopback TCP, as often as wanted
//	…
//	for _, m := range p.Messages() { … }
//
// A stage is a moment at which the server would answer; Connect is before the greeting,
// Handshake instead of the TLS handshake, Body in the middle of the mail data. The first
// Rule that fits decides. Without a rule everything is accepted. SetRules changes the
// rules while connections are open.
//
// A message counts as taken once its end has come and no rule refuses it, even when its
// reply is then dropped, stalled or garbled: that is what a lost reply looks like from the
// server's side. Copies counts how often each recipient got each message.
package peer

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"

	"poczta.example/poczta/internal/mailtest/serving"
)

// Config is a peer's behaviour.
type Config struct {
	// Name is the server's domain; "" is peer.example.
	Name string
	// Extensions are the lines of the reply to EHLO, as in "SIZE 1000". Nil offers
	// PIPELINING, SIZE, 8BITMIME, SMTPUTF8, DSN and ENHANCEDSTATUSCODES; STARTTLS is added
	// when TLS is set, AUTH when Login is, CHUNKING only when named here. An offer is no
	// promise: rules can make the server refuse what it offers.
	Extensions []string
	// LMTP answers LHLO, and each recipient's final reply.
	LMTP bool
	// NoEHLO answers EHLO with 502.
	NoEHLO bool
	// TLS is the server's; nil offers no STARTTLS.
	TLS *tls.Config
	// ImplicitTLS begins with the handshake, as port 465 has it.
	ImplicitTLS bool
	// Login and Password are the one account; "" offers no AUTH.
	Login, Password string
	// Mechanisms are those offered with Login; nil means all that package sasl knows in
	// the connection's state, PLAIN and LOGIN without TLS among them.
	Mechanisms []string
	// Rules say where the server misbehaves.
	Rules []Rule
	// Discard keeps no mail data, only their size, for tests of many messages.
	Discard bool
}

// Peer is a running server. Safe for concurrent use.
type Peer struct {
	*serving.Server
	cfg Config

	mu       sync.Mutex
	rules    []*ruleState
	mails    int
	stages   map[Stage]int
	messages []Message
	copies   map[Copy]int
}

// New returns a peer; the caller closes it.
func New(cfg Config) *Peer {
	if cfg.Name == "" {
		cfg.Name = "peer.example"
	}
	if cfg.Extensions == nil {
		cfg.Extensions = []string{"PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"}
	}
	p := &Peer{cfg: cfg, stages: map[Stage]int{}, copies: map[Copy]int{}}
	p.SetRules(cfg.Rules...)
	p.Server = serving.New(func(conn net.Conn, n int) { newSession(p, conn, n).run() })
	return p
}

// Start is New with Close at the test's end.
func Start(t testing.TB, cfg Config) *Peer {
	t.Helper()
	p := New(cfg)
	t.Cleanup(p.Close)
	return p
}

// SetRules replaces the rules, for open connections too, and begins their counts anew.
func (p *Peer) SetRules(rules ...Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = p.rules[:0]
	for _, r := range rules {
		p.rules = append(p.rules, &ruleState{Rule: r})
	}
}
