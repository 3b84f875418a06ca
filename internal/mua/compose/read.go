package compose

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// Read makes a draft again of a letter, as from the folder Drafts. Attachments are read from the
// letter, which must stay open until the draft was written.
func Read(a profile.Account, l *store.Letter) (Draft, error) {
	if l.Partial {
		return Draft{}, errPartial
	}
	text, err := Text(l)
	if err != nil {
		return Draft{}, fmt.Errorf("read draft: %w", err)
	}
	d := Draft{Account: a.ID, Letter: l.ID, Subject: mime.DecodeWords(field(l, "Subject")), Text: strings.TrimSuffix(text, "\n"),
		From: store.Address{Name: a.Name, Address: a.Address}, Attachments: Attachments(l)}
	if from := people(field(l, "From")); len(from) > 0 {
		d.From = from[0]
	}
	d.To, d.Cc, d.Bcc, d.ReplyTo = typed(fields(l, "To")), typed(fields(l, "Cc")), typed(fields(l, "Bcc")), typed(fields(l, "Reply-To"))
	if ids := identifiers(field(l, "In-Reply-To")); len(ids) > 0 {
		d.InReplyTo = ids[0]
	}
	d.References = identifiers(field(l, "References"))
	return d, nil
}

// typed is what a person had typed into a field of a draft: what was no address yet, too.
func typed(value string) []store.Address {
	all := people(value)
	_, rest := ParseAddresses(value)
	for _, group := range rest {
		if name, ok := strings.CutSuffix(strings.TrimSpace(group), ":"); ok && name != "undisclosed-recipients" {
			name = strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(strings.Trim(mime.DecodeWords(name), `"`))
			all = append(all, store.Address{Address: name})
		}
	}
	return all
}

// Save puts the draft into the account's folder Drafts, durably, in place of the letter that it was
// read from or saved as before, and notes the new one in d.Letter.
func Save(ctx context.Context, s *store.Store, d *Draft, now time.Time, id string) error {
	staged, err := s.Body().Stage(ctx, int64(len(d.Text)))
	if err != nil {
		return fmt.Errorf("save draft: %w", err)
	}
	defer staged.Discard()
	if err := WriteDraft(staged, d, now, id); err != nil {
		return err
	}
	// An import that was made before is a duplicate by content and Source.
	im := mailbox.Import{Mailbox: store.Drafts, Source: fmt.Sprintf("draft %s %d", id, now.UnixNano()), Flags: mailbox.Draft | mailbox.Seen, Received: now, Staged: staged}
	var letter store.LetterID
	_, err = s.Add(ctx, d.Account, []mailbox.Import{im}, func(tx db.Tx, _ int, a mailbox.Appended) (err error) {
		letter, err = s.LetterOf(tx, a.Entry.Account, a.Entry.Number, a.Entry.UID)
		return err
	})
	if err != nil {
		return fmt.Errorf("save draft: %w", err)
	}
	old := d.Letter
	d.Letter = letter
	if old != 0 && old != letter {
		return Discard(ctx, s, old)
	}
	return nil
}

// Discard removes a draft past Trash, into retention; one that is gone already is no error.
func Discard(ctx context.Context, s *store.Store, id store.LetterID) error {
	for range 2 { // to Trash, and out of it
		at, err := s.Summary(ctx, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && !at.Removed.IsZero() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("discard draft: %w", err)
		}
		if _, err := s.Remove(ctx, []store.LetterID{id}); err != nil {
			return fmt.Errorf("discard draft: %w", err)
		}
	}
	return nil
}
