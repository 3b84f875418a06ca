package extract

import (
	"archive/zip"
	"bytes"
	"cmp"
	"html"
	"io"
	"path"
	"slices"
	"strings"
)

// Bounds of an office document.
const (
	maxFiles    = 2000    // in its archive
	maxUnpacked = 4 << 20 // octets of its XML, all files together
	maxTag      = 4 << 10 // octets of a tag that count; the rest of a longer one is passed over
)

// office says which files of a document's archive hold its text, by the document's suffix.
var office = map[string]func(name string) bool{
	".docx": wordFile, ".docm": wordFile, ".dotx": wordFile, ".doc": wordFile, // a new document under an old suffix is common
	".xlsx": excelFile, ".xlsm": excelFile, ".xls": excelFile,
	".pptx": powerPointFile, ".pptm": powerPointFile, ".ppsx": powerPointFile, ".ppt": powerPointFile,
	".odt": openFile, ".ods": openFile, ".odp": openFile,
}

func wordFile(n string) bool {
	ok, _ := path.Match("word/*.xml", n)
	base := path.Base(n)
	return ok && (base == "document.xml" || base == "footnotes.xml" || base == "comments.xml" || strings.HasPrefix(base, "header") || strings.HasPrefix(base, "footer"))
}

// excelFile leaves the sheets out: their cells hold numbers, most of them places of these strings.
func excelFile(n string) bool { return n == "xl/sharedStrings.xml" }

func powerPointFile(n string) bool {
	slide, _ := path.Match("ppt/slides/*.xml", n)
	notes, _ := path.Match("ppt/notesSlides/*.xml", n)
	return slide || notes
}

func openFile(n string) bool { return n == "content.xml" }

// appendOffice appends the text of a document; what can't be read is left out.
func appendOffice(t *text, raw []byte, holds func(string) bool) {
	if bytes.Count(raw, []byte("PK\x01\x02")) > maxFiles {
		return
	}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return
	}
	files := slices.DeleteFunc(slices.Clone(z.File), func(f *zip.File) bool { return !holds(f.Name) })
	slices.SortStableFunc(files, func(a, b *zip.File) int { // slide2 in front of slide10
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	room := int64(maxUnpacked)
	for _, f := range files {
		if room <= 0 || t.full() {
			return
		}
		r, err := f.Open()
		if err != nil {
			continue
		}
		limited := &io.LimitedReader{R: r, N: room}
		appendXML(t, limited)
		room = limited.N
		_ = r.Close() // only read
	}
}

// appendXML appends the character data of XML in UTF-8, without holding it and without a stack.
// Tags that end a paragraph, a cell or a line part words; others do not, since programs split words at will.
func appendXML(t *text, r io.Reader) {
	s := stripper{t: t}
	buf := make([]byte, 16<<10)
	for !t.full() {
		n, err := r.Read(buf)
		s.take(buf[:n])
		if err != nil { // also of a broken archive: what was read is text
			s.flush()
			return
		}
	}
}

// stripper takes tags out of XML, piece by piece.
type stripper struct {
	t     *text
	inTag bool
	tag   []byte
	text  []byte // not yet unescaped
}

func (s *stripper) take(b []byte) {
	for len(b) > 0 {
		if !s.inTag {
			i := bytes.IndexByte(b, '<')
			if i < 0 {
				s.text = append(s.text, b...)
				if len(s.text) > 32<<10 {
					s.flush()
				}
				return
			}
			s.text = append(s.text, b[:i]...)
			s.flush()
			b, s.inTag, s.tag = b[i+1:], true, s.tag[:0]
			continue
		}
		i := bytes.IndexByte(b, '>')
		end := i
		if i < 0 {
			end = len(b)
		}
		s.tag = append(s.tag, b[:min(end, max(0, maxTag-len(s.tag)))]...)
		if i < 0 {
			return
		}
		b, s.inTag = b[i+1:], false
		s.part()
	}
}

// part parts words where the tag does.
func (s *stripper) part() {
	name := strings.Trim(string(s.tag[:min(len(s.tag), 64)]), "/")
	if i := strings.IndexAny(name, " \t\r\n/"); i >= 0 {
		name = name[:i]
	}
	if i := strings.IndexByte(name, ':'); i >= 0 {
		name = name[i+1:]
	}
	switch name {
	case "p", "h", "si", "row", "tr", "table-row":
		s.t.line()
	case "tab", "br", "c", "v", "tc", "s", "line-break", "table-cell", "cell":
		s.t.space()
	}
}

// flush appends the text in front of a tag.
func (s *stripper) flush() {
	if len(s.text) == 0 {
		return
	}
	if bytes.IndexByte(s.text, '&') >= 0 {
		s.t.write(html.UnescapeString(string(s.text)))
	} else {
		s.t.writeBytes(s.text)
	}
	s.text = s.text[:0]
}
