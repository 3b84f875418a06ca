package digest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/digest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/preference"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/verdict"
)

const ala, ola envelope.AccountID = 1, 2

// people are two accounts; ola speaks Polish.
type people struct {
	t        *testing.T
	disabled *atomic.Bool
}

func (p people) ByID(_ context.Context, id envelope.AccountID) (account.Account, error) {
	if id > ola {
		return account.Account{}, account.ErrNotFound
	}
	state := account.Active
	if p.disabled.Load() {
		state = account.Disabled
	}
	return account.Account{ID: id, State: state, Login: posttest.Login(id), Address: posttest.Address(p.t, posttest.Login(id)), Language: map[envelope.AccountID]string{ola: "pl"}[id],
		Addresses: []address.Address{posttest.Address(p.t, posttest.Login(id))}}, nil
}

func (p people) Route(_ context.Context, to address.ForwardPath) (account.Route, error) {
	for _, id := range []envelope.AccountID{ala, ola} {
		if to.Address().String() == posttest.Login(id) {
			return account.Route{Locals: []account.Local{{Account: id, Login: posttest.Login(id), Address: to.Address()}}}, nil
		}
	}
	return account.Route{}, account.ErrUnknownUser
}

// house is a whole house with a digest.
type house struct {
	*posttest.House
	q      *quarantine.Room
	wishes *preference.Preferences
	cfg    digest.Config
	people people
	*digest.Digest
}

func each(t *testing.T, fn func(t *testing.T, h *house)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, append(posttest.Components(), quarantine.Schema, digest.Schema, preference.Component()), func(t *testing.T, d db.Database) {
		h := &house{House: posttest.Open(t, d, posttest.Options{}), people: people{t, new(atomic.Bool)}}
		// Noon, so that digests are due.
		h.Clock.Advance(h.Clock.Now().UTC().Truncate(24 * time.Hour).Add(36 * time.Hour).Sub(h.Clock.Now()))
		var err error
		h.q, err = quarantine.New(quarantine.Config{DB: d, Mailboxes: h.Mailboxes, Trace: h.Trace, Queue: h.Queue, Now: h.Clock.Now})
		must(t, err)
		h.wishes, err = preference.New(preference.Config{DB: d, Now: h.Clock.Now})
		must(t, err)
		host, err := address.ParseDomain("mx.poczta.example")
		must(t, err)
		letters, err := report.New(report.Config{Hostname: host, Accepter: h.Post, Router: h.people, Now: h.Clock.Now})
		must(t, err)
		web, err := url.Parse("https://mx.poczta.example/quarantine/")
		must(t, err)
		h.cfg = digest.Config{DB: d, Quarantine: h.q, People: h.people, Wishes: h.wishes, Letters: letters, Hostname: host, From: posttest.Address(t, "poczta@mx.poczta.example"),
			Release: posttest.Address(t, "release@mx.poczta.example"), Web: web, Location: time.UTC, Now: h.Clock.Now}
		h.Digest = h.node(t)
		fn(t, h)
	})
}

// node is one more digest on the same database.
func (h *house) node(t *testing.T) *digest.Digest {
	t.Helper()
	d, err := digest.New(h.cfg)
	must(t, err)
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) setApart(t *testing.T, id envelope.AccountID, rule, text string) message.ID {
	t.Helper()
	d := h.Delivery(t, text, []envelope.AccountID{id})
	d.Locals[0].Mailbox = mailbox.Quarantine
	d.Within = h.q.Within(d, quarantine.Note{Rule: rule, Score: 12.3})
	must(t, h.Post.Accept(t.Context(), d))
	h.Clock.Advance(11 * time.Minute)
	return d.ID
}

// inbox is the octets of an INBOX's messages.
func (h *house) inbox(t *testing.T, id envelope.AccountID) (all []string) {
	t.Helper()
	d, err := h.Mailboxes.Open(t.Context(), posttest.Identity(id), true)
	must(t, err)
	defer d.Close()
	for i := range d.Len() {
		in, _, err := d.Read(t.Context(), i)
		must(t, err)
		b, err := io.ReadAll(in)
		must(t, errors.Join(err, in.Close()))
		all = append(all, string(b))
	}
	return all
}

// letter is a digest as a program reads it.
type letter struct {
	header      []byte
	text, html  string
	web, mail   []string // tokens
	stopWebLink string
}

var (
	webToken  = regexp.MustCompile(`(?m)^ {3}\S+: https://mx\.poczta\.example/quarantine/([0-9a-v]{72})\r?$`)
	mailToken = regexp.MustCompile(`mailto:release@mx\.poczta\.example\?subject=release%20([0-9a-v]{72})\r?\n`)
	stopToken = regexp.MustCompile(`List-Unsubscribe: <(https://[^>]*)>`)
)

// digest sends and reads the digest of an account.
func (h *house) digest(t *testing.T, id envelope.AccountID) letter {
	t.Helper()
	before := len(h.inbox(t, id))
	_, err := h.Send(t.Context())
	must(t, err)
	all := h.inbox(t, id)
	if len(all) != before+1 {
		t.Fatalf("%d messages came, want the digest", len(all)-before)
	}
	raw := all[before]
	root, err := mime.Parse(strings.NewReader(raw), int64(len(raw)), mime.Limits{})
	must(t, err)
	if len(root.Children) != 2 || root.Subtype != "alternative" {
		t.Fatalf("digest is %s/%s with %d parts", root.Type, root.Subtype, len(root.Children))
	}
	l := letter{header: root.Header}
	for i, to := range []*string{&l.text, &l.html} {
		b, err := io.ReadAll(root.Children[i].Text(strings.NewReader(raw)))
		must(t, err)
		*to = string(b)
	}
	for _, m := range webToken.FindAllStringSubmatch(l.text, -1) {
		l.web = append(l.web, m[1])
	}
	for _, m := range mailToken.FindAllStringSubmatch(l.text, -1) {
		l.mail = append(l.mail, m[1])
	}
	if m := stopToken.FindSubmatch(l.header); m != nil {
		l.stopWebLink = string(m[1])
	}
	return l
}

// web asks the page for a token; do is "" for GET.
func (h *house) web(t *testing.T, method, token, do string) (int, string, http.Header) {
	t.Helper()
	q := httptest.NewRequestWithContext(t.Context(), method, "https://mx.poczta.example/quarantine/"+token, strings.NewReader(url.Values{"do": {do}}.Encode()))
	if method == http.MethodPost {
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, q)
	return w.Code, w.Body.String(), w.Header()
}

const spamScore = "score 12.3 is at least 10.0"

func TestSend(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.setApart(t, ala, spamScore, posttest.Text("wanted"))
		early := h.cfg
		early.At = 13 * time.Hour
		d, err := digest.New(early)
		must(t, err)
		if n, err := d.Send(t.Context()); n != 0 || err != nil {
			t.Errorf("before its time: %d, %v", n, err)
		}
		l := h.digest(t, ala)
		if n, err := h.node(t).Send(t.Context()); n != 0 || err != nil {
			t.Errorf("another node sent %d, %v", n, err)
		}
		for name, want := range map[string]string{"Auto-Submitted": "auto-generated", "From": "Poczta <poczta@mx.poczta.example>", "Return-Path": "<>",
			"Subject": "Mail that was set apart (1)", "Reply-To": "<release@mx.poczta.example>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"} {
			if got, _ := message.Get(l.header, name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		for _, want := range []string{"1. wanted\n", "From: sender@origin.example\n", "Reason: It looks like spam. (12.3 points)\n"} {
			if !strings.Contains(strings.ReplaceAll(l.text, "\r", ""), want) {
				t.Errorf("the text lacks %q:\n%s", want, l.text)
			}
		}
		if len(l.web) != 1 || len(l.mail) != 1 || !strings.Contains(l.html, l.web[0]) || !strings.Contains(l.html, l.mail[0]) {
			t.Errorf("tokens %v and %v:\n%s", l.web, l.mail, l.html)
		}
		h.setApart(t, ala, spamScore, posttest.Text("on the same day"))
		if n, err := h.Send(t.Context()); n != 0 || err != nil {
			t.Errorf("twice a day: %d, %v", n, err)
		}
		h.Clock.Advance(24 * time.Hour)
		if l := h.digest(t, ala); strings.Contains(l.text, "1. wanted") || !strings.Contains(l.text, "on the same day") {
			t.Errorf("next day:\n%s", l.text)
		}
		h.Clock.Advance(24 * time.Hour)
		if n, err := h.Send(t.Context()); n != 0 || err != nil {
			t.Errorf("nothing is new: %d, %v", n, err)
		}
	})
}

// TestMany: what is not listed is counted, and told of once.
func TestMany(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		for range digest.MaxItems + 2 {
			h.setApart(t, ala, spamScore, posttest.Text("x"))
		}
		h.Clock.Advance(6 * time.Hour)
		l := h.digest(t, ala)
		if len(l.web) != digest.MaxItems || !strings.Contains(l.text, "Further messages that are not listed here: 2\r\n") {
			t.Errorf("%d listed:\n%s", len(l.web), l.text)
		}
		h.Clock.Advance(24 * time.Hour)
		if n, err := h.Send(t.Context()); n != 0 || err != nil {
			t.Errorf("told again: %d, %v", n, err)
		}
	})
}

// TestNodes: of several nodes at once one sends.
func TestNodes(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.setApart(t, ala, spamScore, posttest.Text("x"))
		got := make(chan int, 4)
		for range cap(got) {
			node := h.node(t)
			go func() {
				n, err := node.Send(t.Context())
				if err != nil {
					t.Error(err)
				}
				got <- n
			}()
		}
		n := 0
		for range cap(got) {
			n += <-got
		}
		if all := h.inbox(t, ala); n != 1 || len(all) != 1 {
			t.Errorf("%d sent, %d came", n, len(all))
		}
	})
}

// TestStopMeanwhile stops digests just after another node was told something else: both count.
func TestStopMeanwhile(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.setApart(t, ola, spamScore, posttest.Text("x"))
		link := h.digest(t, ola).stopWebLink
		_, err := h.wishes.Settings(t.Context(), ola) // and now they are in memory
		must(t, err)
		other, err := preference.New(preference.Config{DB: h.DB, Now: h.Clock.Now})
		must(t, err)
		must(t, other.Set(t.Context(), ola, preference.Settings{Level: preference.Strict}))
		_, err = h.Take(t.Context(), digest.Message{Account: ola, Header: []byte("Subject: stop " + link[strings.LastIndexByte(link, '/')+1:] + "\r\n\r\n")})
		must(t, err)
		if s, err := other.Settings(t.Context(), ola); err != nil || s != (preference.Settings{Level: preference.Strict, Digest: preference.No}) {
			t.Errorf("settings %+v, %v", s, err)
		}
	})
}

func TestWishes(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		must(t, h.wishes.Set(t.Context(), ala, preference.Settings{Digest: preference.No}))
		must(t, h.wishes.Set(t.Context(), ola, preference.Settings{Digest: preference.Yes}))
		for _, id := range []envelope.AccountID{ala, ola, 3} {
			h.setApart(t, id, spamScore, posttest.Text("x"))
		}
		h.cfg.Off = true
		if n, err := h.node(t).Send(t.Context()); n != 1 || err != nil {
			t.Errorf("sent %d, %v; want ola's alone", n, err)
		}
		if owing, err := h.q.Owing(t.Context(), 0, 10); err != nil || len(owing) != 0 {
			t.Errorf("still owing: %v, %v", owing, err)
		}
		if got := h.inbox(t, ola)[0]; !strings.Contains(got, "Content-Language: pl\r\n") {
			t.Errorf("ola's digest is not Polish:\n%s", got)
		}
	})
}

func TestPage(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		text := "From: \"Jan\" <jan@origin.example>\r\nSubject: wanted\r\nContent-Type: text/html\r\n\r\n<p>Hello <script>alert(1)</script>&lt;script&gt;there</p>\r\n"
		ids := map[string]message.ID{}
		for _, do := range []string{"release", "allow", "delete"} {
			ids[do] = h.setApart(t, ala, spamScore, text)
		}
		l := h.digest(t, ala)
		came := len(h.inbox(t, ala))
		for i, do := range []string{"release", "allow", "delete"} {
			for range 3 { // scanners open links
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					status, page, _ := h.web(t, method, l.web[i]+"?do="+do, do)
					if status != http.StatusOK || method == http.MethodGet && (!strings.Contains(page, "<dd>jan@origin.example (Jan)</dd>") || !strings.Contains(page, "Hello &lt;script&gt;there")) {
						t.Errorf("%s: %d %s", method, status, page)
					}
				}
			}
			if items, _, err := h.q.List(t.Context(), quarantine.Filter{Account: ala}, "", 0); err != nil || len(items) != 3-i {
				t.Fatalf("GET changed something: %v, %v", items, err)
			}
			if status, _, _ := h.web(t, http.MethodPost, l.web[i], "nonsense"); status != http.StatusBadRequest {
				t.Errorf("an unknown button: %d", status)
			}
			if status, page, _ := h.web(t, http.MethodPost, l.web[i], do); status != http.StatusOK {
				t.Errorf("%s: %d %s", do, status, page)
			}
			if status, _, _ := h.web(t, http.MethodPost, l.web[i], do); status != http.StatusNotFound {
				t.Errorf("%s again: %d", do, status)
			}
			if status, _, _ := h.web(t, http.MethodGet, l.web[i], ""); status != http.StatusNotFound {
				t.Errorf("seen after %s: %d", do, status)
			}
		}
		if got := len(h.inbox(t, ala)); got != came+2 {
			t.Errorf("%d messages were released, want 2", got-came)
		}
		list, err := h.wishes.List(t.Context(), ala, "")
		if err != nil || len(list) != 1 || list[0].Pattern != "jan@origin.example" || !list[0].Allow {
			t.Errorf("list is %+v, %v", list, err)
		}
		if status, _, _ := h.web(t, http.MethodPut, l.web[0], ""); status != http.StatusMethodNotAllowed {
			t.Errorf("PUT: %d", status)
		}
	})
}

// TestDanger: what may hold a virus is an operator's to release.
func TestDanger(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		rule := ""
		for name, row := range verdict.Rows {
			if row.Group == verdict.Danger {
				rule = string(name)
			}
		}
		h.setApart(t, ala, rule, posttest.Text("virus"))
		l := h.digest(t, ala)
		if len(l.mail) != 0 || len(l.web) != 1 {
			t.Fatalf("tokens %v and %v", l.web, l.mail)
		}
		if _, page, _ := h.web(t, http.MethodGet, l.web[0], ""); strings.Contains(page, `value="release"`) || !strings.Contains(page, `value="delete"`) {
			t.Errorf("page is %s", page)
		}
		for _, do := range []string{"release", "allow"} {
			if status, _, _ := h.web(t, http.MethodPost, l.web[0], do); status != http.StatusForbidden {
				t.Errorf("%s: %d", do, status)
			}
		}
		if status, _, _ := h.web(t, http.MethodPost, l.web[0], "delete"); status != http.StatusOK {
			t.Errorf("delete: %d", status)
		}
	})
}

// TestTokens attacks tokens.
func TestTokens(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.cfg.Wrong.Burst, h.cfg.Wrong.Every = 1000, time.Second
		h.Digest = h.node(t)
		h.setApart(t, ala, spamScore, posttest.Text("x"))
		l := h.digest(t, ala)
		good := l.web[0]
		for i := range good { // each character counts
			other := []byte(good)
			if other[i] = '0'; good[i] == '0' {
				other[i] = 'v'
			}
			if status, _, _ := h.web(t, http.MethodPost, string(other), "release"); status != http.StatusNotFound {
				t.Fatalf("changed at %d: %d", i, status)
			}
		}
		for name, token := range map[string]string{"none": "", "short": good[1:], "long": good + "0", "of mail": l.mail[0], "dots": "..", "zero": strings.Repeat("0", 72)} {
			if status, _, _ := h.web(t, http.MethodPost, token, "release"); status != http.StatusNotFound {
				t.Errorf("%s: %d", name, status)
			}
		}
		if status, _, _ := h.web(t, http.MethodGet, strings.ToUpper(good), ""); status != http.StatusOK {
			t.Errorf("in capitals: %d", status)
		}
		h.people.disabled.Store(true)
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			if status, page, _ := h.web(t, method, good, "release"); status != http.StatusNotFound || strings.Contains(page, "origin.example") {
				t.Errorf("%s for a disabled account: %d %s", method, status, page)
			}
		}
		h.people.disabled.Store(false)
		h.Clock.Advance(digest.TokenLife + time.Minute)
		if status, _, _ := h.web(t, http.MethodGet, good, ""); status != http.StatusNotFound {
			t.Errorf("too old: %d", status)
		}
	})
}

func TestWrongTokensAreLimited(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.setApart(t, ala, spamScore, posttest.Text("x"))
		good := h.digest(t, ala).web[0]
		for range 20 {
			h.web(t, http.MethodGet, "0", "")
		}
		for _, token := range []string{"0", good} {
			if status, _, header := h.web(t, http.MethodGet, token, ""); status != http.StatusTooManyRequests || header.Get("Retry-After") == "" {
				t.Errorf("%d", status)
			}
		}
		h.Clock.Advance(2 * time.Minute)
		if status, _, _ := h.web(t, http.MethodGet, good, ""); status != http.StatusOK {
			t.Errorf("later: %d", status)
		}
	})
}

// TestStrangersText: what strangers write is shown, and does nothing.
func TestStrangersText(t *testing.T) {
	tests := []struct{ name, header string }{
		{"script", "From: x@origin.example\r\nSubject: <script>alert(1)</script><img src=//evil.example/x onerror=alert(1)>\r\n"},
		{"attribute", "From: x@origin.example\r\nSubject: \"' onmouseover=alert(1) x='\r\n"},
		{"line ends in an encoded word", "From: x@origin.example\r\nSubject: =?utf-8?q?a=0D=0ABcc:_victim@example.net=0D=0A=0D=0Ahttps://mx.poczta.example/quarantine/0?=\r\n"},
		{"display-name", "From: =?utf-8?q?=3Cscript=3Ealert=281=29=3C/script=3E=0D=0AX:_y?= <x@origin.example>\r\nSubject: s\r\n"},
		{"turned text", "From: x@origin.example\r\nSubject: =?utf-8?b?4oCuZXhlLmZkcA==?=\r\n"},
		{"template", "From: x@origin.example\r\nSubject: {{.Mail}} %s %n\r\n"},
		{"broken From", "From: <<<\"></a><script>\r\nSubject: s\r\n"},
		{"no fields", ""},
		{"long", "From: x@origin.example\r\nSubject: " + strings.Repeat("ąę", 5000) + "\r\n"},
		{"broken UTF-8", "From: x@origin.example\r\nSubject: \xff\xfe\x00 x\r\n"},
		{"a command", "From: x@origin.example\r\nSubject: s\r\nContent-Type: text/html\r\n"},
	}
	each(t, func(t *testing.T, h *house) {
		for _, tt := range tests {
			h.Clock.Advance(24 * time.Hour)
			h.setApart(t, ola, spamScore, tt.header+"X-Y: z\r\n\r\n</pre><script>alert(2)</script>\r\n")
			l := h.digest(t, ola)
			if message.Count(l.header, "Bcc") != 0 || message.Count(l.header, "X") != 0 || message.Count(l.header, "Subject") != 1 {
				t.Errorf("%s: header is\n%s", tt.name, l.header)
			}
			if len(l.web) != 1 {
				t.Fatalf("%s: %d links:\n%s", tt.name, len(l.web), l.text)
			}
			_, page, header := h.web(t, http.MethodGet, l.web[0], "")
			for what, s := range map[string]string{"mail": l.html, "page": page} {
				for _, bad := range []string{"<script", "<img", "\u202e", "</pre><", `" on`, "' on"} {
					if strings.Contains(strings.ToLower(s), bad) {
						t.Errorf("%s: the %s holds %q:\n%s", tt.name, what, bad, s)
					}
				}
			}
			for _, at := range regexp.MustCompile(`(?:src|href|action)="([^"]*)"`).FindAllStringSubmatch(l.html+page, -1) {
				if !strings.HasPrefix(at[1], "https://mx.poczta.example/quarantine/") && !strings.HasPrefix(at[1], "mailto:release@mx.poczta.example?") {
					t.Errorf("%s: a link to %q", tt.name, at[1])
				}
			}
			for _, s := range strings.Split(l.text, "\n") {
				if len([]rune(s)) > 400 {
					t.Errorf("%s: a line of %d", tt.name, len(s))
				}
			}
			if header.Get("Referrer-Policy") != "no-referrer" || header.Get("Cache-Control") != "no-store" {
				t.Errorf("header is %v", header)
			}
		}
	})
}

// TestPolicy: the policy allows the page's one style.
func TestPolicy(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		_, page, header := h.web(t, http.MethodGet, "0", "")
		_, style, _ := strings.Cut(page, "<style>")
		style, _, _ = strings.Cut(style, "</style>")
		sum := sha256.Sum256([]byte(style))
		policy := header.Get("Content-Security-Policy")
		if style == "" || !strings.Contains(policy, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") || !strings.HasPrefix(policy, "default-src 'none';") {
			t.Errorf("policy %q does not fit %q", policy, style)
		}
	})
}

func TestTake(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		for range 3 {
			h.setApart(t, ala, spamScore, posttest.Text("wanted"))
		}
		l := h.digest(t, ala)
		subject := func(s string) []byte { return []byte("Subject: " + s + "\r\n") }
		quoted := "Please.\r\n\r\nOn Monday Poczta wrote:\r\nrelease " + l.mail[0] + "\r\n> release " + l.mail[1] + "\r\n"
		stranger := posttest.Address(t, "x@origin.example")
		tests := []struct {
			name string
			m    digest.Message
			n    int
			err  error
		}{
			{"nobody", digest.Message{Header: subject("release " + l.mail[0])}, 0, digest.ErrNotTheir},
			{"another account", digest.Message{Account: ola, Header: subject("release " + l.mail[0])}, 0, digest.ErrNotTheir},
			{"another account with the owner's From", digest.Message{Account: ola, From: posttest.Address(t, posttest.Login(ala)), Header: subject("release " + l.mail[0])}, 0, digest.ErrNotTheir},
			{"a proven stranger", digest.Message{From: stranger, Header: subject("release " + l.mail[0])}, 0, digest.ErrNotTheir},
			{"a token of the web", digest.Message{Account: ala, Header: subject("release " + l.web[0])}, 0, digest.ErrToken},
			{"a token to stop with", digest.Message{Account: ala, Header: subject("stop " + l.mail[0])}, 0, digest.ErrToken},
			{"an answer that quotes", digest.Message{Account: ala, Header: subject("Re: Mail that was set apart"), Text: quoted}, 0, digest.ErrNothing},
			{"automatic", digest.Message{Account: ala, Header: append(subject("release "+l.mail[0]), "Auto-Submitted: auto-replied\r\n"...)}, 0, digest.ErrNothing},
			{"by subject", digest.Message{Account: ala, Header: subject("Re: Release " + l.mail[0])}, 1, nil},
			{"again", digest.Message{Account: ala, Header: subject("release " + l.mail[0])}, 0, nil},
			{"by its first lines", digest.Message{From: posttest.Address(t, strings.ToUpper(posttest.Login(ala))), Header: subject("x"),
				Text: "\r\nrelease " + l.mail[1] + "\r\nzwolnij " + l.mail[2] + "\r\n\r\nrelease 0\r\n"}, 2, nil},
		}
		for _, tt := range tests {
			n, err := h.Take(t.Context(), tt.m)
			if n != tt.n || !errors.Is(err, tt.err) {
				t.Errorf("%s: %d, %v; want %d, %v", tt.name, n, err, tt.n, tt.err)
			}
		}
		if got := len(h.inbox(t, ala)); got != 4 {
			t.Errorf("%d messages in the INBOX, want the digest and 3", got)
		}
	})
}

func TestStop(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.setApart(t, ola, spamScore, posttest.Text("x"))
		link := h.digest(t, ola).stopWebLink
		token := strings.TrimPrefix(link, h.cfg.Web.String())
		status, page, _ := h.web(t, http.MethodGet, token, "")
		if s, err := h.wishes.Settings(t.Context(), ola); err != nil || s.Digest != "" || status != http.StatusOK || !strings.Contains(page, `value="stop"`) || !strings.Contains(page, `lang="pl"`) {
			t.Errorf("GET: %d, %+v, %v\n%s", status, s, err, page)
		}
		q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, link, strings.NewReader("List-Unsubscribe=One-Click")) // RFC 8058
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, q)
		if s, err := h.wishes.Settings(t.Context(), ola); err != nil || s.Digest != preference.No || w.Code != http.StatusOK {
			t.Errorf("one click: %d, %+v, %v", w.Code, s, err)
		}
		h.setApart(t, ola, spamScore, posttest.Text("x"))
		h.Clock.Advance(24 * time.Hour)
		if n, err := h.Send(t.Context()); n != 0 || err != nil {
			t.Errorf("sent %d, %v", n, err)
		}
	})
}

// TestLanguages: each sentence is there in each language.
func TestLanguages(t *testing.T) {
	t.Parallel()
	for _, l := range digest.Languages() {
		v := reflect.ValueOf(l)
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.String && f.Len() == 0 {
				t.Errorf("%s has no sentence for %s", v.FieldByName("Code"), v.Type().Field(i).Name)
			}
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\r\nb\u202e\u2028\x00\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := digest.Line(s)
		if strings.ContainsAny(got, "\r\n\x00\u2028\u2029\u202e\u200b") || len([]rune(got)) > 120 || !bytes.Equal([]byte(got), []byte(strings.ToValidUTF8(got, ""))) {
			t.Errorf("%q becomes %q", s, got)
		}
		if diff := cmp.Diff(got, digest.Line(got)); diff != "" {
			t.Errorf("not stable: %s", diff)
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add(strings.Repeat("0", 72))
	f.Fuzz(func(t *testing.T, s string) {
		if _, _, again, err := digest.ParseToken(s, make([]byte, 32), time.Unix(0, 0)); err == nil && !strings.EqualFold(again, s) {
			t.Errorf("%q is another form of %q", s, again)
		}
	})
}

func FuzzVerbs(f *testing.F) {
	f.Add("release "+strings.Repeat("0", 72), "release x\n")
	f.Fuzz(func(t *testing.T, subject, text string) {
		if n := digest.Verbs(fmt.Appendf(nil, "Subject: %s\r\n", subject), text); n < 0 || n > 20 {
			t.Errorf("%d commands", n)
		}
	})
}
