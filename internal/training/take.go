package training

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/trace"
)

// For reports whether an address, of one of our domains, is one that teaches, and what. The caller
// asks only for addresses that lead to nobody: an account or alias of that name wins.
func (r *Room) For(a address.Address) (spam, ok bool) {
	switch local := strings.ToLower(a.Local()); local {
	case "-":
		return false, false
	case strings.ToLower(r.cfg.Spam):
		return true, true
	case strings.ToLower(r.cfg.Ham):
		return false, true
	}
	return false, false
}

// sample is an attached message.
type sample struct {
	octets []byte // MaxOctets at most
	header []byte
	body   [32]byte      // see digest
	found  mailbox.Entry // the same message in the account's mailboxes; zero when it is not there
	isHere bool
}

// Take learns from the messages that a mail carries as attachments, for the account that sent it.
// One that lies in the account's mailboxes, as its Message-ID and text show, is moved: to Junk or to
// the INBOX. When nothing was attached a short note goes back. An error is temporary; what was
// learned before it stays, and learning it again changes nothing.
func (r *Room) Take(ctx context.Context, m Message) (Result, error) {
	var res Result
	if m.Account == 0 || m.Root == nil || m.Body == nil {
		return res, errors.New("training: a mail without an account that sent it, or without content")
	}
	parts := attached(m.Root, nil)
	res.Messages = len(parts)
	res.Skipped = max(0, len(parts)-MaxMessages)
	parts = parts[:len(parts)-res.Skipped]
	if err := r.each(ctx, m, parts, &res); err != nil {
		return res, err
	}
	if res.Learned > 0 {
		if r.cfg.Hooks.Learned != nil {
			r.cfg.Hooks.Learned(m.Spam, res.Learned)
		}
		r.cfg.Logger.Info("learned from mail", "account", m.Login, "spam", m.Spam, "messages", res.Learned, "moved", res.Moved, "skipped", res.Skipped)
		return res, nil
	}
	if r.cfg.Hooks.Nothing != nil {
		r.cfg.Hooks.Nothing()
	}
	return res, r.note(ctx, m)
}

// attached finds the parts that are whole messages, without entering them.
func attached(p *mime.Part, found []*mime.Part) []*mime.Part {
	switch {
	case p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global"),
		p.Type == "application" && strings.HasSuffix(strings.ToLower(p.Filename), ".eml"):
		return append(found, p)
	case p.Type == "multipart":
		for _, c := range p.Children {
			found = attached(c, found)
		}
	}
	return found
}

// each learns the parts. They are read one by one, and twice, so that one is in memory at a time.
func (r *Room) each(ctx context.Context, m Message, parts []*mime.Part, res *Result) error {
	places, err := r.places(ctx, m, parts)
	if err != nil {
		return err
	}
	var failed error
	for _, p := range parts {
		s, err := read(m.Body, p)
		if err != nil {
			return err
		}
		if len(s.header) == 0 {
			continue // no message
		}
		if err := r.locate(ctx, &s, places); err != nil {
			return err
		}
		moved, err := r.learn(ctx, m, &s)
		if err != nil {
			failed = fmt.Errorf("learn an attached message: %w", err)
			continue
		}
		res.Learned++
		if moved {
			res.Moved++
		}
	}
	return failed
}

// learn moves a message that is elsewhere than it belongs, which teaches; else it is taught alone.
func (r *Room) learn(ctx context.Context, m Message, s *sample) (moved bool, err error) {
	if s.isHere && mailbox.SetApart(s.found.Mailbox) != m.Spam {
		to := mailbox.Inbox
		if m.Spam {
			to = mailbox.Junk
		}
		_, err := r.cfg.Mover.Move(ctx, quarantine.Move{Account: m.Account, Login: m.Login, From: s.found.Mailbox, UID: s.found.UID, To: to, By: m.Login})
		if !errors.Is(err, mailbox.ErrNotFound) {
			return err == nil, err
		}
	}
	return false, r.cfg.Learner.Learn(ctx, m.Account, bytes.NewReader(s.octets), int64(len(s.octets)), m.Spam)
}

// read reads an attached message.
func read(r io.ReaderAt, p *mime.Part) (sample, error) {
	octets, err := io.ReadAll(io.LimitReader(p.Open(r), MaxOctets))
	if err != nil {
		return sample{}, fmt.Errorf("read an attached message: %w", err)
	}
	return sampleOf(octets), nil
}

func sampleOf(octets []byte) sample {
	octets = bytes.TrimLeft(octets, "\r\n")
	header, rest, _ := message.SplitHeader(octets)
	return sample{octets: octets, header: header, body: digest(rest)}
}

// digestOctets is how much of a text counts when two are compared.
const digestOctets = 1 << 20

// digest is the SHA-256 of a text without its blanks and line ends, which programs change.
func digest(body []byte) [32]byte {
	kept := make([]byte, 0, min(len(body), digestOctets))
	for _, c := range body {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			if kept = append(kept, c); len(kept) == digestOctets {
				break
			}
		}
	}
	return sha256.Sum256(kept)
}

// perMessage bounds the messages of one Message-ID that are looked at.
const perMessage = 4

// place is an entry with the Message-ID that led to it.
type place struct {
	id    string
	entry mailbox.Entry
}

// places finds the account's messages that have the Message-ID of one of the parts.
func (r *Room) places(ctx context.Context, m Message, parts []*mime.Part) ([]place, error) {
	byBody := map[message.ID]string{}
	var ids []message.ID
	for _, p := range parts {
		s, err := read(m.Body, p)
		if err != nil {
			return nil, err
		}
		name, ok := message.Get(s.header, "Message-ID")
		if name = strings.TrimSpace(name); !ok || name == "" {
			continue
		}
		found, err := r.cfg.Finder.Find(ctx, trace.Viewer{Account: m.Account}, trace.Query{MessageID: name, Limit: perMessage})
		if err != nil && !errors.Is(err, trace.ErrNotFound) {
			return nil, err
		}
		for i := range found {
			if _, known := byBody[found[i].ID]; !known {
				byBody[found[i].ID] = name
				ids = append(ids, found[i].ID)
			}
		}
	}
	entries, err := r.cfg.Mailboxes.FindBodies(ctx, m.Account, ids)
	if err != nil {
		return nil, err
	}
	all := make([]place, len(entries))
	for i, e := range entries {
		all[i] = place{byBody[e.Body], e}
	}
	return all, nil
}

// locate finds the sample among the places. Its text must be the same: a stranger can give any
// message the Message-ID of a letter that the account has.
func (r *Room) locate(ctx context.Context, s *sample, places []place) error {
	name, _ := message.Get(s.header, "Message-ID")
	for i := range places {
		p := &places[i]
		if p.id == "" || p.id != strings.TrimSpace(name) {
			continue
		}
		same, err := r.same(ctx, &p.entry, s)
		if err != nil {
			return err
		}
		if same {
			s.found, s.isHere = p.entry, true
			p.id = "" // it is moved once
			return nil
		}
	}
	return nil
}

func (r *Room) same(ctx context.Context, e *mailbox.Entry, s *sample) (bool, error) {
	in, err := r.cfg.Mailboxes.OpenEntry(ctx, e)
	if errors.Is(err, mailbox.ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer in.Close()
	octets, err := io.ReadAll(io.LimitReader(in, MaxOctets))
	if err != nil {
		return false, err
	}
	return sampleOf(octets).body == s.body, nil
}
