package attachment

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"io"
	"path"
	"strings"

	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/verdict"
)

// inside looks into a file of a type that holds others, or that may act by itself.
func (x *examination) inside(f *file, k kind, r *bufio.Reader) {
	container := map[kind]func(*file, io.ReaderAt, int64, bool){
		"zip": x.zip, "rar": x.rar, "7z": x.sevenZip, "iso": x.iso, "ole": x.ole, "tnef": x.tnef,
	}
	switch k {
	case "zip", "rar", "7z", "iso", "tnef":
		if !x.enter(f) {
			return
		}
		fallthrough
	case "ole":
		at, size, whole, release := x.random(f, r)
		defer release()
		container[k](f, at, size, whole)
	case "gz", "bz2", "xz", "tar":
		if x.enter(f) {
			x.stream(f, k, r)
		}
	case "zst", "lz", "arj", "lha", "ace", "cab", "chm", "one", "vhd", "vhdx", "vmdk", "wim":
		x.note(verdict.Uninspected, f, "is %s, which can't be looked into", k)
	case "rtf", "html", "svg", "pdf":
		x.acts(f, k, r)
	default:
		x.enclosed(f, r)
	}
}

// enter reports whether an archive is within the depth; evidence says when not.
func (x *examination) enter(f *file) bool {
	if f.depth < x.config.Depth {
		return true
	}
	x.note(verdict.Bomb, f, "is nested deeper than %d", x.config.Depth)
	return false
}

// stream looks into what is read in one pass.
func (x *examination) stream(f *file, k kind, r *bufio.Reader) {
	if k == "tar" {
		x.tar(f, r)
		return
	}
	name := ""
	if len(f.names) > 0 {
		name = path.Base(strings.ReplaceAll(f.names[0], `\`, "/"))
	}
	if stem, ext := lastDot(name); ext == "tgz" || ext == "tbz2" || ext == "txz" {
		name = stem + ".tar"
	} else if ext == "gz" || ext == "bz2" || ext == "xz" {
		name = stem
	}
	inner := &file{names: []string{name}, within: f, depth: f.depth + 1, packed: 1}
	switch k {
	case "gz":
		z, err := gzip.NewReader(r)
		if err != nil {
			x.note(verdict.Uninspected, f, "is a broken gzip file")
			return
		}
		if z.Name != "" && z.Name != name {
			inner.names = append(inner.names, z.Name)
		}
		inner.open = func() (io.Reader, error) { return z, nil }
	case "bz2":
		inner.open = func() (io.Reader, error) { return bzip2.NewReader(r), nil }
	case "xz":
		window, release := x.window()
		defer release()
		inner.open = func() (io.Reader, error) { return newXZ(r, window), nil }
	}
	inner.packed = x.packedSize(f, r)
	x.file(inner)
}

// packedSize is what a stream's octets are held against: those of the attachment, or what is
// in sight.
func (x *examination) packedSize(f *file, r *bufio.Reader) int64 {
	return max(1, f.size, f.bound, f.packed, int64(r.Buffered()))
}

// tar looks at the files of a tar archive.
func (x *examination) tar(f *file, r io.Reader) {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err != nil {
			if !endOf(err) {
				x.note(verdict.Uninspected, f, "is a broken tar archive")
			}
			return
		}
		if x.files >= x.config.Files {
			x.note(verdict.Uninspected, f, "has more than %d files", x.config.Files)
			return
		}
		inner := &file{names: []string{h.Name}, within: f, depth: f.depth + 1}
		if h.Typeflag != tar.TypeReg {
			x.files++
			x.names(inner)
			continue
		}
		inner.open = func() (io.Reader, error) { return t, nil }
		x.file(inner)
	}
}

// zip looks at the files of a zip archive, or of a document that is one.
func (x *examination) zip(f *file, at io.ReaderAt, size int64, whole bool) {
	a := readZip(at, size, x.config.Files)
	switch {
	case a.more:
		x.note(verdict.Uninspected, f, "has more than %d files", x.config.Files)
	case a.broken && whole:
		x.note(verdict.OddAttachment, f, "has a broken directory, so that programs may show different files")
	case a.hidden && whole:
		x.note(verdict.OddAttachment, f, "has files that its directory does not list")
	}
	if a.overlap {
		x.note(verdict.OddAttachment, f, "has files at the same place, as a bomb has")
	}
	if a.differing {
		x.note(verdict.TypeDiffers, f, "tells other names, sizes or methods in its directory than at its files")
	}
	isDocument := x.document(f, a)
	for _, e := range a.entries {
		inner := &file{names: e.names, within: f, depth: f.depth + 1, packed: max(1, e.packed)}
		if e.packed < 0 {
			inner.packed = max(1, size-e.data)
		}
		switch last := e.names[0]; {
		case strings.HasSuffix(last, "/"):
			continue
		case e.encrypted:
			x.note(verdict.Encrypted, f, "is encrypted")
			x.files++
			x.names(inner)
			continue
		case isDocument && !active(last):
			x.files++
			continue
		}
		if x.files >= x.config.Files {
			x.note(verdict.Uninspected, f, "has more than %d files", x.config.Files)
			return
		}
		x.zipEntry(inner, at, size, e, isDocument)
	}
}

func (x *examination) zipEntry(inner *file, at io.ReaderAt, size int64, e zipEntry, document bool) {
	var r io.Reader
	inner.open = func() (io.Reader, error) {
		var err error
		r, err = x.openZip(at, size, e)
		return r, err
	}
	if e.method == 0 && e.data > 0 && e.data <= size {
		inner.size = size - e.data
		if e.packed >= 0 {
			inner.size = min(inner.size, e.packed)
		}
		inner.at = io.NewSectionReader(at, e.data, inner.size)
	}
	if document && strings.HasSuffix(e.names[0], ".rels") {
		x.relations(inner)
	} else {
		x.file(inner)
	}
	x.done(r)
}

// active reports the files of a document that are worth a look: objects, macros and relations.
func active(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, ".bin") || strings.HasSuffix(name, ".rels") || strings.Contains(name, "embeddings/")
}

// document judges what a zip archive is as a whole, and reports a document.
func (x *examination) document(f *file, a zipArchive) (document bool) {
	var manifest, class, macro, sheet, basic bool
	program := kind("")
	for _, e := range a.entries {
		for _, n := range e.names {
			n = strings.ToLower(strings.ReplaceAll(n, `\`, "/"))
			switch {
			case n == "[content_types].xml", n == "content.xml":
				document = true
			case n == "meta-inf/manifest.mf":
				manifest = true
			case n == "androidmanifest.xml":
				program = "apk"
			case n == "appxmanifest.xml":
				program = "appx"
			case strings.HasSuffix(n, ".class"):
				class = true
			case strings.HasSuffix(n, "vbaproject.bin"):
				macro = true
			case strings.HasPrefix(n, "xl/macrosheets/"):
				sheet = true
			case (strings.HasPrefix(n, "basic/") || strings.HasPrefix(n, "scripts/")) && !strings.HasSuffix(n, "/") && !strings.HasSuffix(n, "script-lb.xml") && !strings.HasSuffix(n, "script-lc.xml"):
				basic = true
			}
		}
	}
	if manifest && class && program == "" {
		program = "jar"
	}
	if program != "" {
		document = document && program != "appx"
		x.trueType(f, program)
	}
	switch {
	case document && macro:
		x.note(verdict.Macros, f, "holds macros (VBA)")
	case document && sheet:
		x.note(verdict.Macros, f, "holds macros (Excel 4.0)")
	case document && basic:
		x.note(verdict.Macros, f, "holds macros (Basic)")
	}
	return document && program == ""
}

// maxRelations bounds what is read of a document's list of relations, in octets.
const maxRelations = 256 << 10

// relations looks for a template or an object that a document fetches when it is opened.
func (x *examination) relations(f *file) {
	x.files++
	r, err := f.open()
	if err != nil {
		return
	}
	b, _ := io.ReadAll(io.LimitReader(&meter{x: x, f: f, r: r}, maxRelations))
	for rel := range bytes.SplitSeq(dropNUL(b), []byte("<Relationship")) {
		if !bytes.Contains(rel, []byte("External")) {
			continue
		}
		for _, what := range []string{"attachedTemplate", "oleObject", "frame", "subDocument"} {
			if bytes.Contains(rel, []byte("/"+what)) && bytes.Contains(rel, []byte("://")) {
				x.note(verdict.OddAttachment, f, "makes the document fetch its %s from elsewhere", what)
			}
		}
	}
}

// enclosed looks into a message that came as a file.
func (x *examination) enclosed(f *file, r *bufio.Reader) {
	name := ""
	for _, n := range f.names {
		if extension(n) == "eml" {
			name = n
		}
	}
	if name == "" && f.declared != "message/rfc822" || !x.enter(f) {
		return
	}
	at, size, _, release := x.random(f, r)
	defer release()
	root, err := mime.Parse(at, size, mime.Limits{})
	if err != nil {
		if !errors.Is(err, io.EOF) {
			x.note(verdict.Uninspected, f, "could not be looked at: %v", err)
		}
		return
	}
	for p := range root.All() {
		if p.Leaf() && p.Type != "multipart" && (p.Filename != "" || p.Type != "text") && p != root {
			x.part(at, p, f, f.depth+1)
		}
	}
	if root.AllDefects().Has(mime.Exceeded) {
		x.note(verdict.Uninspected, f, "is a message with more parts than can be looked at")
	}
}
