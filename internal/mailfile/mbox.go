package mailfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/message"
)

// mboxLookahead is how much is looked at to judge a line that begins with From.
const mboxLookahead = 2 << 10

var bom = []byte("\xef\xbb\xbf")

// inspectMbox makes sure that the file begins with a From line, or is empty.
func (s *Source) inspectMbox() error {
	f, err := s.root.Open(s.name)
	if err != nil {
		return err
	}
	defer f.Close()
	first := make([]byte, 8)
	n, err := io.ReadFull(f, first)
	if err == io.EOF {
		return nil
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if !bytes.HasPrefix(bytes.TrimPrefix(first[:n], bom), []byte("From ")) {
		return fmt.Errorf("%w: the file does not begin with a line \"From \"", ErrFormat)
	}
	return nil
}

// mboxMessages is Messages of an mbox.
func (s *Source) mboxMessages(yield func(Message, error) bool) {
	f, err := s.root.Open(s.name)
	if err != nil {
		yield(Message{Folder: s.options.Folder, Name: s.name}, err)
		return
	}
	defer f.Close()
	c := &countingReader{f, &s.done}
	m := &mboxReader{r: bufio.NewReaderSize(c, 64<<10)}
	if first, _ := m.r.Peek(len(bom)); bytes.Equal(first, bom) {
		_, _ = m.r.Discard(len(bom))
	}
	for number := 1; ; number++ {
		from, err := m.fromLine()
		if err == io.EOF {
			return
		}
		msg := Message{Folder: s.options.Folder, Name: fmt.Sprintf("%s, message %d", s.name, number)}
		var header []byte
		if err == nil {
			msg.Body, header, err = newBody(m, bytes.HasSuffix(from, []byte("\r\n")), nil)
		}
		if err != nil {
			yield(msg, fmt.Errorf("read %s: %w", msg.Name, err))
			return
		}
		if !internalData(header) {
			_, msg.Received = fromLineDate(from)
			msg.fromHeader(header)
			msg.Body.head = msg.Body.head[len(ownFields(header)):]
			if !yield(msg, nil) {
				return
			}
		}
		if _, err := io.Copy(io.Discard, m); err != nil {
			yield(Message{Folder: msg.Folder, Name: msg.Name}, fmt.Errorf("read %s: %w", msg.Name, err))
			return
		}
	}
}

// internalData recognises the first message that some programs keep for
// themselves: it is no mail.
func internalData(header []byte) bool {
	subject, _ := message.Get(header, "Subject")
	_, imap := message.Get(header, "X-IMAP")
	return imap && strings.Contains(subject, "FOLDER INTERNAL DATA")
}

// fromHeader reads what programs that keep mbox files write into the header section.
func (m *Message) fromHeader(header []byte) {
	status, _ := message.Get(header, "Status")
	more, _ := message.Get(header, "X-Status")
	for _, c := range status + more {
		switch c {
		case 'R':
			m.Flags |= Seen
		case 'A':
			m.Flags |= Answered
		case 'F':
			m.Flags |= Flagged
		case 'T':
			m.Flags |= Draft
		case 'D':
			m.Flags |= Deleted
		}
	}
	keywords, _ := message.Get(header, "X-Keywords")
	for word := range strings.FieldsFuncSeq(keywords, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		m.setKeyword(word)
	}
	id, _ := message.Get(header, "X-UIDL")
	m.UniqueID = legalUniqueID(strings.Trim(id, " \t\"<>"))
}

// ownFields is the beginning of a header section that a Writer of ours has put
// there: fields of the file, not of the message.
func ownFields(header []byte) []byte {
	rest := header
	for _, name := range []string{"Status", "X-Status", "X-Keywords", "X-UIDL"} {
		if bytes.HasPrefix(rest, []byte(name+": ")) {
			_, rest, _ = bytes.Cut(rest, []byte("\n"))
		}
	}
	return header[:len(header)-len(rest)]
}

// mboxReader reads the octets of one message of an mbox after another, unquoted,
// with the line ends of the file. Read returns io.EOF at the message's end.
type mboxReader struct {
	r      *bufio.Reader
	inLine bool   // the last octets were no whole line
	blank  []byte // a blank line kept back: it may belong to the next From line
	ended  bool
}

// fromLine reads the line that begins a message; io.EOF when there is none.
func (m *mboxReader) fromLine() ([]byte, error) {
	line, err := m.r.ReadSlice('\n')
	if len(line) == 0 && err != nil {
		return nil, err
	}
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read From line: %w", err)
	}
	*m = mboxReader{r: m.r}
	return slices.Clone(line), nil
}

// Read implements io.Reader for the message that fromLine began.
func (m *mboxReader) Read(p []byte) (int, error) {
	if m.ended || len(p) == 0 {
		return 0, io.EOF
	}
	n := 0
	for n == 0 {
		if !m.inLine {
			if err := m.lineBegin(); err != nil {
				m.ended = err == io.EOF
				return 0, err
			}
		}
		if len(m.blank) > 0 { // lineBegin has looked at what follows: it is the message's
			n = copy(p, m.blank)
			m.blank = m.blank[n:]
			return n, nil
		}
		chunk, err := m.chunk(len(p))
		if len(chunk) == 0 && err != nil {
			if err == io.EOF {
				m.ended = true
			}
			return 0, err
		}
		if !m.inLine && isBlank(chunk) {
			m.blank = slices.Clone(chunk)
			_, _ = m.r.Discard(len(chunk))
			continue
		}
		n = copy(p, chunk)
		m.inLine = chunk[n-1] != '\n'
		_, _ = m.r.Discard(n)
	}
	return n, nil
}

// lineBegin looks at the next line: io.EOF when it begins another message, or
// there is none; of a quoted one it drops the quote.
func (m *mboxReader) lineBegin() error {
	ahead, err := m.r.Peek(mboxLookahead)
	if len(ahead) == 0 {
		if err == nil || errors.Is(err, bufio.ErrBufferFull) {
			err = io.ErrNoProgress
		}
		return err
	}
	if ahead[0] == 'F' && isSeparator(ahead, len(m.blank) > 0) {
		return io.EOF
	}
	if ahead[0] == '>' && len(m.blank) == 0 && bytes.HasPrefix(bytes.TrimLeft(ahead, ">"), []byte("From ")) {
		_, _ = m.r.Discard(1)
		m.inLine = true // the rest is no line of its own to be judged
	}
	return nil
}

// chunk returns buffered octets up to the line's end, at most n.
func (m *mboxReader) chunk(n int) ([]byte, error) {
	if _, err := m.r.Peek(1); err != nil {
		return nil, err
	}
	ahead, _ := m.r.Peek(m.r.Buffered())
	if i := bytes.IndexByte(ahead, '\n'); i >= 0 {
		ahead = ahead[:i+1]
	} else if len(ahead) == 1 && ahead[0] == '\r' { // its LF is not buffered yet
		if two, _ := m.r.Peek(2); len(two) == 2 && two[1] == '\n' {
			ahead = two
		}
	}
	if isBlank(ahead) {
		return ahead, nil
	}
	return ahead[:min(n, len(ahead))], nil
}

func isBlank(line []byte) bool { return string(line) == "\n" || string(line) == "\r\n" }

// isSeparator judges a line that begins with From. It begins a message if it has
// a date, or just an address or "-", and a header field follows; a dated one also
// behind a blank line with nothing behind it. "From Russia with love" does not.
func isSeparator(ahead []byte, afterBlank bool) bool {
	if !bytes.HasPrefix(ahead, []byte("From ")) {
		return false
	}
	line, next, whole := bytes.Cut(ahead, []byte("\n"))
	if !whole && len(ahead) >= mboxLookahead {
		return false
	}
	dated, _ := fromLineDate(line)
	if !dated {
		word := strings.TrimSpace(string(line[len("From "):]))
		if word != "-" && (!strings.Contains(word, "@") || strings.ContainsAny(word, " \t")) && word != "MAILER-DAEMON" {
			return false
		}
	}
	if fieldFollows(next) {
		return true
	}
	return dated && afterBlank && (len(next) == 0 || isBlank(next[:min(len(next), 1)]) || bytes.HasPrefix(next, []byte("\r\n")))
}

// fieldFollows reports whether b begins with a header field or a quoted From line.
func fieldFollows(b []byte) bool {
	if bytes.HasPrefix(bytes.TrimLeft(b, ">"), []byte("From ")) && len(b) > 0 && b[0] == '>' {
		return true
	}
	for i, c := range b {
		if c == ':' {
			return i > 0
		}
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return false
}

// fromLineLayouts are the dates of From lines, behind the address.
var fromLineLayouts = []string{
	time.ANSIC, "Mon Jan _2 15:04:05 2006 -0700", "Mon Jan _2 15:04:05 -0700 2006", "Mon Jan _2 15:04:05 MST 2006",
	"Mon Jan _2 15:04 2006", time.RFC1123Z, time.RFC3339,
}

// fromLineDate finds the date of a From line. Without a zone it is UTC.
func fromLineDate(line []byte) (dated bool, t time.Time) {
	text := strings.Join(strings.Fields(string(line)), " ")
	for rest := text; ; {
		_, after, found := strings.Cut(rest, " ")
		if !found {
			return false, time.Time{}
		}
		for _, layout := range fromLineLayouts {
			if t, err := time.Parse(layout, after); err == nil {
				return true, t
			}
		}
		rest = after
	}
}
