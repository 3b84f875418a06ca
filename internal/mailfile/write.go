package mailfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// Writer writes messages into files. Not for concurrent use. What Add returned
// nil for is complete, and durable once Close has returned nil.
type Writer interface {
	// Add writes one message; body is read to its end. m.Body is not used.
	Add(m Message, body io.Reader) error
	Close() error
}

// NewMboxWriter writes an mbox (mboxrd, lines ended by LF) to w; folders are not
// told apart. Flags, keywords and unique-ids go into the fields Status, X-Status,
// X-Keywords and X-UIDL, which Open reads. Close flushes, but does not close w.
func NewMboxWriter(w io.Writer) Writer { return &mboxWriter{w: bufio.NewWriterSize(w, 64<<10)} }

type mboxWriter struct{ w *bufio.Writer }

func (b *mboxWriter) Close() error { return b.w.Flush() }

func (b *mboxWriter) Add(m Message, body io.Reader) error {
	received := m.Received
	if received.IsZero() {
		received = time.Unix(0, 0)
	}
	fmt.Fprintf(b.w, "From MAILER-DAEMON %s\n", received.UTC().Format(time.ANSIC))
	writeFields(b.w, m)
	r := bufio.NewReaderSize(body, 64<<10)
	for begin := true; ; {
		chunk, err := r.ReadSlice('\n')
		whole := len(chunk) > 0 && chunk[len(chunk)-1] == '\n'
		if begin && bytes.HasPrefix(bytes.TrimLeft(chunk, ">"), []byte("From ")) {
			_ = b.w.WriteByte('>')
		}
		if whole {
			chunk = bytes.TrimSuffix(chunk[:len(chunk)-1], []byte("\r"))
		}
		_, _ = b.w.Write(chunk)
		if whole {
			_ = b.w.WriteByte('\n')
		}
		switch {
		case err == io.EOF:
			if len(chunk) > 0 {
				_ = b.w.WriteByte('\n')
			}
			return b.w.WriteByte('\n') // bufio.Writer keeps the first error
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("read message: %w", err)
		}
		begin = whole
	}
}

// writeFields writes the fields that programs keep in an mbox.
func writeFields(w io.Writer, m Message) {
	status, more := "O", ""
	if m.Flags&Seen != 0 {
		status = "RO"
	}
	for _, f := range []struct {
		flag   Flags
		letter string
	}{{Answered, "A"}, {Flagged, "F"}, {Draft, "T"}, {Deleted, "D"}} {
		if m.Flags&f.flag != 0 {
			more += f.letter
		}
	}
	fmt.Fprintf(w, "Status: %s\n", status)
	if more != "" {
		fmt.Fprintf(w, "X-Status: %s\n", more)
	}
	words := m.Keywords
	if m.Flags&Forwarded != 0 {
		words = append([]string{forwarded}, words...)
	}
	if len(words) > 0 {
		fmt.Fprintf(w, "X-Keywords: %s\n", strings.Join(words, " "))
	}
	if m.UniqueID != "" {
		fmt.Fprintf(w, "X-UIDL: %s\n", m.UniqueID)
	}
}

// CreateMaildir makes a Maildir with Dovecot's files (dovecot-uidlist with the
// unique-ids, dovecot-keywords, subfolders as .Name) in a new or empty folder.
func CreateMaildir(dir string) (Writer, error) {
	root, err := createRoot(dir)
	if err != nil {
		return nil, err
	}
	return &maildirWriter{root: root, begin: time.Now(), folders: map[string]*maildirOut{}}, nil
}

// createRoot opens a new or empty folder.
func createRoot(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create folder for mail: %w", err)
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("create folder for mail: %w", err)
	}
	if len(there) > 0 {
		return nil, fmt.Errorf("create folder for mail: %s is not empty: give a new one", dir)
	}
	return os.OpenRoot(dir)
}

type maildirWriter struct {
	root    *os.Root
	begin   time.Time
	count   int
	folders map[string]*maildirOut
}

// maildirOut is a folder that is being written.
type maildirOut struct {
	dir      string
	list     []string // lines of dovecot-uidlist
	keywords []string
}

func (w *maildirWriter) Add(m Message, body io.Reader) error {
	f, err := w.folder(m.Folder)
	if err != nil {
		return err
	}
	w.count++
	base := fmt.Sprintf("%d.M%06dP%d.poczta", w.begin.Unix(), w.count, os.Getpid())
	tmp := path.Join(f.dir, "tmp", base)
	if err := writeFile(w.root, tmp, &unixLines{r: bufio.NewReaderSize(body, 32<<10)}, m.Received); err != nil {
		return err
	}
	file := base + ":2," + f.letters(m)
	if err := w.root.Rename(tmp, path.Join(f.dir, "cur", file)); err != nil {
		return fmt.Errorf("write message: %w", err)
	}
	line := strconv.Itoa(len(f.list) + 1)
	if m.UniqueID != "" {
		line += " P" + m.UniqueID
	}
	f.list = append(f.list, line+" :"+base)
	return nil
}

// folder makes a folder at its first message.
func (w *maildirWriter) folder(name string) (*maildirOut, error) {
	if f := w.folders[name]; f != nil {
		return f, nil
	}
	f := &maildirOut{dir: "."}
	if name != Inbox && name != "" {
		f.dir = "." + encodeUTF7(strings.ReplaceAll(strings.ReplaceAll(name, ".", "_"), "/", "."))
	}
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := w.root.MkdirAll(path.Join(f.dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("create folder %s: %w", name, err)
		}
	}
	w.folders[name] = f
	return f, nil
}

// letters are the flags in a file's name, in the order of the alphabet.
func (f *maildirOut) letters(m Message) string {
	var s strings.Builder
	for _, l := range []struct {
		flag   Flags
		letter byte
	}{{Draft, 'D'}, {Flagged, 'F'}, {Forwarded, 'P'}, {Answered, 'R'}, {Seen, 'S'}, {Deleted, 'T'}} {
		if m.Flags&l.flag != 0 {
			s.WriteByte(l.letter)
		}
	}
	var small []byte
	for _, word := range m.Keywords {
		i := 0
		for i < len(f.keywords) && f.keywords[i] != word {
			i++
		}
		if i == 26 { // more there can't be
			continue
		}
		if i == len(f.keywords) {
			f.keywords = append(f.keywords, word)
		}
		small = append(small, 'a'+byte(i))
	}
	for c := byte('a'); c <= 'z'; c++ {
		if bytes.IndexByte(small, c) >= 0 {
			s.WriteByte(c)
		}
	}
	return s.String()
}

// Close writes Dovecot's files and makes everything durable.
func (w *maildirWriter) Close() error {
	var errs []error
	for _, f := range w.folders {
		head := fmt.Sprintf("3 V%d N%d\n", w.begin.Unix(), len(f.list)+1)
		errs = append(errs, writeFile(w.root, path.Join(f.dir, "dovecot-uidlist"), strings.NewReader(head+strings.Join(append(f.list, ""), "\n")), time.Time{}))
		if len(f.keywords) > 0 {
			var text strings.Builder
			for i, word := range f.keywords {
				fmt.Fprintf(&text, "%d %s\n", i, word)
			}
			errs = append(errs, writeFile(w.root, path.Join(f.dir, "dovecot-keywords"), strings.NewReader(text.String()), time.Time{}))
		}
	}
	return errors.Join(append(errs, syncAll(w.root), w.root.Close())...)
}

// CreateEML writes each message into a file of its own, NUMBER.eml, octets as
// they are, in a new or empty folder; folders are subfolders.
func CreateEML(dir string) (Writer, error) {
	root, err := createRoot(dir)
	if err != nil {
		return nil, err
	}
	return &emlWriter{root: root, dirs: map[string]bool{}}, nil
}

type emlWriter struct {
	root  *os.Root
	count int
	dirs  map[string]bool
}

func (w *emlWriter) Add(m Message, body io.Reader) error {
	dir := "."
	if m.Folder != Inbox && m.Folder != "" {
		var parts []string
		for part := range strings.SplitSeq(m.Folder, "/") {
			part = strings.TrimLeft(strings.Map(safeRune, part), ".")
			if part == "" {
				part = "_"
			}
			parts = append(parts, part)
		}
		dir = path.Join(parts...)
	}
	if !w.dirs[dir] {
		if err := w.root.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create folder %s: %w", m.Folder, err)
		}
		w.dirs[dir] = true
	}
	w.count++
	return writeFile(w.root, path.Join(dir, fmt.Sprintf("%08d.eml", w.count)), body, m.Received)
}

// safeRune replaces what may not stand in a file's name.
func safeRune(r rune) rune {
	if r < ' ' || strings.ContainsRune(`\:*?"<>|`, r) {
		return '_'
	}
	return r
}

func (w *emlWriter) Close() error {
	return errors.Join(syncAll(w.root), w.root.Close())
}

// writeFile writes a new file; syncAll makes it durable. A zero time leaves the
// file's as it is.
func writeFile(root *os.Root, name string, r io.Reader, t time.Time) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write mail: %w", err)
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err == nil && !t.IsZero() {
		err = root.Chtimes(name, t, t)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, errors.Join(err, root.Remove(name)))
	}
	return nil
}

// unixLines makes LF of CRLF, as Maildir files are kept.
type unixLines struct{ r *bufio.Reader }

func (u *unixLines) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if _, err := u.r.Peek(1); err != nil {
		return 0, err
	}
	ahead, _ := u.r.Peek(min(u.r.Buffered(), len(p)))
	i := bytes.IndexByte(ahead, '\r')
	switch {
	case i < 0:
		i = len(ahead)
	case i == 0:
		if two, _ := u.r.Peek(2); len(two) == 2 && two[1] == '\n' {
			_, _ = u.r.Discard(2)
			p[0] = '\n'
			return 1, nil
		}
		i = 1
	}
	n := copy(p, ahead[:i])
	_, _ = u.r.Discard(n)
	return n, nil
}
