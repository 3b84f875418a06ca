package page

import (
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"poczta.example/poczta/internal/authres"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/mua/store/extract"
	"poczta.example/poczta/internal/sanitize"
)

// Bounds of what is shown of a letter.
const (
	maxText    = 512 << 10 // octets of text
	maxField   = 2000      // octets of a field of the header section
	maxFiles   = 500       // attachments
	maxThread  = 100       // letters of a conversation that are named
	maxBodies  = 20        // readable parts of a letter
	maxMessage = 4 << 20   // octets of HTML that are read to be made safe
)

// letterView is an open letter.
type letterView struct {
	store.Summary
	Subject             string
	From                []store.Address
	ReplyTo, ToText, Cc string
	DateText, Machine   string
	AccountName         string
	FolderName          string
	Draft, Sent         bool
	Unread, Flagged     bool
	Trusted             string // who checked it
	Checks              []check
	Verdict             string
	Text                template.HTML // made by textHTML
	Snippet             string
	Frame               string // the address of the HTML, where that is shown
	HasHTML             bool
	Remote              bool
	Blocked             string // remote images that were not loaded
	Notes               []string
	Files               []fileView
	Thread              []row
	ThreadText          string
	Broken              string // why there is nothing to show
	Cut                 bool
	Fates               []string
	MayFetch            bool
}

// check is the outcome of one method of authentication.
type check struct {
	Method, Value string
	Good, Bad     bool
}

// fileView is an attachment.
type fileView struct{ Name, Type, Size, URL string }

// letter opens a letter for reading, and marks it as read.
func (v *visit) letter(w where) (*letterView, error) {
	ctx := v.r.Context()
	m, err := v.p.cfg.Store.Summary(ctx, w.Open)
	if err != nil {
		return nil, err
	}
	l := v.head(m)
	o, err := v.p.cfg.Store.Letter(ctx, w.Open)
	if err != nil {
		l.Broken = v.t.trouble(err)
		return l, nil
	}
	defer o.Close()
	v.fields(l, o.Root.Header)
	v.content(l, o, w)
	if l.Draft {
		if f, err := v.typed(ctx, w.Open); err != nil {
			return nil, err
		} else if f != nil { // since its letter was written
			l.Frame, l.HasHTML, l.Text = "", false, textHTML(f.Get("text"), v.p.gate.base)
			l.Subject = f.Get("subject")
		}
	}
	if err := v.thread(l, w); err != nil {
		return nil, err
	}
	if v.p.cfg.Outbox != nil && m.MessageID != "" && l.Sent {
		if l.Fates, err = v.fates(m.MessageID); err != nil {
			return nil, err
		}
	}
	if m.Flags&mailbox.Seen == 0 && m.Removed.IsZero() {
		_, err = v.p.cfg.Store.SetFlags(ctx, []store.LetterID{m.ID}, mailbox.Seen, 0)
	}
	return l, err
}

// head is what the summary says.
func (v *visit) head(m store.Summary) *letterView {
	at := m.Date.In(v.p.cfg.Zone)
	l := &letterView{Summary: m, Subject: m.Subject, From: m.From, DateText: v.t.long(at), Machine: at.Format(time.RFC3339), FolderName: v.t.folder(m.Folder),
		Draft: m.Folder == store.Drafts, Sent: m.Folder == store.Sent, Flagged: m.Flags&mailbox.Flagged != 0, MayFetch: v.p.cfg.Fetcher != nil}
	if l.Subject == "" {
		l.Subject = v.t.NoSubject
	}
	if a, err := v.account(m.Account); err == nil {
		l.AccountName = a.Address
	}
	return l
}

// fields are what the header section says beside.
func (v *visit) fields(l *letterView, header []byte) {
	field := func(name string) string {
		value, _ := message.Get(header, name)
		value = mime.DecodeWords(value)
		if len(value) > maxField {
			value = strings.ToValidUTF8(value[:maxField], "") + " …"
		}
		return value
	}
	l.ToText, l.Cc = field("To"), field("Cc")
	if to := field("Reply-To"); to != "" && (len(l.From) == 0 || !strings.Contains(strings.ToLower(to), strings.ToLower(l.From[0].Address))) {
		l.ReplyTo = to
	}
	a, err := v.account(l.Account)
	if err != nil {
		return
	}
	for f := range message.Fields(header) {
		if !f.Is("Authentication-Results") {
			continue
		}
		// The first alone: what stands below it may be anybody's.
		if r, err := authres.Parse(f.Value()); err == nil && trusted(a, r.ID) {
			l.Trusted = r.ID
			l.Checks = checks(r)
			l.Verdict = v.t.verdict(field("X-Poczta-Verdict"))
		}
		return
	}
}

// trusted reports whether an authserv-id is that of the account's provider: the name of its
// server, or of the account's domain. A border removes what strangers write under its own name
// (RFC 8601 §5); other names prove nothing.
func trusted(a profile.Account, id string) bool {
	_, domain, _ := strings.Cut(a.Address, "@")
	for _, name := range []string{a.Incoming.Host, a.Outgoing.Host, domain} {
		if name != "" && strings.EqualFold(name, id) {
			return true
		}
	}
	return false
}

// checks are the methods that a person has heard of.
func checks(f authres.Field) (all []check) {
	for _, r := range f.Results {
		switch r.Method {
		case "spf", "dkim", "dmarc", "arc":
			bad := r.Value == "fail" || r.Value == "softfail" || r.Value == "permerror"
			all = append(all, check{strings.ToUpper(r.Method), r.Value, r.Value == "pass", bad})
		}
		if len(all) == 8 {
			break
		}
	}
	return all
}

// content is what the letter shows: its text, or the address of its HTML, and its files.
func (v *visit) content(l *letterView, o *store.Letter, w where) {
	bodies, files := parts(o.Root)
	for i, f := range files {
		if i == maxFiles {
			break
		}
		l.Files = append(l.Files, v.file(l.ID, o, f))
	}
	for _, b := range bodies {
		l.HasHTML = l.HasHTML || b.html != nil
	}
	if l.HasHTML && !w.Plain {
		_, found := v.safe(o, bodies, w.Remote)
		w.Open = l.ID
		l.Frame = fmt.Sprintf("/letter/%d/html", l.ID)
		if l.Remote = w.Remote; l.Remote {
			l.Frame += "?images=yes"
		}
		if found.Blocked > 0 {
			l.Blocked = v.t.count(found.Blocked, nounImage)
		}
		if found.Trackers > 0 {
			l.Notes = append(l.Notes, v.t.count(found.Trackers, nounTracker))
		}
		if found.Deceptive > 0 {
			l.Notes = append(l.Notes, v.t.count(found.Deceptive, nounLink))
		}
		l.Cut = found.Cut
		return
	}
	var text strings.Builder
	for _, b := range bodies {
		if b.text == nil {
			continue
		}
		s, cut := readText(b.text, o, maxText-text.Len())
		l.Cut = l.Cut || cut
		text.WriteString(unflow(b.text, s))
	}
	if text.Len() == 0 && l.HasHTML {
		if x, err := extract.Read(o, o.Size, extract.Limits{Names: true}); err == nil {
			text.WriteString(x.Body)
		}
	}
	l.Text = textHTML(text.String(), v.p.gate.base)
}

// readText reads at most limit octets of a part's text.
func readText(p *mime.Part, o io.ReaderAt, limit int) (text string, cut bool) {
	b, err := io.ReadAll(io.LimitReader(p.Text(o), int64(max(limit, 0))+1))
	if len(b) > limit {
		b, cut = b[:max(limit, 0)], true
	}
	return strings.ToValidUTF8(string(b), "\uFFFD"), cut || err != nil
}

// body is a part that is read, in its forms.
type body struct{ text, html *mime.Part }

// parts tell what of a letter is read and what are files. Of alternatives the richest that can be
// shown counts, beside its text; what comes with HTML for its pictures is no file.
func parts(root *mime.Part) (bodies []body, files []*mime.Part) {
	var walk func(p *mime.Part)
	walk = func(p *mime.Part) {
		switch {
		case p.Multipart() && p.Subtype == "alternative":
			var b body
			for _, c := range p.Children {
				inner, more := parts(c)
				for _, i := range inner {
					if i.html != nil {
						b.html = i.html
					}
					if i.text != nil && b.text == nil {
						b.text = i.text
					}
				}
				files = append(files, more...)
			}
			if b != (body{}) {
				bodies = append(bodies, b)
			}
		case p.Multipart():
			for _, c := range p.Children {
				walk(c)
			}
		case extract.Attachment(p):
			files = append(files, p)
		case p.Type == "text" && p.Subtype == "html":
			bodies = append(bodies, body{html: p})
		case p.Type == "text":
			bodies = append(bodies, body{text: p})
		case p.Leaf() && (p.ID == "" || p.Type != "image") || !p.Leaf():
			files = append(files, p)
		}
		for _, c := range p.Children {
			if p.Leaf() { // uuencoded blocks in a text
				walk(c)
			}
		}
	}
	walk(root)
	return bodies[:min(len(bodies), maxBodies)], files
}

// number is a part's place in the letter; -1 for none of it.
func number(root, p *mime.Part) int {
	n := 0
	for q := range root.All() {
		if q == p {
			return n
		}
		n++
	}
	return -1
}

func (v *visit) file(id store.LetterID, o *store.Letter, p *mime.Part) fileView {
	root := o.Root
	n := number(root, p)
	f := fileView{Name: fileName(p, n), Type: p.Type + "/" + p.Subtype, URL: fmt.Sprintf("/letter/%d/part/%d", id, n)}
	octets := p.End - p.Body
	if p.Encoding == mime.Base64 {
		octets = octets * 3 / 4 * 76 / 78 // lines of 76 and their ends
	}
	f.Size = size(counted(octets, func() (io.ReadCloser, error) { return io.NopCloser(p.Open(o)), nil }))
	return f
}

// safe makes all HTML of a letter safe, one body below the other.
func (v *visit) safe(o *store.Letter, bodies []body, remote bool) (page string, all sanitize.Result) {
	ids := map[string]int{}
	n := 0
	for p := range o.Root.All() {
		if p.ID != "" && picture(p) {
			ids[p.ID] = n
		}
		n++
	}
	options := sanitize.Options{Remote: remote, CID: func(id string) string {
		n, ok := ids[id]
		if !ok {
			return ""
		}
		return fmt.Sprintf("/inline/%s/%d/%d", v.p.gate.seal(o.ID, n), o.ID, n)
	}}
	var out strings.Builder
	for _, b := range bodies {
		if b.html == nil {
			text, cut := readText(b.text, o, maxText)
			all.Cut = all.Cut || cut
			out.WriteString(`<div class="text">` + string(textHTML(unflow(b.text, text), v.p.gate.base)) + `</div>`)
			continue
		}
		text, cut := readText(b.html, o, maxMessage)
		r := sanitize.HTML(text, options)
		out.WriteString(`<div class="body">` + r.HTML + `</div>`)
		all.Blocked, all.Trackers, all.Deceptive, all.Cut = all.Blocked+r.Blocked, all.Trackers+r.Trackers, all.Deceptive+r.Deceptive, all.Cut || r.Cut || cut
	}
	return out.String(), all
}

// thread names the letters of the conversation.
func (v *visit) thread(l *letterView, w where) error {
	if l.Summary.Thread == 0 || w.Removed {
		return nil
	}
	page, err := v.p.cfg.Store.List(v.r.Context(), store.Query{Thread: l.Summary.Thread, Everywhere: false, Sort: store.Oldest, Limit: maxThread})
	if err != nil || len(page.Letters) < 2 {
		return err
	}
	l.ThreadText = v.t.count(len(page.Letters), nounThread)
	for _, m := range page.Letters {
		r := v.row(m, w)
		if m.Folder == store.Sent {
			r.Who = v.people(m.From, v.t.NoSender)
		}
		l.Thread = append(l.Thread, r)
	}
	return nil
}

// complete fetches the whole of a letter.
func (v *visit) complete() error {
	if err := v.form(); err != nil {
		return err
	}
	id, err := v.letterID()
	if err != nil {
		return err
	}
	m, err := v.p.cfg.Store.Summary(v.r.Context(), id)
	if err != nil {
		return err
	}
	a, err := v.account(m.Account)
	if err != nil {
		return err
	}
	if v.p.cfg.Fetcher != nil {
		if err := v.p.cfg.Fetcher.Complete(v.r.Context(), a, id); err != nil {
			v.say(flash{Text: v.t.LookFailed + ": " + v.t.trouble(err), Bad: true})
		}
	}
	return v.redirect(v.back())
}

// accountOf is a number in a form.
func accountOf(s string) envelope.AccountID {
	var id envelope.AccountID
	if _, err := fmt.Sscanf(s, "%d", &id); err != nil {
		return 0
	}
	return id
}
