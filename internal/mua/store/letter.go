package store

import (
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
)

// LetterID names a letter for its life, moves and retention included; never zero, never used twice.
type LetterID int64

// Address is a person in a letter's header section.
type Address struct {
	Name    string `json:"name,omitempty"` // decoded; "" when absent
	Address string `json:"address"`        // "" when what stands there is none
}

// Summary is what lists show of a letter.
type Summary struct {
	ID          LetterID
	Account     envelope.AccountID
	Folder      string
	UID         mailbox.UID
	Flags       mailbox.Flags
	Octets      int64     // of the whole letter, also while it is Partial
	Received    time.Time // as the server or file told
	Date        time.Time // the sender's, or Received where that can't be true
	Subject     string    // decoded
	From        []Address
	To          []Address // with Cc; the first 50
	MessageID   string    // with angle brackets; "" when absent
	Thread      int64     // equal for letters of one conversation; changes when two become one
	Attachments int       // 0 until it is indexed
	Snippet     string    // the text's beginning; "" until it is indexed
	UniqueID    string
	Partial     bool      // headers only as yet
	Removed     time.Time // when it went into retention; zero for letters in folders
}
