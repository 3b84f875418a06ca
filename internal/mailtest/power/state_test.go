package power_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strings"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/rebuild"
)

// accounts is how many accounts the script uses.
const accounts = 3

// state is all that a store holds, as its users see it. Messages are known by
// their text, which no two of the script share; values are unique-ids, "" for any.
type state struct {
	inbox    [accounts + 1]map[string]string
	retained [accounts + 1]map[string]string
	queued   map[string]string
}

func newState() *state {
	s := &state{queued: map[string]string{}}
	for i := range s.inbox {
		s.inbox[i], s.retained[i] = map[string]string{}, map[string]string{}
	}
	return s
}

func (s *state) clone() *state {
	c := &state{queued: maps.Clone(s.queued)}
	for i := range s.inbox {
		c.inbox[i], c.retained[i] = maps.Clone(s.inbox[i]), maps.Clone(s.retained[i])
	}
	return c
}

// differs says how got is not what s says; "" when it is.
func (s *state) differs(got *state) string {
	for a := range s.inbox {
		if d := differ(s.inbox[a], got.inbox[a]); d != "" {
			return fmt.Sprintf("account %d, INBOX: %s", a, d)
		}
		if d := differ(s.retained[a], got.retained[a]); d != "" {
			return fmt.Sprintf("account %d, retention: %s", a, d)
		}
	}
	if d := differ(s.queued, got.queued); d != "" {
		return "queue: " + d
	}
	return ""
}

func differ(want, got map[string]string) string {
	for text, id := range want {
		have, ok := got[text]
		if !ok {
			return fmt.Sprintf("%s is missing", subject(text))
		}
		if id != "" && have != "" && id != have {
			return fmt.Sprintf("%s has unique-id %s, want %s", subject(text), have, id)
		}
	}
	for text := range got {
		if _, ok := want[text]; !ok {
			return fmt.Sprintf("%s should not be there", subject(text))
		}
	}
	return ""
}

// subject names a message.
func subject(text string) string {
	_, after, _ := strings.Cut(text, "Subject: ")
	s, _, _ := strings.Cut(after, "\r\n")
	return fmt.Sprintf("message %q", s)
}

// look reads all that the rooms hold; every message is read whole.
func look(ctx context.Context, h *posttest.House) (*state, error) {
	s := newState()
	for a := 1; a <= accounts; a++ {
		id := envelope.AccountID(a)
		if err := lookInbox(ctx, h, id, s.inbox[a]); err != nil {
			return nil, fmt.Errorf("account %d: %w", a, err)
		}
		gone, _, err := h.Mailboxes.Deleted(ctx, id, mailbox.Selection{}, "", 1000)
		if err != nil {
			return nil, err
		}
		for i := range gone {
			text, err := read(h.Body.Open(ctx, gone[i].Body, 0, -1))
			if err != nil {
				return nil, fmt.Errorf("retained message %s: %w", gone[i].UniqueID, err)
			}
			s.retained[a][text] = gone[i].UniqueID
		}
	}
	all, err := h.Queue.List(ctx, queue.Filter{}, queue.Page{Limit: queue.MaxPage})
	if err != nil {
		return nil, err
	}
	for i := range all {
		text, err := read(h.Body.Open(ctx, all[i].ID, 0, -1))
		if err != nil {
			return nil, fmt.Errorf("queued message %s: %w", all[i].ID, err)
		}
		s.queued[text] = all[i].ID.String()
	}
	return s, nil
}

// lookInbox reads a maildrop as a POP3 session does.
func lookInbox(ctx context.Context, h *posttest.House, id envelope.AccountID, to map[string]string) error {
	d, err := h.Mailboxes.Open(ctx, posttest.Identity(id), true)
	if err != nil {
		return err
	}
	defer d.Close()
	for i := range d.Len() {
		r, _, err := d.Read(ctx, i)
		text, err := read(r, err)
		if err != nil {
			return fmt.Errorf("message %d: %w", i+1, err)
		}
		uniqueID := string(d.AppendUniqueID(nil, i))
		if _, twice := to[text]; twice {
			return fmt.Errorf("%s is there twice", subject(text))
		}
		to[text] = uniqueID
	}
	return nil
}

// read reads a message without what stands before its own octets.
func read(r io.ReadCloser, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	_, after, _ := strings.Cut(string(b), "From: ")
	return "From: " + after, err
}

// whole runs store check and returns what it finds.
func whole(ctx context.Context, s *body.Segments) error {
	return s.Check(ctx, func(f body.Finding) error {
		return fmt.Errorf("check found %s at %d (%s): %w", f.Segment, f.Offset, f.ID, f.Err)
	})
}

// walkRecovered adds what lies in the mailbox Recovered to the account's INBOX.
func walkRecovered(ctx context.Context, h *posttest.House, a int, to *state) error {
	return h.Mailboxes.Walk(ctx, envelope.AccountID(a), func(e mailbox.Entry) error {
		if e.Mailbox != rebuild.Recovered {
			return nil
		}
		text, err := read(h.Body.Open(ctx, e.Body, 0, -1))
		if err != nil {
			return err
		}
		if _, twice := to.inbox[a][text]; twice {
			return fmt.Errorf("%s is in INBOX and in %s", subject(text), e.Mailbox)
		}
		to.inbox[a][text] = e.UniqueID
		return nil
	})
}
