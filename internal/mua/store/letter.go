package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mime"
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
	Folder      string // of one in retention, where it was
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

// Letter is an open letter: its octets, CRLF lines, by ReadAt, and their structure. The octets of
// one up to 1 MiB were verified when it was opened. Safe for concurrent use.
type Letter struct {
	Summary
	io.ReaderAt
	Size int64 // octets here: of a partial letter, less than Octets
	Root *mime.Part
}

// Close ends reading.
func (l *Letter) Close() error {
	if c, ok := l.ReaderAt.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Letter opens a letter, also one in retention. ErrNotFound.
func (s *Store) Letter(ctx context.Context, id LetterID) (*Letter, error) {
	for try := 0; ; try++ {
		l, err := s.openLetter(ctx, id)
		if errors.Is(err, mailbox.ErrGone) && try < moveTries {
			continue // moved between the two looks
		}
		if errors.Is(err, mailbox.ErrGone) {
			err = ErrNotFound
		}
		if err != nil {
			return nil, fmt.Errorf("open letter %d: %w", id, err)
		}
		return l, nil
	}
}

func (s *Store) openLetter(ctx context.Context, id LetterID) (*Letter, error) {
	at, err := s.place(ctx, id)
	if err != nil {
		return nil, err
	}
	m, err := s.Summary(ctx, id)
	if err != nil {
		return nil, err
	}
	r, size, err := s.octets(ctx, at.account, at.number, at.uid)
	if err != nil {
		return nil, err
	}
	root, err := mime.Parse(r, size, mime.Limits{})
	if err != nil {
		return nil, err
	}
	return &Letter{Summary: m, ReaderAt: r, Size: size, Root: root}, nil
}

// letterPlace is where a letter lies.
type letterPlace struct {
	account envelope.AccountID
	number  int64
	uid     mailbox.UID
	folder  string
	origin  string
	removed bool
}

// place looks up where a letter lies. ErrNotFound.
func (s *Store) place(ctx context.Context, id LetterID) (at letterPlace, err error) {
	err = s.view(ctx, func(tx db.Tx) error {
		at, err = readPlace(tx, id)
		return err
	})
	return at, err
}

func readPlace(tx db.Tx, id LetterID) (at letterPlace, err error) {
	err = tx.QueryRow(`SELECT l.account, l.number, l.uid, m.name, l.origin, l.removed <> 0 FROM letter l JOIN mailbox m ON m.account = l.account AND m.number = l.number WHERE l.id = ?`, int64(id)).
		Scan(&at.account, &at.number, &at.uid, &at.folder, &at.origin, &at.removed)
	return at, notFound(err)
}

// inMemory is the largest letter that is read at once, in octets.
const inMemory = 1 << 20

// octets opens the octets of an entry.
func (s *Store) octets(ctx context.Context, account envelope.AccountID, number int64, uid mailbox.UID) (io.ReaderAt, int64, error) {
	var c mailbox.Content
	err := db.Again(func() (err error) { // a letter must not pass for damaged because the machine stood still
		c, err = s.mailboxes.Locate(ctx, account, number, uid)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return s.read(ctx, c)
}

// read opens octets where they lie.
func (s *Store) read(ctx context.Context, c mailbox.Content) (io.ReaderAt, int64, error) {
	size := int64(len(c.Prefix)) + c.Location.Octets
	if size > inMemory {
		return &pieces{ctx: context.WithoutCancel(ctx), s: s.body, c: c, size: size}, size, nil
	}
	r, err := s.body.OpenAt(ctx, c.Body, c.Location, 0, -1)
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	b := make([]byte, size)
	n := copy(b, c.Prefix)
	if _, err := io.ReadFull(r, b[n:]); err != nil {
		return nil, 0, err
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) { // the sum is compared at the end
		return nil, 0, errors.Join(err, body.ErrDamaged)
	}
	return bytes.NewReader(b), size, nil
}

// pieceOctets is how much of a large letter is read at once.
const pieceOctets = 256 << 10

// pieces reads a large letter in pieces, and keeps the last one. The context is not that of
// the caller who opened it: an open letter is read later.
type pieces struct {
	ctx  context.Context
	s    *body.Segments
	c    mailbox.Content
	size int64

	mu    sync.Mutex
	at    int64 // of piece
	piece []byte
}

// ReadAt implements io.ReaderAt.
func (p *pieces) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("read letter: negative offset")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n < len(b) {
		if off >= p.size {
			return n, io.EOF
		}
		if off < p.at || off >= p.at+int64(len(p.piece)) {
			if err := p.load(off); err != nil {
				return n, err
			}
		}
		k := copy(b[n:], p.piece[off-p.at:])
		n, off = n+k, off+int64(k)
	}
	return n, nil
}

// load reads the piece that holds off.
func (p *pieces) load(off int64) error {
	at := off - off%pieceOctets
	piece := make([]byte, 0, pieceOctets)
	prefix := int64(len(p.c.Prefix))
	if at < prefix {
		piece = append(piece, p.c.Prefix[at:]...)
	}
	want := min(pieceOctets, p.size-at) - int64(len(piece))
	r, err := p.s.OpenAt(p.ctx, p.c.Body, p.c.Location, max(0, at-prefix), want)
	if err != nil {
		return err
	}
	defer r.Close()
	n := len(piece)
	piece = piece[:n+int(want)]
	if _, err := io.ReadFull(r, piece[n:]); err != nil {
		return fmt.Errorf("read letter at %d: %w", at, err)
	}
	p.at, p.piece = at, piece
	return nil
}
