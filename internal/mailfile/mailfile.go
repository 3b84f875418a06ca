// Package mailfile reads and writes mail that lies in files: mbox (RFC 4155,
// mboxrd and mboxo), Maildir as Dovecot keeps it, and .eml files, one or a folder of them.
// Memory is bounded: messages are streamed, only names of files are held.
package mailfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"poczta.example/poczta/internal/message"
)

// ErrFormat is the error of Open for what is no mail.
var ErrFormat = errors.New("neither an mbox file, nor a Maildir, nor an .eml file or a folder of them")

// Inbox is the folder of mail that lies in none.
const Inbox = "INBOX"

// maxHeader bounds what is held of a message to read its fields, in octets.
const maxHeader = 128 << 10

// Format is a way to keep mail in files.
type Format uint8

// The formats.
const (
	Mbox Format = 1 + iota
	Maildir
	EML
)

// String returns the format's name.
func (f Format) String() string {
	switch f {
	case Mbox:
		return "mbox"
	case Maildir:
		return "Maildir"
	case EML:
		return "eml"
	}
	return ""
}

// Flags are the system flags (RFC 9051 §2.3.2) of a message, and $Forwarded (RFC 5788).
type Flags uint32

// The flags. Their values are those of package mailbox.
const (
	Seen Flags = 1 << iota
	Answered
	Flagged
	Draft
	Deleted
	Forwarded
)

// forwarded is the keyword by which files without a letter for it say Forwarded.
const forwarded = "$Forwarded"

// setKeyword keeps a keyword of a file: as the flag that it is, or in Keywords.
func (m *Message) setKeyword(word string) {
	switch {
	case strings.EqualFold(word, forwarded):
		m.Flags |= Forwarded
	case !slices.Contains(m.Keywords, word):
		m.Keywords = append(m.Keywords, word)
	}
}

// Message is one message and what its file tells of it.
type Message struct {
	Folder   string    // UTF-8, levels parted by "/"; Inbox for the first
	UniqueID string    // POP3 unique-id, legal by RFC 1939 §7; "" when unknown
	Flags    Flags     //
	Keywords []string  // flags of users and programs, as $label1
	Received time.Time // internal date; zero when unknown
	Name     string    // file, or offset in the mbox: for people
	Body     *Body     // valid until the next message is asked for; nil for writing
}

// Body is the octets of a message: CRLF lines, the last one ended. Bare CR and LF
// are repaired (package message). Close is harmless twice.
type Body struct {
	head   []byte
	repair *message.Reader
	crlf   bool // the file's lines end with CRLF, so a bare LF is a fault
	closer io.Closer
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	if len(b.head) > 0 {
		n := copy(p, b.head)
		b.head = b.head[n:]
		return n, nil
	}
	return b.repair.Read(p)
}

// Close closes the file.
func (b *Body) Close() error {
	c := b.closer
	b.closer = nil
	if c == nil {
		return nil
	}
	return c.Close()
}

// Repaired is how many faulty line ends were repaired so far: CR alone, and LF
// alone in files whose lines end with CRLF.
func (b *Body) Repaired() int64 {
	n := b.repair.BareCR()
	if b.crlf {
		n += b.repair.BareLF()
	}
	return n
}

// newBody makes a Body and returns the message's header section, or its first
// maxHeader octets.
func newBody(raw io.Reader, crlf bool, c io.Closer) (*Body, []byte, error) {
	b := &Body{repair: message.NewReader(raw), crlf: crlf, closer: c}
	head := make([]byte, 0, 4<<10)
	for len(head) < maxHeader {
		if cap(head)-len(head) < 1<<10 {
			head = append(make([]byte, 0, 2*cap(head)), head...)
		}
		from := len(head)
		n, err := b.repair.Read(head[from:cap(head)])
		head = head[:from+n]
		b.head = head
		if size, complete := message.HeaderLen(head, from); complete {
			return b, head[:size], nil
		}
		if err == io.EOF {
			header, _, _ := message.SplitHeader(head)
			return b, header, nil
		}
		if err != nil {
			return b, nil, err
		}
	}
	return b, head, nil
}

// Options of Open.
type Options struct {
	Folder string // folder of an mbox file; "" is Inbox
	// UIDLFormat is Dovecot's pop3_uidl_format, by which unique-ids are made that
	// the Maildir does not hold; "" is Dovecot's default, %08Xu%08Xv. Known are
	// %u, %v and %f with width and X.
	UIDLFormat string
}

// Source is mail in files that is read once. Messages may run in one goroutine
// while others ask Done.
type Source struct {
	format  Format
	options Options
	root    *os.Root
	name    string // the one file in root; "" for a folder
	total   int64
	done    atomic.Int64
}

// Open finds out what lies at path and opens it. Symbolic links within a folder
// are not followed out of it. Nothing is locked: what a running server changes
// meanwhile may be read in part. The error is ErrFormat for what is no mail.
func Open(path string, o Options) (*Source, error) {
	if o.Folder == "" {
		o.Folder = Inbox
	}
	if o.UIDLFormat == "" {
		o.UIDLFormat = defaultUIDLFormat
	}
	path, err := filepath.EvalSymlinks(path) // a link to the place itself is meant so
	if err != nil {
		return nil, fmt.Errorf("open mail: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open mail: %w", err)
	}
	s := &Source{options: o}
	dir := path
	if !info.IsDir() {
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("open mail at %s: %w: give a file or a folder", path, ErrFormat)
		}
		dir, s.name = filepath.Split(filepath.Clean(path))
		s.format, s.total = Mbox, info.Size()
		if isEML(s.name) {
			s.format = EML
		}
	}
	if dir == "" {
		dir = "."
	}
	if s.root, err = os.OpenRoot(dir); err != nil {
		return nil, fmt.Errorf("open mail: %w", err)
	}
	if err := s.inspect(); err != nil {
		return nil, errors.Join(fmt.Errorf("open mail at %s: %w", path, err), s.Close())
	}
	return s, nil
}

// inspect finds the format and the total.
func (s *Source) inspect() error {
	switch {
	case s.format == Mbox:
		return s.inspectMbox()
	case s.name != "":
		return nil
	}
	folders, err := maildirFolders(s.root)
	if err != nil {
		return err
	}
	if len(folders) > 0 {
		s.format = Maildir
		s.total, err = s.maildirTotal(folders)
		return err
	}
	names, total, err := s.emlNames()
	if err == nil && len(names) == 0 {
		err = ErrFormat
	}
	s.format, s.total = EML, total
	return err
}

// Format is what was found.
func (s *Source) Format() Format { return s.format }

// Total is how many octets of files there are to read.
func (s *Source) Total() int64 { return s.total }

// Done is how many octets of them have been read. Safe for concurrent use.
func (s *Source) Done() int64 { return s.done.Load() }

// Close closes the source.
func (s *Source) Close() error { return s.root.Close() }

// Messages yields the messages, in the order of their files: Maildirs by Dovecot's
// uid, else by name. A Body that is not closed is, when the next message is asked
// for. A message that can't be read comes as an error with Folder and Name set,
// and the next one follows.
func (s *Source) Messages() iter.Seq2[Message, error] {
	switch s.format {
	case Mbox:
		return s.mboxMessages
	case Maildir:
		return s.maildirMessages
	}
	return s.emlMessages
}

// openFile opens a message of its own file. Only regular files are opened: a pipe
// would block for ever.
func (s *Source) openFile(name string) (b *Body, header []byte, info fs.FileInfo, err error) {
	info, err = s.root.Lstat(name)
	if err != nil {
		return nil, nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, nil, fmt.Errorf("open %s: not a regular file", name)
	}
	f, err := s.root.Open(name)
	if err != nil {
		return nil, nil, nil, err
	}
	r := bufio.NewReaderSize(&countingReader{f, &s.done}, 32<<10)
	first, _ := r.Peek(1 << 10)
	b, header, err = newBody(r, lineIsCRLF(first), f)
	if err != nil {
		return nil, nil, nil, errors.Join(fmt.Errorf("read %s: %w", name, err), f.Close())
	}
	return b, header, info, nil
}

// lineIsCRLF reports whether the first line of b ends with CRLF.
func lineIsCRLF(b []byte) bool {
	i := bytes.IndexByte(b, '\n')
	return i > 0 && b[i-1] == '\r'
}

// countingReader tells a Source what was read.
type countingReader struct {
	r    io.Reader
	done *atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done.Add(int64(n))
	return n, err
}

// legalUniqueID returns id if RFC 1939 §7 allows it, else "".
func legalUniqueID(id string) string {
	if len(id) > 70 || strings.ContainsFunc(id, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
		return ""
	}
	return id
}
