package page

import (
	"fmt"
	"html/template"
	"io"
	stdmime "mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"unicode"

	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/mua/store"
)

// frame serves a letter's HTML: safe by sanitize, and again by a policy under which nothing runs,
// in an origin of its own. Pictures come from the sealed addresses alone, or, if the person
// asked, from where they are.
func (v *visit) frame() error {
	id, err := v.letterID()
	if err != nil {
		return err
	}
	o, err := v.p.cfg.Store.Letter(v.r.Context(), id)
	if err != nil {
		return err
	}
	defer o.Close()
	remote := v.r.URL.Query().Get("images") == "yes"
	bodies, _ := parts(o.Root)
	text, _ := v.safe(o, bodies, remote)
	images := "http://" + v.r.Host + "/inline/ data:"
	if remote {
		images += " https: http:"
	}
	h := v.w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; img-src "+images+"; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox")
	h.Set("X-Frame-Options", "SAMEORIGIN")
	h.Set("Cross-Origin-Opener-Policy", "unsafe-none")
	h.Set("Content-Type", "text/html; charset=utf-8")
	return v.show("letter.html", struct {
		T     *words
		Body  template.HTML
		Style template.CSS
	}{v.t, template.HTML(text), template.CSS(v.p.static["letter.css"].octets)}) //nolint:gosec // sanitize made it
}

// pictures are the types of images that are shown inside of a letter: none can hold a script.
var pictures = map[string]string{"image/png": "image/png", "image/jpeg": "image/jpeg", "image/jpg": "image/jpeg", "image/gif": "image/gif", "image/webp": "image/webp", "image/bmp": "image/bmp", "image/avif": "image/avif"}

func picture(p *mime.Part) bool { return p.Leaf() && pictures[p.Type+"/"+p.Subtype] != "" }

// inline serves a picture within a letter's HTML to who has its sealed address: the frame has an
// origin of its own, so the browser sends it without a cookie.
func (p *Page) inline(w http.ResponseWriter, r *http.Request) {
	v := &visit{p: p, w: w, r: r, t: wordsFor(r)}
	id, err := v.letterID()
	n, nerr := strconv.Atoi(r.PathValue("n"))
	if err != nil || nerr != nil || !equal(p.gate.seal(id, n), r.PathValue("seal")) {
		http.NotFound(w, r)
		return
	}
	o, part, err := v.openPart(id, n)
	if err != nil || !picture(part) {
		http.NotFound(w, r)
		return
	}
	defer o.Close()
	w.Header().Set("Content-Type", pictures[part.Type+"/"+part.Subtype])
	w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; sandbox")
	v.copy(part.Open(o))
}

// openPart opens a letter and finds one of its parts. Close the letter if there is no error.
func (v *visit) openPart(id store.LetterID, n int) (*store.Letter, *mime.Part, error) {
	o, err := v.p.cfg.Store.Letter(v.r.Context(), id)
	if err != nil {
		return nil, nil, err
	}
	i := 0
	for p := range o.Root.All() {
		if i == n {
			return o, p, nil
		}
		i++
	}
	o.Close()
	return nil, nil, store.ErrNotFound
}

// copy sends octets; what fails then can only be logged, and ends the connection.
func (v *visit) copy(r io.Reader) {
	if _, err := io.Copy(v.w, r); err != nil {
		v.p.cfg.Logger.Debug("part not sent", "error", err)
		panic(http.ErrAbortHandler) // else it looked whole
	}
}

// part sends an attachment, to be saved: never shown here, whatever it claims to be.
func (v *visit) part() error {
	id, err := v.letterID()
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(v.r.PathValue("n"))
	if err != nil {
		return store.ErrNotFound
	}
	o, p, err := v.openPart(id, n)
	if err != nil {
		return err
	}
	defer o.Close()
	v.download(fileName(p, n), "application/octet-stream")
	v.copy(p.Open(o))
	return nil
}

// original sends the letter as it is.
func (v *visit) original() error {
	id, err := v.letterID()
	if err != nil {
		return err
	}
	m, err := v.p.cfg.Store.Summary(v.r.Context(), id)
	if err != nil {
		return err
	}
	r, size, err := v.p.cfg.Store.Octets(v.r.Context(), id)
	if err != nil {
		return err
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	name := cleanName(m.Subject)
	if name == "" {
		name = fmt.Sprintf("%d", id)
	}
	v.download(name+".eml", "application/octet-stream")
	v.w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	v.copy(io.NewSectionReader(r, 0, size))
	return nil
}

// source shows the letter's octets as text.
func (v *visit) source() error {
	id, err := v.letterID()
	if err != nil {
		return err
	}
	r, size, err := v.p.cfg.Store.Octets(v.r.Context(), id)
	if err != nil {
		return err
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	v.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	v.w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	v.copy(io.NewSectionReader(r, 0, size))
	return nil
}

// download sets the fields of what is saved as a file.
func (v *visit) download(name, kind string) {
	h := v.w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	disposition := stdmime.FormatMediaType("attachment", map[string]string{"filename": name})
	if disposition == "" {
		disposition = "attachment"
	}
	h.Set("Content-Disposition", disposition)
}

// maxNameOctets is how long a file's name is.
const maxNameOctets = 150

// fileName is a harmless name for a part.
func fileName(p *mime.Part, n int) string {
	if name := cleanName(p.Filename); name != "" {
		return name
	}
	ending := map[string]string{"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "application/pdf": ".pdf", "text/plain": ".txt", "text/html": ".html", "text/calendar": ".ics", "message/rfc822": ".eml"}[p.Type+"/"+p.Subtype]
	return fmt.Sprintf("part-%d%s", n, ending)
}

// cleanName leaves no way to another folder, no control or direction characters, and no
// leading dot in a name that a stranger gave.
func cleanName(s string) string {
	s = path.Base(strings.ReplaceAll(s, `\`, "/"))
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\uFFFD' || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs):
			return -1
		case strings.ContainsRune(`/:*?"<>|`, r):
			return '_'
		}
		return r
	}, s)
	for len(s) > maxNameOctets { // from the middle: the ending tells what it is
		ending := path.Ext(s)
		if len(ending) > 20 {
			ending = ""
		}
		s = strings.ToValidUTF8(s[:maxNameOctets-len(ending)-1], "") + ending
	}
	return strings.Trim(s, ". ")
}

// maxCounted is up to which size files are read to be counted: those above are estimated.
const maxCounted = 64 << 10

// counted is a file's size by its octets where that is known about.
func counted(about int64, open func() (io.ReadCloser, error)) int64 {
	if about > maxCounted {
		return about
	}
	r, err := open()
	if err != nil {
		return about
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(r, 2*maxCounted))
	if err != nil {
		return about
	}
	return n
}
