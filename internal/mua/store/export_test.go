package store

import (
	"context"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
)

// RetainLate looks where letters lie, has something happen, and puts them into retention.
func (s *Store) RetainLate(ctx context.Context, ids []LetterID, meanwhile func()) (int, error) {
	all, err := s.locate(ctx, ids)
	if err != nil {
		return 0, err
	}
	meanwhile()
	return s.retain(ctx, all)
}

// ForgetLate does the same with letters that were gone.
func (s *Store) ForgetLate(ctx context.Context, ids []LetterID, meanwhile func()) error {
	all, err := s.locate(ctx, ids)
	if err != nil {
		return err
	}
	meanwhile()
	return s.forget(ctx, all)
}

// EmptyTrashLate looks what has lain in Trash since before a time, has something happen, and puts it into retention.
func (s *Store) EmptyTrashLate(ctx context.Context, account envelope.AccountID, before time.Time, meanwhile func()) (int, error) {
	all, err := s.trashed(ctx, account, before)
	if err != nil {
		return 0, err
	}
	meanwhile()
	return s.retain(ctx, all)
}

// Late has something happen before the mailboxes are looked into for the nth time.
func (s *Store) Late(nth int, meanwhile func()) (err error) {
	boxes := s.mailboxes
	s.mailboxes, err = mailbox.New(mailbox.Config{DB: &lateDB{s.db, nth, func() { s.mailboxes = boxes; meanwhile() }}, Body: s.body})
	return err
}

// lateDB is a database before whose nth view something happens.
type lateDB struct {
	db.Database

	nth int
	do  func()
}

// View implements db.Database.
func (d *lateDB) View(ctx context.Context, fn func(db.Tx) error) error {
	if d.nth--; d.nth == 0 {
		d.do()
	}
	return d.Database.View(ctx, fn)
}

// ParseHeader is parseHeader for fuzzing: what it keeps, packed and unpacked again.
func ParseHeader(raw []byte) (subject string, people, again []Address, ids []string) {
	h := parseHeader(raw)
	all := append(h.from[:len(h.from):len(h.from)], h.all...)
	return h.subject, all, unpackPeople(packPeople(all)), append(h.references, h.messageID)
}

// BaseSubject is baseSubject.
func BaseSubject(s string) (string, bool) { return baseSubject(s) }

// PackLanded packs one letter that waits to be filed.
func PackLanded(uniqueID, source string, note []byte, flags mailbox.Flags) []byte {
	l := landed{note: note, whole: 5}
	l.UniqueID, l.Source, l.Flags, l.Location.Segment, l.Location.Octets = uniqueID, source, flags, "a-1", 300
	return packLanded([]landed{l})
}

// RepackLanded unpacks letters and packs them again.
func RepackLanded(b []byte) ([]byte, error) {
	all, err := unpackLanded(b)
	return packLanded(all), err
}
