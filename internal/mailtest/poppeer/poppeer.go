// Package poppeer is the other end for tests of whatever fetches mail: a POP3 server with
// one maildrop that keeps the standards until a Rule tells it not to, and remembers what
// was fetched and what was deleted.
//
//	p := poppeer.Start(t, poppeer.Config{Messages: poppeer.Letters(3, 400), Rules: []poppeer.Rule{
//		{Stage: poppeer.Body, Match: "2", Times: 1, Do: poppeer.Drop().AfterOctets(100)},
//		{Stage: poppeer.Quit, Do: poppeer.Drop().Removing(1)},
//	}})
//	conn := p.Dial()              // in memory, works in testing/synctest bubbles
//	addr := p.Listen(t)           // or loopback TCP, as often as wanted
//	…
//	p.Messages(), p.Deleted()
//
// A stage is a moment at which the server would answer; Connect is before the greeting,
// Handshake instead of the TLS handshake, Body in the middle of a message's text. The first
// Rule that fits decides. SetRules changes the rules while connections are open.
//
// Each login sees the maildrop as it is then; QUIT removes what the session has marked.
package poppeer

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"poczta.example/poczta/internal/mailtest/serving"
)

// Message is one of the maildrop.
type Message struct {
	ID   string // unique-id, as UIDL tells it
	Data []byte // octets with CRLF, dots not stuffed
}

// Config is a peer's behaviour.
type Config struct {
	// Capabilities are the lines of CAPA, as in "EXPIRE NEVER". Nil offers TOP, UIDL,
	// RESP-CODES, AUTH-RESP-CODE, PIPELINING, USER and UTF8; STLS is added when TLS is set,
	// SASL when Mechanisms is not empty. An offer is no promise.
	Capabilities []string
	// Later are the lines of CAPA behind a login, if they differ.
	Later []string
	// NoCAPA, NoUIDL and NoTOP answer these commands with -ERR.
	NoCAPA, NoUIDL, NoTOP bool
	// TLS is the server's; nil offers no STLS.
	TLS *tls.Config
	// ImplicitTLS begins with the handshake, as port 995 has it.
	ImplicitTLS bool
	// Login and Password are the one account; "" is "us" and "secret".
	Login, Password string
	// Token is an access token that OAUTHBEARER and XOAUTH2 take; "" takes none.
	Token string
	// Mechanisms are those that CAPA offers and AUTH takes; nil none.
	Mechanisms []string
	// Exclusive lets one session at a time have the maildrop; others get [IN-USE].
	Exclusive bool
	// Messages are the maildrop's.
	Messages []Message
	// Rules say where the server misbehaves.
	Rules []Rule
}

// Peer is a running server. Safe for concurrent use.
type Peer struct {
	*serving.Server
	cfg Config

	mu      sync.Mutex
	rules   []*ruleState
	stages  map[Stage]int
	drop    []Message
	locked  bool
	deleted []string
	given   map[string]int
	logins  []string
}

// New returns a peer; the caller closes it.
func New(cfg Config) *Peer {
	if cfg.Capabilities == nil {
		cfg.Capabilities = []string{"TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "USER", "UTF8"}
	}
	if cfg.Login == "" {
		cfg.Login, cfg.Password = "us", "secret"
	}
	p := &Peer{cfg: cfg, stages: map[Stage]int{}, given: map[string]int{}}
	p.SetMessages(cfg.Messages...)
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

// Letters makes n messages of about so many octets each: a header, and lines of which some
// begin with a dot. Their unique-ids are "id-1" and so on.
func Letters(n, octets int) []Message {
	all := make([]Message, n)
	for i := range all {
		id := i + 1
		text := fmt.Sprintf("Message-ID: <%d@peer.example>\r\nFrom: ala@peer.example\r\nSubject: letter %d\r\n\r\n.begins with a dot\r\n..\r\n.\r\n", id, id)
		line := fmt.Sprintf("%070d\r\n", id)
		if more := octets - len(text); more > 0 {
			text += strings.Repeat(line, (more+len(line)-1)/len(line))
		}
		all[i] = Message{ID: fmt.Sprintf("id-%d", id), Data: []byte(text)}
	}
	return all
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

// SetMessages replaces the maildrop, for logins to come.
func (p *Peer) SetMessages(messages ...Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop = slices.Clone(messages)
}

// ChangeIDs gives every message another unique-id, for logins to come.
func (p *Peer) ChangeIDs(change func(id string) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.drop {
		p.drop[i].ID = change(p.drop[i].ID)
	}
}

// Messages returns the maildrop as it is now.
func (p *Peer) Messages() []Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.drop)
}

// Deleted returns the unique-ids of messages that QUIT has removed, in that order.
func (p *Peer) Deleted() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.deleted)
}

// Given says how often the whole text of each message was sent by RETR, by unique-id.
func (p *Peer) Given() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[string]int, len(p.given))
	for id, n := range p.given {
		all[id] = n
	}
	return all
}

// Logins returns how each login was made: the mechanism or "USER".
func (p *Peer) Logins() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.logins)
}

// Seen returns how often a stage was reached.
func (p *Peer) Seen(s Stage) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stages[s]
}
