package content

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/verdict"
)

// odd are the defects at which programs show different things; the others are mere sloppiness,
// which honest programs are guilty of too.
const odd = mime.NoBoundary | mime.NoParts | mime.BadBoundary | mime.SameBoundary | mime.AfterFinal | mime.RepeatedField | mime.RepeatedParam |
	mime.BadType | mime.EncodedContainer | mime.NUL | mime.BareCR | mime.BadEncoding | mime.BoundaryPrefix

// structure judges how the message is put together.
func (e *evidence) structure(root *mime.Part) {
	d := root.AllDefects()
	bad := root.Defects & odd &^ (mime.NUL | mime.BareCR) // which say header_malformed
	for _, c := range root.Children {
		bad |= c.AllDefects() & odd
	}
	if bad != 0 {
		e.add(verdict.BadMIME, "%s", bad)
	}
	if bomb := d & (mime.Exceeded &^ mime.LargeHeader); bomb != 0 {
		e.add(verdict.MIMEBomb, "%s", bomb)
	}
}

// How much text is how much.
const (
	minHidden    = 300 // octets that HTML hides before it counts; previews of newsletters are shorter
	imageOnlyMax = 60  // letters beside images
)

// body judges text and HTML.
func (e *evidence) body(b *body) {
	letters := countLetters(b.text, imageOnlyMax+1)
	if b.html && !b.plain {
		e.add(verdict.HTMLOnly, "")
	}
	switch {
	case b.form && b.script:
		e.add(verdict.HTMLForm, "a form and a script")
	case b.form:
		e.add(verdict.HTMLForm, "a form")
	case b.script:
		e.add(verdict.HTMLForm, "a script")
	}
	if b.hidden >= minHidden && b.hidden*3 >= b.visible {
		e.add(verdict.HTMLHidden, "%d octets are hidden, %d can be seen", b.hidden, b.visible)
	}
	switch {
	case letters == 0 && b.images == 0 && len(b.parts) == 0:
		e.add(verdict.EmptyBody, "")
	case letters <= imageOnlyMax && b.images > 0 && b.images >= len(b.parts):
		e.add(verdict.ImageOnly, "")
	}
	if b.disguised != "" {
		e.add(verdict.LinkHidden, "%s", b.disguised)
	}
	if b.anchorDiffers != "" {
		e.add(verdict.LinkDiffers, "%s", b.anchorDiffers)
	}
}

// look judges the links.
func (e *evidence) look(c *Content) {
	address, mixed := "", ""
	for _, l := range c.Links {
		if l.Host == "" || l.Kind == Image {
			continue
		}
		if last := l.Host[len(l.Host)-1]; last >= '0' && last <= '9' || strings.IndexByte(l.Host, ':') >= 0 {
			if ip, err := netip.ParseAddr(l.Host); err == nil && address == "" {
				address = ip.String()
			}
		}
		if mixed == "" && strings.Contains(l.Host, "xn--") && mixedWord(toUnicode(l.Host)) != "" {
			mixed = l.Host
		}
	}
	if address != "" {
		e.add(verdict.LinkAddress, "%s", address)
	}
	if mixed != "" {
		e.add(verdict.MixedScripts, "the host of a link, %s", mixed)
	}
}

// countLetters counts letters and digits up to limit.
func countLetters(text []byte, limit int) int {
	n := 0
	for text = text[:min(len(text), 8<<10)]; len(text) > 0 && n < limit; {
		r, size := utf8.DecodeRune(text)
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			n++
		}
		text = text[size:]
	}
	return n
}

// compareShown notes a link whose text is an address on the web of another owner.
func (b *body) compareShown(l Link) {
	if b.anchorDiffers != "" || l.Host == "" || len(l.Shown) < 4 || strings.IndexByte(l.Shown, '.') < 0 || strings.ContainsAny(l.Shown, " @") {
		return
	}
	shown := strings.TrimRight(l.Shown, ".,;:!)")
	scheme, rest := cutScheme(shown)
	switch {
	case special(scheme) && strings.HasPrefix(rest, "//"):
	case scheme != "" && !strings.Contains(scheme, "."):
		return
	default:
		shown = "http://" + shown
	}
	host, _ := hostOf(shown)
	if !plausible(host) {
		return
	}
	if a, c := registrable(host), registrable(l.Host); a != c {
		b.anchorDiffers = "it shows " + clip(a, 80) + " and leads to " + clip(c, 80)
	}
}

// plausible reports a name that a person takes for a host: a file name such as report.doc or a
// version is none.
func plausible(host string) bool {
	i := strings.LastIndexByte(host, '.')
	if i < 1 || i+1 == len(host) {
		return false
	}
	return icann(host) || strings.Count(host, ".") == 3 && host[len(host)-1] <= '9'
}
