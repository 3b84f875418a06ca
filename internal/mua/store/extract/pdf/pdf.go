// Package pdf reads the text of PDF files, for a search: words in the order in which a page
// draws them, no layout. It is a pure function of the octets, in bounded memory and time,
// however hostile the file is.
//
// # What is read
//
// PDF 1.0 to 2.0 (ISO 32000): the text of pages and of the forms they draw, of fields and of
// comments. Characters come from a font's ToUnicode, else from its encoding (the standard ones,
// differences by glyph names, the CMaps of Chinese, Japanese and Korean that name a known
// charset), else from the table of an embedded TrueType font. Files encrypted with an empty
// password (RC4, AES-128, AES-256) are read. Of pictures nothing is.
//
// # How
//
// The tables that say where objects lie are passed over: objects are found by their headers, so
// that a broken, cyclic or huge table costs nothing. Each octet that is read or decoded, and each
// step of a page's program, is paid from one budget (Limits.Work); when it is spent, what was
// read until then is the text, and the error is ErrLimit.
package pdf

import (
	"bytes"
	"errors"
)

// The reasons why a file's text is not read, or not all of it.
var (
	// ErrFormat means that the octets are no PDF file, or hold no pages.
	ErrFormat = errors.New("no PDF file, or one without pages")
	// ErrPassword means that the file can't be read without a password.
	ErrPassword = errors.New("the PDF file asks for a password")
	// ErrLimit means that reading on would have taken too long.
	ErrLimit = errors.New("the PDF file takes too long to read")
)

// Limits bound what is read; zero fields are the defaults.
type Limits struct {
	Text int // octets of text; 512 KiB
	Work int // octets looked at and decoded, and steps; 64 Mi, some 1 s on one core
}

// Bounds that hold always.
const (
	maxObjects = 200_000 // that are remembered
	maxStream  = 8 << 20 // octets of a stream, decoded
	maxHeld    = 8 << 20 // octets of object streams that are held
	maxNodes   = 150_000 // values within an object
	maxDepth   = 32      // of values in values, of forms in forms, of references to references
	maxFonts   = 256     // that are held
	maxEntries = 200_000 // of their tables
	maxKnown   = 4096    // letters of a font that are remembered
)

// Result is what was read of a file.
type Result struct {
	Text  []byte // in UTF-8; with an error, what was read in spite of it
	Spent int    // of Limits.Work
}

// Read reads the text of the file in raw.
func Read(raw []byte, l Limits) (Result, error) {
	if l.Text <= 0 {
		l.Text = 512 << 10
	}
	if l.Work <= 0 {
		l.Work = 64 << 20
	}
	if i := bytes.Index(raw[:min(len(raw), 1024)], []byte("%PDF-")); i < 0 { // what stands in front is allowed by readers
		return Result{}, ErrFormat
	}
	w := &work{left: l.Work}
	f := &file{raw: raw, w: w, at: make(map[int]place), boxes: make(map[int][]byte), fonts: make(map[int]*font)}
	f.scan()
	if err := f.unlock(); err != nil {
		return Result{Spent: l.Work - w.left}, err
	}
	f.open()
	out := &sheet{limit: l.Text}
	pages := f.pages(out)
	res := Result{Text: out.b, Spent: l.Work - w.left}
	switch {
	case w.left <= 0:
		return res, ErrLimit
	case pages == 0:
		return res, ErrFormat
	}
	return res, nil
}

// work is what may still be done.
type work struct{ left int }

// spend pays for n octets or steps, and reports whether there is anything left.
func (w *work) spend(n int) bool {
	if w.left > 0 {
		w.left -= n
	}
	return w.left > 0
}
