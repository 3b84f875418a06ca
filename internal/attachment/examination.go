package attachment

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/verdict"
)

// examination is the look at one message. One goroutine's.
type examination struct {
	*Inspector
	ctx      context.Context // of Inspect, which outlives it; an examination is one call
	files    int
	unpacked int64
	held     int64
	found    []finding
}

// finding is an item and how often it was found.
type finding struct {
	name   verdict.Name
	detail string
	times  int
}

// note keeps evidence about f, why in words that follow its name.
func (x *examination) note(name verdict.Name, f *file, format string, a ...any) {
	for i := range x.found {
		if x.found[i].name == name {
			x.found[i].times++
			return
		}
	}
	x.found = append(x.found, finding{name, f.path() + " " + fmt.Sprintf(format, a...), 1})
}

// items are the findings as evidence.
func (x *examination) items() []verdict.Item {
	var items []verdict.Item
	for _, f := range x.found {
		more := ""
		if f.times > 1 {
			more = fmt.Sprintf(" (and %d more)", f.times-1)
		}
		it := verdict.Item{Name: f.name, Detail: shorten(f.detail, verdict.MaxDetailOctets-len(more)) + more}
		if f.name == verdict.Bomb {
			it.Demand = x.config.Bomb
		}
		items = append(items, it)
	}
	return items
}

// shorten cuts s to n octets, at a character.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const dots = "…"
	n -= len(dots)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + dots
}

// file is an attachment, or what is inside of one.
type file struct {
	names    []string // by which programs may open it; the first is shown
	within   *file    // what it is inside of
	declared string   // Content-Type, of an attachment
	depth    int      // of archives around it

	open   func() (io.Reader, error) // its content from the start
	at     io.ReaderAt               // the same at random, or nil
	size   int64                     // of at
	packed int64                     // octets it is packed in, 0 for what is not
	bound  int64                     // of an attachment: its octets are not more
}

// path is the name for people, with what it is inside of.
func (f *file) path() string {
	name := "an attachment without a name"
	if len(f.names) > 0 && f.names[0] != "" {
		name = quoted(f.names[0])
	} else if f.within != nil {
		name = "a file without a name"
	}
	if f.within == nil {
		return name
	}
	top := f.within
	for top.within != nil {
		top = top.within
	}
	if len(top.names) == 0 {
		return name + " in an attachment"
	}
	return name + " in " + quoted(top.names[0])
}

// quoted is a name in quotes: marks and controls visible, its middle left out when it is long.
func quoted(s string) string {
	s = strings.ToValidUTF8(s, "?")
	const half = 24
	if r := []rune(s); len(r) > 2*half+1 {
		s = string(r[:half]) + "…" + string(r[len(r)-half:])
	}
	return strconv.Quote(s)
}

// part looks at a part of a message in r.
func (x *examination) part(r io.ReaderAt, p *mime.Part, within *file, depth int) {
	f := &file{declared: p.Type + "/" + p.Subtype, depth: depth, bound: p.End - p.Body}
	for _, n := range []string{p.Filename, p.Params["name"]} {
		if n != "" && (len(f.names) == 0 || f.names[0] != n) {
			f.names = append(f.names, n)
		}
	}
	f.within = within
	f.open = func() (io.Reader, error) { return p.Open(r), nil }
	if p.Encoding == mime.Identity && plain(p) {
		f.at, f.size = &watched{x, f, io.NewSectionReader(r, p.Body, p.End-p.Body)}, p.End-p.Body
	}
	if f.declared == "text/html" && p.Disposition != "attachment" && len(f.names) == 0 {
		return // what is read, not attached; package content looks at it
	}
	x.file(f)
}

// watched is a message whose failure to be read is evidence.
type watched struct {
	x *examination
	f *file
	r io.ReaderAt
}

// ReadAt is io.ReaderAt's.
func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.r.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		w.x.note(verdict.Uninspected, w.f, "could not be read: %v", err)
	}
	return n, err
}

// plain reports whether the part's offsets count in the message itself.
func plain(p *mime.Part) bool {
	if len(p.Children) > 0 {
		return false
	}
	for q := p.Parent; q != nil; q = q.Parent {
		if q.Defects.Has(mime.EncodedContainer) {
			return false
		}
	}
	return true
}

// headOctets are read of a file to recognise it: ISO 9660 shows at 32 KiB.
const headOctets = 36 << 10

// file looks at one file: its names, its true type, and what is inside.
func (x *examination) file(f *file) {
	if x.files++; x.files > x.config.Files {
		x.note(verdict.Uninspected, f, "and others were not looked at: there are more than %d files", x.config.Files)
		return
	}
	x.names(f)
	r, err := f.open()
	if err != nil {
		x.note(verdict.Uninspected, f, "could not be looked at: %v", err)
		return
	}
	b, _ := x.readers.Get().(*bufio.Reader)
	if b == nil {
		b = bufio.NewReaderSize(nil, headOctets)
	}
	defer func() { b.Reset(nil); x.readers.Put(b) }()
	m := &meter{x: x, f: f, r: r}
	b.Reset(m)
	head, err := b.Peek(4 << 10)
	kind := identify(head)
	if kind == "" && err == nil && binaryData(head) {
		head, _ = b.Peek(headOctets)
		kind = identify(head)
	}
	x.trueType(f, kind)
	x.inside(f, kind, b)
	switch {
	case m.err == nil:
	case errors.Is(m.err, errUnpacked) || errors.Is(m.err, errRatio):
		x.note(verdict.Bomb, f, "was not looked at to its end: %v", m.err)
	default:
		x.note(verdict.Uninspected, f, "was not looked at to its end: %v", m.err)
	}
}

// The bounds at which a file is left.
var (
	errUnpacked = errors.New("the message's archives unpack to more than is allowed")
	errRatio    = errors.New("it unpacks to so many times its size that it may be a bomb")
)

// meter counts what a file unpacks to. It keeps the error that is not the content's end.
type meter struct {
	x   *examination
	f   *file
	r   io.Reader
	n   int64
	err error
}

func (m *meter) Read(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	if err := m.x.ctx.Err(); err != nil {
		m.err = errors.New("the time for it was over")
		return 0, m.err
	}
	if m.f.packed > 0 && m.x.unpacked > m.x.config.Unpacked {
		m.err = errUnpacked
		return 0, m.err
	}
	n, err := m.r.Read(p)
	m.n += int64(n)
	if m.f.packed > 0 {
		c := m.x.config
		m.x.unpacked += int64(n)
		switch {
		case m.x.unpacked > c.Unpacked:
			m.err = errUnpacked
		case m.n > 1<<20 && m.n/c.Ratio > m.f.packed:
			m.err = errRatio
		}
	}
	if err != nil && !errors.Is(err, io.EOF) && m.err == nil {
		m.err = err
	}
	if m.err != nil {
		return n, m.err
	}
	return n, err
}

// endOf reports whether err is the end of content, and no failure.
func endOf(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// random gives access to f at random: its own, or its content in memory. release must be
// called. Content that is too large is cut, with evidence and whole false.
func (x *examination) random(f *file, r io.Reader) (at io.ReaderAt, size int64, whole bool, release func()) {
	if f.at != nil {
		return f.at, f.size, true, func() {}
	}
	s, whole, release := x.hold(r, f.bound)
	if !whole {
		x.note(verdict.Uninspected, f, "was looked at in its first %d KiB only", s.size>>10)
	}
	return s, s.size, whole, release
}
