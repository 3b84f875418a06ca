// Package mailbox keeps accounts' mailboxes: entries that point to bodies, with
// uids, unique-ids, flags and counters; removed entries in retention; and the
// listings that POP3 sessions share.
package mailbox

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// Inbox is the name of the mailbox that mail is delivered to.
const Inbox = "INBOX"

// The folders of mail that was set apart. POP3 shows neither. What they hold does not count
// against the quota up to a quarter of it; see Usage.Counted.
const (
	Junk       = "Junk"
	Quarantine = "Quarantine"
)

// SetApart reports whether a mailbox is one of those folders.
func SetApart(name string) bool { return name == Junk || name == Quarantine }

// Limits and defaults.
const (
	MaxNameOctets        = 255                 // a mailbox's name
	MaxUniqueIDOctets    = 70                  // RFC 1939 §7
	DefaultRetention     = 14 * 24 * time.Hour // removed mail
	MinRetention         = time.Hour           // what "no retention" means, for open sessions
	NoRetention          = time.Duration(-1)   // Config.Retention for MinRetention
	DefaultListingBudget = 128 << 20           // octets
	DefaultSweepEvery    = 10 * time.Minute
	DefaultLockIdle      = 2 * time.Minute // an idle holder's lock may be taken
	chunkRows            = 500             // rows of one low-priority transaction
)

// Errors that callers branch on.
var (
	ErrNotFound  = errors.New("no such mailbox or message")
	ErrExists    = errors.New("mailbox exists already")
	ErrBadName   = errors.New("mailbox name must be 1 to 255 octets of UTF-8 without control characters or empty parts between slashes")
	ErrOverQuota = errors.New("mailbox is over its quota")
	ErrInUse     = errors.New("maildrop is in use by another session")
	ErrBudget    = errors.New("memory budget for listings is exhausted")
	ErrGone      = errors.New("message was removed by another session and purged")
)

// UID is an entry's number in its mailbox: rising, never used twice under one
// UIDVALIDITY, never zero.
type UID uint32

// Flags are an entry's flags; the values are stored.
type Flags uint32

// The flags, named as IMAP names its system flags; Forwarded is the keyword $Forwarded (RFC 5788).
const (
	Seen Flags = 1 << iota
	Answered
	Flagged
	Draft
	Deleted
	Forwarded
)

// Mailbox is a mailbox's row.
type Mailbox struct {
	Account     envelope.AccountID
	Number      int64 // within the account, never used twice
	Name        string
	UIDValidity uint32
	UIDNext     UID
	ModSeq      int64 // rises with every change
	Messages    int64
	Octets      int64 // of the messages, as RETR counts them
	Retained    int64 // octets in retention
	shrunk      int64 // ModSeq of the last change that was no arrival
	changed     int64 // ModSeq of the last change of entries that stayed
}

// Usage is the sum over an account's mailboxes.
type Usage struct {
	Messages int64
	Octets   int64
	Retained int64 // octets in retention; not counted against the quota
	Apart    int64 // octets of Junk and Quarantine, part of Octets
}

// Counted is what counts against a quota: all but what is set apart, and of that what is
// beyond a quarter of the quota, so that strangers can't fill a mailbox with junk, nor the disk.
func (u Usage) Counted(quota int64) int64 { return u.Octets - min(u.Apart, quota/4) }

// Entry is one message in a mailbox.
type Entry struct {
	Account   envelope.AccountID
	Login     string // as the caller gave it; for the journal
	Mailbox   string
	Number    int64 // the mailbox's
	UID       UID
	ModSeq    int64
	Flags     Flags
	Octets    int64 // prefix and record, CRLF lines, not byte-stuffed
	Surrogate int64 // octets of the RFC 6856 surrogate, 0 when none is needed
	UniqueID  string
	Received  time.Time
	Body      message.ID
	Prefix    []byte
}

// Retained is a removed entry in retention.
type Retained struct {
	Entry
	Removed time.Time
}

// CheckName returns the canonical form of a mailbox name ("" and any case of
// INBOX are INBOX) or ErrBadName.
func CheckName(name string) (string, error) {
	if name == "" || strings.EqualFold(name, Inbox) {
		return Inbox, nil
	}
	if len(name) > MaxNameOctets || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return "", fmt.Errorf("mailbox %q: %w", name, ErrBadName)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			return "", fmt.Errorf("mailbox %q: %w", name, ErrBadName)
		}
	}
	return name, nil
}

// LegalUniqueID reports whether s can be a POP3 unique-id (RFC 1939 §7).
func LegalUniqueID(s string) bool {
	if len(s) < 1 || len(s) > MaxUniqueIDOctets {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
