package holdings

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
)

// Trouble is what faults of a backup mean: letters of one mailbox that it can't give back, or,
// without Mailbox, something else.
type Trouble struct {
	Snapshot string        `json:"snapshot"`
	Time     time.Time     `json:"time"`
	Account  string        `json:"account,omitempty"`
	Mailbox  string        `json:"mailbox,omitempty"`
	Letters  int64         `json:"letters,omitempty"`
	Named    []NamedLetter `json:"named,omitempty"` // those of them that can be named, at most MaxNamed
	What     string        `json:"what,omitempty"`  // when it is something else
}

// NamedLetter says which letter of a mailbox is meant.
type NamedLetter struct {
	Number   int64  `json:"number"` // in its mailbox
	UniqueID string `json:"unique_id"`
	Subject  string `json:"subject,omitempty"` // in a person's backup, which knows it
}

// Text is the trouble in a sentence.
func (t *Trouble) Text() string {
	if t.Mailbox == "" {
		return fmt.Sprintf("The backup of %s (%s): %s.", t.Time.Local().Format(time.DateTime), t.Snapshot, t.What)
	}
	count := "1 letter"
	if t.Letters != 1 {
		count = fmt.Sprintf("%d letters", t.Letters)
	}
	text := fmt.Sprintf("The backup of %s (%s) can't give back %s of %s in %s", t.Time.Local().Format(time.DateTime), t.Snapshot, count, t.Account, t.Mailbox)
	examples := make([]string, 0, maxExamples)
	for _, l := range t.Named[:min(len(t.Named), maxExamples)] {
		if l.Subject != "" {
			l.UniqueID = fmt.Sprintf("%q", l.Subject)
		}
		examples = append(examples, l.UniqueID)
	}
	if len(examples) > 0 {
		text += ": " + strings.Join(examples, "; ")
		if int64(len(examples)) < t.Letters {
			text += "; …"
		}
	}
	return text + "."
}

// MaxNamed bounds Trouble.Named, and maxExamples the letters that Text names.
const (
	MaxNamed    = 1000
	maxExamples = 3
)

// Explain says what the faults that Verify found in one snapshot mean for people. Faults of other
// snapshots, and of objects alone, are passed over; what the damage hides is said without names.
func Explain(ctx context.Context, r *backup.Repository, s *backup.Snapshot, faults []backup.Fault) ([]Trouble, error) {
	f, err := readFacts(s)
	if err != nil {
		return nil, err
	}
	x := &explaining{finder: finder{r: r, s: s, facts: f}, lost: make(map[message.ID]bool), logins: make(map[int64]string), names: make(map[[2]int64]string), where: make(map[[2]int64]*Trouble)}
	if err := x.directory(ctx); err != nil {
		return nil, err
	}
	for i := range faults {
		if faults[i].Snapshot == s.ID {
			x.fault(&faults[i])
		}
	}
	if len(x.leaves) > 0 {
		if err := x.spread(ctx); err != nil {
			return nil, err
		}
	}
	if len(x.lost) > 0 {
		for _, table := range []string{"entry", "retained"} {
			if err := x.bodies(ctx, table); err != nil {
				return nil, err
			}
		}
	}
	if len(x.lost) > 0 {
		x.other(fmt.Sprintf("the octets of %d messages can't be read, which are in no mailbox, or the backup does not know in which", len(x.lost)))
	}
	return x.all(), nil
}

// explaining is one run of Explain.
type explaining struct {
	finder
	lost   map[message.ID]bool // bodies that can't be read
	leaves []backup.Fault      // of bodies: more than one
	logins map[int64]string    // of accounts
	names  map[[2]int64]string // of mailboxes, by account and number
	where  map[[2]int64]*Trouble
	more   []Trouble
}

// tolerant forgives damage: what can't be read is what Explain is about.
func tolerant(err error) error {
	if errors.Is(err, backup.ErrDamaged) || errors.Is(err, backup.ErrNotFound) {
		return nil
	}
	return err
}

// directory reads the names of accounts and mailboxes.
func (x *explaining) directory(ctx context.Context) error {
	all, err := Accounts(ctx, x.r, x.s)
	for _, a := range all {
		x.logins[int64(a.ID)] = a.Login
	}
	if err = tolerant(err); err != nil {
		return err
	}
	return tolerant(x.each(ctx, "mailbox", func(r *row) error {
		x.names[[2]int64{r.int("account"), r.int("number")}] = r.text("name")
		return r.err
	}))
}

// each calls fn for the rows of a table, of all accounts.
func (x *explaining) each(ctx context.Context, name string, fn func(*row) error) error {
	return storedRows(ctx, x.r, x.s, x.facts, name, nil, nil, fn)
}

// of is the trouble of a mailbox.
func (x *explaining) of(account, number int64) *Trouble {
	key := [2]int64{account, number}
	t := x.where[key]
	if t == nil {
		t = &Trouble{Snapshot: x.s.ID, Time: x.s.Time, Account: x.logins[account], Mailbox: x.names[key]}
		if t.Account == "" {
			t.Account = fmt.Sprintf("account %d", account)
		}
		if t.Mailbox == "" {
			t.Mailbox = fmt.Sprintf("mailbox %d", number)
		}
		x.where[key] = t
	}
	return t
}

func (x *explaining) other(what string) {
	x.more = append(x.more, Trouble{Snapshot: x.s.ID, Time: x.s.Time, What: what})
}

// fault takes one fault in. A leaf of entries is told of by the mailbox of its first one.
func (x *explaining) fault(f *backup.Fault) {
	table, _ := strings.CutPrefix(f.Section, tablePrefix)
	switch {
	case (table == "entry" || table == "retained") && len(f.Key) >= 16:
		x.of(keyInt(f.Key), keyInt(f.Key[8:])).Letters += max(1, f.Items)
	case f.Section == sectionBodies && f.Items == 1 && len(f.Key) == len(message.ID{}):
		x.lost[message.ID(f.Key)] = true
	case f.Section == sectionBodies && f.Items > 1:
		x.leaves = append(x.leaves, *f)
	case f.Key != nil:
		x.other(fmt.Sprintf("%d items of %s can't be read", max(1, f.Items), f.Section))
	case f.Section != "":
		x.other(f.Section + ": " + f.Problem)
	default:
		x.other(f.Problem)
	}
}

// spread finds the bodies of leaves that can't be read: those that follow the first one, of all that
// mailboxes name. What else names bodies, as a queue does, may make it miss some.
func (x *explaining) spread(ctx context.Context) error {
	var ids []message.ID
	for _, table := range []string{"entry", "retained"} {
		err := x.each(ctx, table, func(r *row) error {
			if id := r.blob("body"); len(id) == len(message.ID{}) {
				ids = append(ids, message.ID(id))
			}
			return r.err
		})
		if err = tolerant(err); err != nil {
			return err
		}
	}
	order := func(a, b message.ID) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(ids, order)
	ids = slices.Compact(ids)
	for _, f := range x.leaves {
		from, _ := slices.BinarySearchFunc(ids, f.Key, func(id message.ID, key []byte) int { return bytes.Compare(id[:], key) })
		here := ids[from:min(int64(len(ids)), int64(from)+f.Items)]
		for _, id := range here {
			x.lost[id] = true
		}
		if more := f.Items - int64(len(here)); more > 0 {
			x.other(fmt.Sprintf("the octets of %d more messages can't be found", more))
		}
	}
	return nil
}

// keyInt reads a number of a primary key; appendKey wrote it.
func keyInt(key []byte) int64 { return int64(binary.BigEndian.Uint64(key) ^ 1<<63) }

// bodies finds the letters of a table whose octets can't be read.
func (x *explaining) bodies(ctx context.Context, table string) error {
	found := make(map[[3]int64]namedAt)
	gone := make(map[message.ID]bool)
	err := x.each(ctx, table, func(r *row) error {
		id := r.blob("body")
		if r.err != nil || len(id) != len(message.ID{}) || !x.lost[message.ID(id)] {
			return r.err
		}
		gone[message.ID(id)] = true
		account, number, uid := r.int("account"), r.int("number"), r.int("uid")
		unique, err := mailbox.UniqueIDOf(r.blob("unique_id"), message.ID(id))
		if err = errors.Join(err, r.err); err != nil {
			return err
		}
		t := x.of(account, number)
		if t.Letters++; len(t.Named) < MaxNamed {
			found[[3]int64{account, number, uid}] = namedAt{t, len(t.Named)}
			t.Named = append(t.Named, NamedLetter{Number: uid, UniqueID: unique})
		}
		return nil
	})
	if err = tolerant(err); err != nil {
		return err
	}
	for id := range gone {
		delete(x.lost, id)
	}
	return x.subjects(ctx, found)
}

// namedAt is where a letter is named.
type namedAt struct {
	t *Trouble
	i int
}

// subjects puts subjects beside unique-ids, in a person's backup, which knows them.
func (x *explaining) subjects(ctx context.Context, found map[[3]int64]namedAt) error {
	t, err := x.facts.table(tableLetter)
	at := columns(t)
	if _, ok := at["subject"]; err != nil || !ok || len(found) == 0 {
		return nil //nolint:nilerr // a server's backup has no such table
	}
	return tolerant(x.each(ctx, tableLetter, func(r *row) error {
		if at, ok := found[[3]int64{r.int("account"), r.int("number"), r.int("uid")}]; ok {
			at.t.Named[at.i].Subject = r.text("subject")
		}
		return r.err
	}))
}

// all is what was found: mailboxes by account and name, then the rest.
func (x *explaining) all() (list []Trouble) {
	for _, t := range x.where {
		list = append(list, *t)
	}
	slices.SortFunc(list, func(a, b Trouble) int {
		return strings.Compare(a.Account+"\x00"+a.Mailbox, b.Account+"\x00"+b.Mailbox)
	})
	return append(list, x.more...)
}
