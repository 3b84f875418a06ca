package pop3server

import (
	"context"
	"io"

	"poczta.example/poczta/internal/sasl"
)

// Maildrops opens maildrops; package mailbox implements it. Safe for concurrent use.
type Maildrops interface {
	// Open gives the snapshot of the identity's INBOX. With utf8 false, messages
	// that need RFC 6856 appear as their surrogates, sizes included. Errors that
	// are a *pop3.Error are answered as they are, others -ERR [SYS/TEMP].
	Open(ctx context.Context, id sasl.Identity, utf8 bool) (Maildrop, error)
}

// Keeper is a Maildrop that another session may take over from one that shows no
// life, as with RFC 1939's exclusive lock. Keep shows life; a session calls it
// for each command. Its error means that the maildrop was taken over.
type Keeper interface {
	Keep(ctx context.Context) error
}

// Maildrop is one session's view of a mailbox: an immutable list, shared in
// memory with other sessions at the same state. Index i counts from 0. Len,
// Octets and UniqueID never block. Used by one goroutine.
type Maildrop interface {
	Len() int
	// TotalOctets is the sum over all messages.
	TotalOctets() int64
	// Octets is the exact size as RETR sends it, before byte-stuffing (RFC 1939 §11).
	Octets(i int) int64
	// AppendUniqueID appends the unique-id of message i to b.
	AppendUniqueID(b []byte, i int) []byte
	// Read opens message i: CRLF lines, not byte-stuffed, exactly Octets(i) octets.
	// dots false promises that no line begins with a dot.
	Read(ctx context.Context, i int) (msg io.ReadCloser, dots bool, err error)
	// Remove deletes the messages in one transaction (the UPDATE state); those
	// already gone count as done. On error nothing was removed.
	Remove(ctx context.Context, indexes []int) error
	// Close releases the view; harmless twice.
	Close()
}
