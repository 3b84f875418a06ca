// Package sanitize makes the HTML of letters safe to show: no script, no form, no style that could
// reach out of its place or load something, no remote image unless the person asked for it. It is an
// allow-list (bluemonday) behind a pass of our own that decides about every address; a page that
// shows the result still puts it into a sandboxed frame with a policy of its own.
package sanitize

import (
	"encoding/base64"
	"net/url"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Bounds of what is shown.
const (
	MaxOctets  = 2 << 20   // of HTML that is read
	maxDepth   = 200       // of elements within each other
	maxData    = 128 << 10 // octets of an image in a data: URL, encoded
	maxLinks   = 2000      // whose text is compared with where they lead
	maxShown   = 200       // octets of a link's text that are compared
	trackerPix = 3         // an image at most so wide or high is there to be counted
)

// Options say what may be shown.
type Options struct {
	// Remote lets images be loaded from where they are. Otherwise nothing is loaded from anywhere.
	Remote bool
	// CID returns the address, a path on our own page, of a part of the letter by its Content-ID
	// (RFC 2392); "" when there is none. Nil shows none.
	CID func(id string) string
}

// Result is safe HTML and what was found on the way to it.
type Result struct {
	HTML      string // a fragment
	Blocked   int    // remote images that were not loaded
	Trackers  int    // of all remote images those that show nothing
	Deceptive int    // links whose text names another host than they lead to
	Cut       bool   // there was more than MaxOctets
}

// HTML makes a letter's HTML safe. It never fails: what can't be understood is left out.
func HTML(text string, o Options) Result {
	p := &pass{o: o}
	if len(text) > MaxOctets {
		text, p.res.Cut = strings.ToValidUTF8(text[:MaxOctets], ""), true
	}
	p.run(strings.ToValidUTF8(text, "�"))
	p.res.HTML = policy.Sanitize(p.out.String())
	return p.res
}

// pass is one walk through a letter's tokens.
type pass struct {
	o     Options
	out   strings.Builder
	res   Result
	depth int
	skip  int    // within an element that is left out whole
	until string // which

	link  string // where the open link leads; "" for none
	shown strings.Builder
	links int
}

func (p *pass) run(text string) {
	z := html.NewTokenizer(strings.NewReader(text))
	z.SetMaxBuf(MaxOctets)
	for {
		switch z.Next() {
		case html.ErrorToken:
			p.endLink()
			return
		case html.TextToken:
			p.text(z.Token())
		case html.StartTagToken, html.SelfClosingTagToken:
			p.start(z.Token())
		case html.EndTagToken:
			p.end(z.Token())
		}
	}
}

// left out with all they hold, beside what the policy leaves out.
var whole = map[atom.Atom]bool{atom.Script: true, atom.Style: true, atom.Title: true, atom.Template: true, atom.Noscript: true, atom.Iframe: true,
	atom.Object: true, atom.Embed: true, atom.Svg: true, atom.Math: true, atom.Select: true, atom.Textarea: true, atom.Audio: true, atom.Video: true, atom.Noembed: true, atom.Noframes: true, atom.Xmp: true, atom.Plaintext: true}

// void have no end tag.
var void = map[atom.Atom]bool{atom.Area: true, atom.Base: true, atom.Br: true, atom.Col: true, atom.Embed: true, atom.Hr: true, atom.Img: true,
	atom.Input: true, atom.Link: true, atom.Meta: true, atom.Source: true, atom.Track: true, atom.Wbr: true}

func (p *pass) text(t html.Token) {
	if p.skip > 0 {
		return
	}
	p.out.WriteString(t.String())
	if p.link != "" && p.shown.Len() < maxShown {
		p.shown.WriteString(t.Data)
	}
}

func (p *pass) start(t html.Token) {
	if p.skip > 0 {
		if t.Data == p.until && t.Type == html.StartTagToken {
			p.skip++
		}
		return
	}
	if whole[t.DataAtom] {
		if t.Type == html.StartTagToken && !void[t.DataAtom] {
			p.skip, p.until = 1, t.Data
		}
		return
	}
	if !void[t.DataAtom] && t.Type == html.StartTagToken {
		if p.depth++; p.depth > maxDepth {
			return
		}
	}
	switch t.DataAtom {
	case atom.A:
		p.endLink()
		t.Attr = p.anchor(t.Attr)
	case atom.Img, atom.Image:
		t.Data, t.DataAtom = "img", atom.Img
		t.Attr = p.image(t.Attr)
	default:
		t.Attr = without(t.Attr, "src", "href", "background", "action", "formaction", "poster", "srcset", "data", "cite", "longdesc", "xlink:href")
	}
	if strings.ContainsAny(value(t.Attr, "style"), `\`) || strings.Contains(value(t.Attr, "style"), "/*") { // there to be read in two ways
		t.Attr = without(t.Attr, "style")
	}
	p.out.WriteString(t.String())
}

func (p *pass) end(t html.Token) {
	if p.skip > 0 {
		if t.Data == p.until {
			p.skip--
		}
		return
	}
	if whole[t.DataAtom] || void[t.DataAtom] {
		return
	}
	if p.depth--; p.depth >= maxDepth {
		return
	}
	p.depth = max(p.depth, 0)
	if t.DataAtom == atom.A {
		p.endLink()
	}
	p.out.WriteString(t.String())
}

// anchor keeps where a link leads, if that may be.
func (p *pass) anchor(attrs []html.Attribute) []html.Attribute {
	href := strings.TrimSpace(value(attrs, "href"))
	attrs = without(attrs, "href", "ping", "target", "rel", "download")
	u, err := url.Parse(href)
	if err != nil {
		return attrs
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https":
		if u.Host == "" || u.User != nil { // user@host is there to deceive
			return attrs
		}
		if p.links++; p.links <= maxLinks {
			p.link = u.Hostname()
			p.shown.Reset()
		}
	case "mailto", "tel":
	default:
		return attrs
	}
	return append(attrs, html.Attribute{Key: "href", Val: u.String()})
}

// endLink compares what a link shows with where it leads, and says where where these differ.
func (p *pass) endLink() {
	if p.link == "" {
		return
	}
	to := strings.ToLower(p.link)
	p.link = ""
	named := hostIn(p.shown.String())
	if named == "" || named == to || strings.HasSuffix(to, "."+named) || strings.HasSuffix(named, "."+to) {
		return
	}
	p.res.Deceptive++
	p.out.WriteString(` <span class="leads-to">[→ ` + html.EscapeString(to) + `]</span>`)
}

// hostIn is the host that a link's text names, "" for none.
func hostIn(text string) string {
	word := strings.ToLower(strings.TrimSpace(text))
	if i := strings.IndexAny(word, " \t\r\n"); i >= 0 {
		word = word[:i]
	}
	if _, rest, ok := strings.Cut(word, "://"); ok {
		word = rest
	}
	if i := strings.IndexAny(word, "/?#:"); i >= 0 {
		word = word[:i]
	}
	word = strings.Trim(word, ".,;()<>[]\"'")
	if i := strings.LastIndexByte(word, '.'); i <= 0 || len(word)-i < 3 || strings.ContainsAny(word, "@%&=!*+") {
		return ""
	}
	return word
}

// image decides about an image's address.
func (p *pass) image(attrs []html.Attribute) []html.Attribute {
	src := strings.TrimSpace(value(attrs, "src"))
	attrs = without(attrs, "src", "srcset", "sizes", "loading", "class", "usemap", "longdesc", "lowsrc", "dynsrc", "crossorigin", "referrerpolicy")
	scheme, rest, _ := strings.Cut(src, ":")
	switch strings.ToLower(scheme) {
	case "cid":
		if p.o.CID == nil {
			return attrs
		}
		id, err := url.PathUnescape(rest)
		if err != nil {
			return attrs
		}
		if to := p.o.CID(id); strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//") {
			return append(attrs, html.Attribute{Key: "src", Val: to})
		}
	case "data":
		if picture(rest) {
			return append(attrs, html.Attribute{Key: "src", Val: src})
		}
	case "http", "https":
		u, err := url.Parse(src)
		if err != nil || u.Host == "" || u.User != nil {
			return attrs
		}
		if tiny(attrs) {
			p.res.Trackers++
			if p.o.Remote { // what shows nothing isn't loaded even then
				return attrs
			}
		}
		if p.o.Remote {
			return append(attrs, html.Attribute{Key: "src", Val: u.String()})
		}
		p.res.Blocked++
		return append(attrs, html.Attribute{Key: "class", Val: "blocked"})
	}
	return attrs
}

// picture reports a data: URL, without its scheme, of a small image that can't hold a script.
func picture(s string) bool {
	head, data, ok := strings.Cut(s, ",")
	if !ok || len(data) > maxData {
		return false
	}
	switch strings.ToLower(strings.ReplaceAll(head, " ", "")) {
	case "image/png;base64", "image/jpeg;base64", "image/jpg;base64", "image/gif;base64", "image/webp;base64":
	default:
		return false
	}
	data = strings.Join(strings.Fields(data), "")
	_, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		_, err = base64.RawStdEncoding.DecodeString(data)
	}
	return err == nil
}

// tiny reports an image that shows nothing.
func tiny(attrs []html.Attribute) bool {
	for _, key := range []string{"width", "height"} {
		v := strings.TrimSuffix(strings.TrimSpace(value(attrs, key)), "px")
		if len(v) == 1 && v[0] >= '0' && v[0] <= '0'+trackerPix {
			return true
		}
	}
	style := strings.ToLower(strings.Join(strings.Fields(value(attrs, "style")), ""))
	for _, s := range []string{"display:none", "visibility:hidden", "width:0", "height:0", "width:1px", "height:1px", "opacity:0;"} {
		if strings.Contains(style+";", s) {
			return true
		}
	}
	return false
}

func value(attrs []html.Attribute, key string) string {
	for _, a := range attrs {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func without(attrs []html.Attribute, keys ...string) []html.Attribute {
	out := attrs[:0]
next:
	for _, a := range attrs {
		for _, k := range keys {
			if a.Key == k {
				continue next
			}
		}
		out = append(out, a)
	}
	return out
}
