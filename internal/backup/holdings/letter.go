package holdings

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
)

// Selection says which letters of an account are meant. Account is required; the
// other fields that are set must all match.
type Selection struct {
	Account   string // login or address, as in the backup
	Mailbox   string
	UniqueID  string
	MessageID string    // with or without angle brackets
	Text      string    // in Subject, From, To or Cc, in any case of letters
	Since     time.Time // received at or after
	Before    time.Time // received before
	Removed   bool      // those in retention, too
}

// Letter is a message of an account in a backup.
type Letter struct {
	mailbox.Entry
	Removed time.Time // into retention; zero for a letter in a mailbox
	Partial bool      // a person's store had its header section only
	// From the header section; only when the selection made it be read.
	MessageID, Subject, From string
}

// needsHeader reports whether the header section decides.
func (sel *Selection) needsHeader() bool { return sel.MessageID != "" || sel.Text != "" }

// matches looks at all but the header section.
func (sel *Selection) matches(l *Letter) bool {
	return (sel.Mailbox == "" || sel.Mailbox == l.Mailbox) && (sel.UniqueID == "" || sel.UniqueID == l.UniqueID) &&
		(sel.Since.IsZero() || !l.Received.Before(sel.Since)) && (sel.Before.IsZero() || l.Received.Before(sel.Before))
}

// Find calls fn for the letters of a snapshot that are selected, by mailbox and uid, those too
// that are Partial.
// With header it reads the header section of all of them.
func Find(ctx context.Context, r *backup.Repository, s *backup.Snapshot, sel Selection, header bool, fn func(Letter) error) error {
	_, err := find(ctx, r, s, sel, header, fn)
	return err
}

func find(ctx context.Context, r *backup.Repository, s *backup.Snapshot, sel Selection, header bool, fn func(Letter) error) (Account, error) {
	a, err := FindAccount(ctx, r, s, sel.Account)
	if err != nil {
		return a, err
	}
	f, err := readFacts(s)
	if err != nil {
		return a, err
	}
	w := &finder{r: r, s: s, facts: f, sel: sel, header: header || sel.needsHeader(), account: a, fn: fn}
	if w.names, err = w.mailboxes(ctx); err != nil {
		return a, err
	}
	if err = w.entries(ctx, "entry"); err == nil && sel.Removed {
		err = w.entries(ctx, "retained")
	}
	return a, err
}

// finder is one run of Find.
type finder struct {
	r       *backup.Repository
	s       *backup.Snapshot
	facts   facts
	sel     Selection
	header  bool
	account Account
	names   map[int64]string // of mailboxes
	partial map[place]bool   // nil until a letter matches
	fn      func(Letter) error
}

// rows calls fn for the account's rows of a table.
func (w *finder) rows(ctx context.Context, name string, fn func(*row) error) error {
	from := accountKey(w.account.ID)
	return storedRows(ctx, w.r, w.s, w.facts, name, from, keyAfter(from), fn)
}

// storedRows calls fn for the rows of a table in a backup, with keys from from on and before to; nil is no bound.
func storedRows(ctx context.Context, r *backup.Repository, s *backup.Snapshot, f facts, name string, from, to []byte, fn func(*row) error) error {
	t, err := f.table(name)
	if err != nil {
		return err
	}
	at := columns(t)
	return r.Items(ctx, s, tablePrefix+name, from, to, func(it backup.Stored) error {
		data, err := rowOctets(ctx, it)
		if err != nil {
			return err
		}
		r, err := newRow(at, data)
		if err != nil {
			return err
		}
		return fn(r)
	})
}

func (w *finder) mailboxes(ctx context.Context) (map[int64]string, error) {
	names := make(map[int64]string)
	err := w.rows(ctx, "mailbox", func(r *row) error {
		names[r.int("number")] = r.text("name")
		return r.err
	})
	return names, err
}

func (w *finder) entries(ctx context.Context, table string) error {
	return w.rows(ctx, table, func(r *row) error {
		l, err := w.letter(r, table == "retained")
		if err != nil || !w.sel.matches(&l) {
			return err
		}
		if w.header {
			ok, err := w.look(ctx, &l)
			if err != nil || !ok {
				return err
			}
		}
		l.Partial, err = w.isPartial(ctx, &l)
		if err != nil {
			return err
		}
		return w.fn(l)
	})
}

// letter makes a Letter of a row of entry or retained.
func (w *finder) letter(r *row, removed bool) (l Letter, err error) {
	id := r.blob("body")
	l = Letter{Entry: mailbox.Entry{Account: w.account.ID, Login: w.account.Login, Number: r.int("number"), UID: mailbox.UID(r.uint32("uid")),
		ModSeq: r.int("modseq"), Flags: mailbox.Flags(r.uint32("flags")), Octets: r.int("octets"), Surrogate: r.int("surrogate"),
		Received: db.FromMicros(r.int("received")), Prefix: r.blob("prefix")}}
	if removed {
		l.Removed = db.FromMicros(r.int("removed"))
	}
	column := r.blob("unique_id")
	if r.err != nil {
		return l, r.err
	}
	if len(id) != len(l.Body) {
		return l, errRow
	}
	l.Body = message.ID(id)
	l.Mailbox = w.names[l.Number]
	l.UniqueID, err = mailbox.UniqueIDOf(column, l.Body)
	return l, err
}

// maxHeader is how many octets of a header section are looked at.
const maxHeader = 64 << 10

// look reads the header section and says whether it matches. What can't be read does not.
func (w *finder) look(ctx context.Context, l *Letter) (bool, error) {
	it, err := w.r.Item(ctx, w.s, sectionBodies, l.Body[:])
	if errors.Is(err, backup.ErrNotFound) || err == nil && it.Lost {
		return !w.sel.needsHeader(), nil
	}
	if err != nil {
		return false, err
	}
	rd, err := it.Open(ctx)
	if err != nil {
		return false, err
	}
	octets, err := io.ReadAll(io.LimitReader(rd, maxHeader))
	if errors.Is(err, backup.ErrDamaged) {
		return !w.sel.needsHeader(), nil
	}
	if err != nil {
		return false, err
	}
	head, _, _ := message.SplitHeader(octets)
	text := func(name string) string {
		v, _ := message.Get(head, name)
		return strings.TrimSpace(v)
	}
	l.MessageID, l.Subject, l.From = text("Message-ID"), mime.DecodeWords(text("Subject")), mime.DecodeWords(text("From"))
	if id := w.sel.MessageID; id != "" && strings.Trim(id, "<> ") != strings.Trim(l.MessageID, "<> ") {
		return false, nil
	}
	if w.sel.Text == "" {
		return true, nil
	}
	all := strings.Join([]string{l.Subject, l.From, mime.DecodeWords(text("To")), mime.DecodeWords(text("Cc"))}, "\n")
	return bytes.Contains(bytes.ToLower([]byte(all)), bytes.ToLower([]byte(w.sel.Text))), nil
}

// octets finds a letter's body in the snapshot.
func octets(ctx context.Context, r *backup.Repository, s *backup.Snapshot, l *Letter) (backup.Stored, error) {
	it, err := r.Item(ctx, s, sectionBodies, l.Body[:])
	if err == nil && it.Lost {
		err = backup.ErrDamaged
	}
	if err != nil {
		return it, fmt.Errorf("octets of message %s: %w", l.UniqueID, err)
	}
	return it, nil
}

// Rows calls fn for each row of a table as it was, its values by column: int64, string,
// []byte or nil. A table that the backup does not have is backup.ErrNotFound.
func Rows(ctx context.Context, r *backup.Repository, s *backup.Snapshot, table string, fn func(map[string]any) error) error {
	return rowsBetween(ctx, r, s, table, nil, nil, fn)
}

// RowsOf is Rows for those whose primary key begins with an account's number.
func RowsOf(ctx context.Context, r *backup.Repository, s *backup.Snapshot, table string, id envelope.AccountID, fn func(map[string]any) error) error {
	from := accountKey(id)
	return rowsBetween(ctx, r, s, table, from, keyAfter(from), fn)
}

func rowsBetween(ctx context.Context, r *backup.Repository, s *backup.Snapshot, table string, from, to []byte, fn func(map[string]any) error) error {
	f, err := readFacts(s)
	if err != nil {
		return err
	}
	return storedRows(ctx, r, s, f, table, from, to, func(row *row) error {
		values := make(map[string]any, len(row.at))
		for name, i := range row.at {
			values[name] = row.values[i]
		}
		return fn(values)
	})
}
