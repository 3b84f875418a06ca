package peer

import (
	"bytes"
	"slices"
	"strings"
)

// Message is a message that the server took.
type Message struct {
	Conn    int    // the number of the connection, from 1
	Helo    string // argument of EHLO, HELO or LHLO
	TLS     bool
	Login   string // who had authenticated
	From    string // reverse-path without brackets
	Params  string // MAIL's parameters as sent
	Rcpts   []Recipient
	Chunked bool   // by BDAT
	Size    int64  // octets, dots unstuffed
	Data    []byte // nil with Config.Discard
	ID      string // of the header field Message-ID, with its brackets; "" without
	Claimed bool   // the positive reply was sent, as far as the server knows
}

// Recipient is one accepted RCPT command.
type Recipient struct{ Path, Params string }

// Copy is what is counted once for each delivery: who got which message.
type Copy struct{ MessageID, Rcpt string }

// Messages returns what was taken, in the order of arrival.
func (p *Peer) Messages() []Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.messages)
}

// Copies says how often each recipient got each message: 1 is exactly once.
func (p *Peer) Copies() map[Copy]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[Copy]int, len(p.copies))
	for c, n := range p.copies {
		all[c] = n
	}
	return all
}

// Seen returns how often a stage was reached.
func (p *Peer) Seen(s Stage) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stages[s]
}

// record notes a message for those of its recipients who were not refused.
func (p *Peer) record(m Message) {
	m.ID = messageID(m.Data)
	if p.cfg.Discard {
		m.Data = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.messages = append(p.messages, m)
	for _, r := range m.Rcpts {
		p.copies[Copy{m.ID, r.Path}]++
	}
}

// messageID finds the Message-ID field in a header.
func messageID(data []byte) string {
	for len(data) > 0 {
		line, rest, _ := bytes.Cut(data, []byte("\r\n"))
		if len(line) == 0 {
			return ""
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && strings.EqualFold(string(name), "Message-ID") {
			return string(bytes.TrimSpace(value))
		}
		data = rest
	}
	return ""
}
