package outbox

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// Letter is what is to be sent.
type Letter struct {
	Account envelope.AccountID
	// ReversePath is where reports go; "" is the account's own address, "<>" nowhere.
	ReversePath string
	Recipients  []string // addresses, as in name@example.org; repeated ones count once
	// Message is the letter, with any line ends. Bcc is taken out; Date and Message-ID are added
	// where they are missing.
	Message io.Reader
	Draft   store.LetterID // a letter in Drafts that is this one; it goes when this one is durable
	SendAt  time.Time      // not before; zero is at once
	Wait    time.Duration  // how long it can be undone at least
	Notify  envelope.Notify
	Return  envelope.Return
	// EnvelopeID is the ENVID that reports bear (RFC 3461 §4.4); "" makes one.
	EnvelopeID string
	// Unchecked sends also where DNS says that a recipient's domain takes no mail.
	Unchecked bool
}

// account finds an account; profile.ErrNotFound.
func (o *Outbox) account(ctx context.Context, id envelope.AccountID) (profile.Account, error) {
	all, err := o.c.Accounts.List(ctx)
	if err != nil {
		return profile.Account{}, fmt.Errorf("read accounts: %w", err)
	}
	for _, a := range all {
		if a.ID == id {
			return a, nil
		}
	}
	return profile.Account{}, profile.ErrNotFound
}

// Put takes a letter, durably. It is sent by Run or Flush, and lies in the folder Outbox until then.
// profile.ErrArchive of an account that does not send.
func (o *Outbox) Put(ctx context.Context, l Letter) (ID, error) {
	t, err := open(l.Message)
	if err != nil {
		return 0, err
	}
	return o.put(ctx, l, t)
}

func (o *Outbox) put(ctx context.Context, l Letter, t *letterText) (ID, error) {
	a, err := o.account(ctx, l.Account)
	if err != nil {
		return 0, err
	}
	if a.Archive {
		return 0, fmt.Errorf("%s: %w", a.Address, profile.ErrArchive)
	}
	now := o.c.Now()
	r := &row{account: l.Account, draft: l.Draft, giveBack: l.Return, notify: l.Notify, unchecked: l.Unchecked, created: db.Micros(now), sendAt: db.Micros(l.SendAt)}
	r.next = max(later(r.created, l.Wait), r.sendAt)
	if r.reverse, err = reversePath(l.ReversePath, a.Address); err != nil {
		return 0, err
	}
	if r.recipients, err = copies(l.Recipients); err != nil {
		return 0, err
	}
	id, err := message.NewID(now, o.c.Rand)
	if err != nil {
		return 0, fmt.Errorf("name the letter: %w", err)
	}
	if r.envelopeID = db.Text(l.EnvelopeID); r.envelopeID == "" {
		r.envelopeID = id.String()
	}
	complete(t, id, now, r.reverse)
	t.lower()
	r.describe(t)
	return o.keep(ctx, r, t, id.String())
}

// keep stores the letter with its rows.
func (o *Outbox) keep(ctx context.Context, r *row, t *letterText, unique string) (ID, error) {
	staged, err := o.c.Store.Body().Stage(ctx, 0)
	if err != nil {
		return 0, fmt.Errorf("put letter into the outbox: %w", err)
	}
	defer staged.Discard()
	if _, err := staged.Write(t.head); err != nil {
		return 0, fmt.Errorf("put letter into the outbox: %w", err)
	}
	rest := &eightBit{r: t.rest}
	if _, err := io.Copy(staged, rest); err != nil {
		return 0, fmt.Errorf("put letter into the outbox: %w", err)
	}
	r.octets, r.eightBit = staged.Octets(), rest.seen
	var id ID
	im := mailbox.Import{Mailbox: Folder, Source: "outbox " + unique, Flags: mailbox.Seen, Received: db.FromMicros(r.created), Staged: staged}
	_, err = o.c.Store.Add(ctx, r.account, []mailbox.Import{im}, func(tx db.Tx, _ int, a mailbox.Appended) error {
		var err error
		if r.letter, err = o.c.Store.LetterOf(tx, a.Entry.Account, a.Entry.Number, a.Entry.UID); err != nil {
			return err
		}
		if _, err = tx.Exec(`INSERT INTO outgoing_seen (one, letter) VALUES (1, ?) ON CONFLICT (one) DO NOTHING`, int64(r.letter)); err != nil {
			return err
		}
		id, err = insert(tx, r)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("put letter into the outbox: %w", err)
	}
	if r.draft != 0 {
		if err := o.dropDraft(ctx, r); err != nil { // the next round does it
			o.c.Logger.Warn("the draft of a letter stays for now", "outgoing", int64(id), "error", err)
		}
	}
	o.c.Changed(id)
	o.Wake()
	return id, nil
}

// dropDraft removes the draft of a letter that is in the outbox: past Trash, into retention.
func (o *Outbox) dropDraft(ctx context.Context, r *row) error {
	for range 2 {
		if _, err := o.c.Store.Remove(ctx, []store.LetterID{r.draft}); err != nil {
			return err
		}
	}
	return o.c.Store.DB().Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`UPDATE outgoing SET draft = 0 WHERE letter = ?`, int64(r.letter))
		return err
	})
}

// reversePath is the address of MAIL FROM, "" for the null one.
func reversePath(given, own string) (string, error) {
	if given == "<>" {
		return "", nil
	}
	if given == "" {
		given = own
	}
	a, err := address.Parse(given)
	if err != nil {
		return "", fmt.Errorf("%w: %q, where reports should go", ErrAddress, given)
	}
	return a.String(), nil
}

// copies are the recipients, each once.
func copies(list []string) ([]copyRow, error) {
	var all []copyRow
	seen := map[string]bool{}
	for _, s := range list {
		a, err := address.Parse(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("%w: %q", ErrAddress, s)
		}
		if !seen[a.Key()] {
			seen[a.Key()] = true
			all = append(all, copyRow{path: a.String()})
		}
	}
	if len(all) == 0 {
		return nil, ErrRecipients
	}
	return all, nil
}

// complete takes out what must not leave and adds what every letter has (RFC 6409 §8).
func complete(t *letterText, id message.ID, now time.Time, reverse string) {
	t.strip(func(f message.Field) bool {
		return message.IsBcc(f) || message.IsReturnPath(f) || message.IsMboxLine(f)
	})
	if t.get("Date") == "" {
		t.strip(func(f message.Field) bool { return f.Is("Date") })
		t.add("Date", message.FormatDate(now))
	}
	if t.get("Message-ID") == "" {
		t.strip(func(f message.Field) bool { return f.Is("Message-ID") })
		var host address.Domain
		if a, err := address.Parse(reverse); err == nil {
			host = a.Domain()
		}
		t.add("Message-ID", message.NewMessageID(id, host))
	}
}

// describe takes from the header section what the outbox shows and needs.
func (r *row) describe(t *letterText) {
	r.messageID = db.Text(messageID(t.get("Message-ID")))
	r.answers = db.Text(messageID(t.get("In-Reply-To")))
	r.subject = db.Text(cut(mime.DecodeWords(t.get("Subject")), 500))
	r.utf8 = message.NeedsUTF8(t.head)
	for _, c := range r.recipients {
		r.utf8 = r.utf8 || message.NeedsUTF8([]byte(c.path))
	}
	r.utf8 = r.utf8 || message.NeedsUTF8([]byte(r.reverse))
}

// messageID is the first Message-ID of a field's value.
func messageID(value string) string {
	_, rest, ok := strings.Cut(value, "<")
	id, _, closed := strings.Cut(rest, ">")
	if !ok || !closed {
		return ""
	}
	return "<" + id + ">"
}

// cut cuts text at so many characters.
func cut(s string, limit int) string {
	if r := []rune(s); len(r) > limit {
		return string(r[:limit])
	}
	return s
}
