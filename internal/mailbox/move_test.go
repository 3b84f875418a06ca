package mailbox_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post/posttest"
)

func TestMove(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		ids := make([]message.ID, 3)
		for i := range ids {
			ids[i] = h.Deliver(t, ala, posttest.Text(fmt.Sprint(i)))
		}
		d := open(t, h.Mailboxes, ala, true)
		within := 0
		move := mailbox.Move{Account: ala, From: "inbox", UID: 2, To: "A/B", Flags: func(mailbox.Flags) mailbox.Flags { return mailbox.Flagged }}
		move.Within = func(_ db.Tx, was, is mailbox.Entry) error {
			within++
			if was.Mailbox != "INBOX" || was.UID != 2 || is.Mailbox != "A/B" || is.Number == was.Number {
				t.Errorf("was %+v, is %+v", was, is)
			}
			return nil
		}
		e, err := h.Mailboxes.Move(t.Context(), move)
		if err != nil || within == 0 {
			t.Fatal(err)
		}
		if e.UID != 1 || e.Flags != mailbox.Flagged || e.UniqueID != ids[1].String() || e.Body != ids[1] {
			t.Errorf("moved entry is %+v", e)
		}
		if got := d.Len(); got != 3 {
			t.Errorf("an open session has %d messages, want its 3", got)
		}
		if got := open(t, h.Mailboxes, ala, true).Len(); got != 2 {
			t.Errorf("a new session has %d messages, want 2", got)
		}
		found, err := h.Mailboxes.FindBodies(t.Context(), ala, append(ids[1:], message.ID{1}))
		var where []string
		for _, f := range found {
			where = append(where, fmt.Sprintf("%s %d %v", f.Mailbox, f.UID, f.Body == ids[1]))
		}
		if diff := cmp.Diff([]string{"INBOX 3 false", "A/B 1 true"}, where); diff != "" || err != nil {
			t.Errorf("found, %v (-want +got):\n%s", err, diff)
		}
		all, err := h.Mailboxes.Mailboxes(t.Context(), ala)
		if err != nil || all[0].Messages != 2 || all[1].Messages != 1 || all[0].Octets != 2*all[1].Octets {
			t.Errorf("mailboxes are %+v, %v", all, err)
		}
		move.UID, move.Within = 1, func(db.Tx, mailbox.Entry, mailbox.Entry) error { return errors.New("no") }
		if _, err := h.Mailboxes.Move(t.Context(), move); err == nil || open(t, h.Mailboxes, ala, true).Len() != 2 {
			t.Errorf("a failed move: %v", err)
		}
		for _, m := range []mailbox.Move{{From: "INBOX", UID: 2, To: "X"}, {From: "None", UID: 1, To: "X"}} {
			m.Account = ala
			if _, err := h.Mailboxes.Move(t.Context(), m); !errors.Is(err, mailbox.ErrNotFound) {
				t.Errorf("move %+v: %v", m, err)
			}
		}
		if _, err := h.Mailboxes.Move(t.Context(), mailbox.Move{Account: ala, From: "INBOX", UID: 1, To: "inbox"}); !errors.Is(err, mailbox.ErrExists) {
			t.Errorf("a move to where it is: %v", err)
		}
	})
}
