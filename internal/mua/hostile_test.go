package mua_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// takes stores a letter as if it had just come.
func (h *house) takes(a profile.Account, letter []byte) {
	h.t.Helper()
	staged, err := h.Store.Body().Stage(h.t.Context(), int64(len(letter)))
	h.must(err)
	defer staged.Discard()
	_, err = staged.Write(letter)
	h.must(err)
	_, err = h.Store.Add(h.t.Context(), a.ID, []mailbox.Import{{Staged: staged}}, nil)
	h.must(err)
}

// alone is a house with an account whose servers are not there.
func alone(t *testing.T) (*house, profile.Account) {
	t.Helper()
	h := newHouse(t)
	return h, h.add(&poppeer.Real{Plain: "127.0.0.1:1"}, profile.Leave)
}

// hidden finds what a terminal could take for more than text.
func hidden(text string) (at int) {
	for i, r := range text {
		if r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD") || r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return i
		}
	}
	return -1
}

// harmless fails when something was printed that a terminal could take for more than text.
func (h *house) harmless(what string) {
	h.t.Helper()
	for _, text := range []string{h.out.String(), h.err.String()} {
		if at := hidden(text); at >= 0 {
			h.t.Errorf("%s prints %q", what, text[max(0, at-40):min(len(text), at+40)])
		}
	}
}

// evil moves cursors, sets titles, turns directions, and pretends to be another line.
const evil = "\x1b]0;owned\x07\x1b[2J\r\x08\x00\x7f\u009b31m\u202egnp.exe\u2028\u200b\ufeff\xff\xfeend"

// everywhere is a letter that has evil in every place.
func everywhere() []byte {
	word := "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte(evil)) + "?="
	raw := strings.Map(func(r rune) rune {
		if r == '\r' || r == 0 {
			return -1
		}
		return r
	}, evil)
	return []byte("From: " + word + " <ola@example.org>\r\nTo: \"" + raw + "\" <ala@house.example>\r\nCc: " + word + " <x@example.org>\r\nSubject: hostile " + word + raw + "\r\n" +
		"Date: Mon, 23 Nov 2026 10:00:00 +0000" + raw + "\r\nMessage-ID: <" + raw + "@x>\r\nX-" + raw + ": " + raw + "\r\nReply-To: " + word + " <ola@example.org>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nhostile text " + raw + "\r\n" +
		"--b\r\nContent-Type: application/" + raw + "; name=\"" + word + "\"\r\nContent-Disposition: attachment; filename=\"" + raw + "\"\r\n\r\nx\r\n--b--\r\n")
}

// TestTerminal shows a letter full of control characters by every command that shows letters.
func TestTerminal(t *testing.T) {
	t.Parallel()
	h, a := alone(t)
	ctx := t.Context()
	h.takes(a, everywhere())
	id := fmt.Sprint(h.rows(mua.Listing{})[0].ID)
	folder := filepath.Join(t.TempDir(), "files")
	text := "no"
	for _, asJSON := range []bool{false, true} {
		for what, do := range map[string]func(*mua.Desk) error{
			"list":     func(d *mua.Desk) error { return d.List(ctx, mua.Listing{}) },
			"search":   func(d *mua.Desk) error { return d.List(ctx, mua.Listing{Text: "hostile"}) },
			"threads":  func(d *mua.Desk) error { return d.Threads(ctx, mua.Listing{}) },
			"read":     func(d *mua.Desk) error { return d.Read(ctx, id, mua.Reading{Save: folder}) },
			"accounts": func(d *mua.Desk) error { return d.Accounts(ctx) },
			"send": func(d *mua.Desk) error {
				return d.Send(ctx, mua.Writing{Reply: id, All: true, Text: &text, Unchecked: true, Wait: time.Hour})
			},
			"forward": func(d *mua.Desk) error { return d.Send(ctx, mua.Writing{Forward: id, Draft: true, Text: &text}) },
			"outbox":  func(d *mua.Desk) error { return d.Outgoing(ctx) },
		} {
			h.must(do(h.desk("", asJSON)))
			h.harmless(what)
			if asJSON && what != "send" && what != "forward" {
				var v any
				if err := json.Unmarshal(h.out.Bytes(), &v); err != nil {
					t.Errorf("%s --json: %v", what, err)
				}
			}
		}
	}
	var read mua.LetterText
	h.must(h.desk("", true).Read(ctx, id, mua.Reading{}))
	h.must(json.Unmarshal(h.out.Bytes(), &read))
	if !strings.Contains(read.Subject, "\u202e") || !strings.Contains(read.Text, "\u009b") {
		t.Errorf("--json does not say what the letter holds: %q", read.Subject)
	}
}

// filed is a letter with files of these names, as parameters of Content-Disposition.
func filed(params ...string) []byte {
	var b strings.Builder
	b.WriteString("From: ola@example.org\r\nSubject: files\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n")
	for i, p := range params {
		fmt.Fprintf(&b, "--b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; %s\r\n\r\nfile %d\r\n", p, i)
	}
	b.WriteString("--b--\r\n")
	return []byte(b.String())
}

// TestFileNames saves files whose names are attacks on one system or another.
func TestFileNames(t *testing.T) {
	t.Parallel()
	want := map[string]string{ // as sent: as saved
		`filename="../../x"`:                              "_.._x",
		`filename="..\\..\\x.txt"`:                        "_.._x.txt",
		`filename="/etc/passwd"`:                          "_etc_passwd",
		`filename="C:\\autoexec.bat"`:                     "C__autoexec.bat",
		`filename="CON"`:                                  "_CON",
		`filename="con.txt"`:                              "_con.txt",
		`filename="Aux .tar.gz"`:                          "_Aux .tar.gz",
		`filename="COM1"`:                                 "_COM1",
		`filename*=utf-8''LPT%C2%B9.x`:                    "_LPT¹.x",
		`filename="conin$"`:                               "_conin$",
		`filename="CONSOLE"`:                              "CONSOLE",
		`filename*=utf-8''a%00b%0D%0Ac.txt`:               "a_b__c.txt",
		`filename*=utf-8''bill%E2%80%AEfdp.exe`:           "bill_fdp.exe",
		`filename="-rf"`:                                  "_-rf",
		`filename="..."`:                                  "part-1",
		`filename=""`:                                     "part-2",
		`filename="file.txt:stream"`:                      "file.txt_stream",
		`filename="trailing. . "`:                         "trailing",
		`filename=".hidden"`:                              "hidden",
		`filename="` + strings.Repeat("a", 300) + `.pdf"`: strings.Repeat("a", 196) + ".pdf",
		`filename*=utf-8''` + strings.Repeat("%C5%BC", 150) + `.odt`: strings.Repeat("ż", 98) + ".odt",
		`filename="` + strings.Repeat("b", 1<<20-1000) + `"`:         "", // more than a header section has: whatever it is called
	}
	params := []string{`filename="..."`, `filename=""`} // these get the number of the file
	for p := range want {
		if !slices.Contains(params, p) {
			params = append(params, p)
		}
	}
	h, a := alone(t)
	h.takes(a, filed(params...))
	folder := filepath.Join(t.TempDir(), "files")
	h.must(h.desk("", false).Read(t.Context(), "1", mua.Reading{Save: folder}))
	got := map[string]string{} // by content
	list, err := os.ReadDir(folder)
	h.must(err)
	for _, f := range list {
		text, err := os.ReadFile(filepath.Join(folder, f.Name()))
		h.must(err)
		got[strings.TrimSpace(string(text))] = f.Name()
	}
	if len(list) != len(params) {
		t.Errorf("%d files were saved, want %d", len(list), len(params))
	}
	for i, p := range params {
		name := got[fmt.Sprintf("file %d", i)]
		if want[p] != "" && name != want[p] {
			t.Errorf("%.60s was saved as %q, want %q", p, name, want[p])
		}
		if name == "" || len(name) > 240 || hidden(name) >= 0 {
			t.Errorf("%.60s was saved as %.300q", p, name)
		}
	}
}

// TestManyFilesOfOneName saves more files of one name than names are tried for one.
func TestManyFilesOfOneName(t *testing.T) {
	t.Parallel()
	h, a := alone(t)
	names := make([]string, 1200)
	for i := range names {
		names[i] = `filename="a.txt"`
	}
	h.takes(a, filed(names...))
	folder := filepath.Join(t.TempDir(), "files")
	h.must(h.desk("", false).Read(t.Context(), "1", mua.Reading{Save: folder}))
	list, err := os.ReadDir(folder)
	if err != nil || len(list) != len(names) {
		t.Errorf("%d files, want %d, %v", len(list), len(names), err)
	}
}

// bomb is a zip archive that is small and says much.
func bomb(t *testing.T, inside int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range 3 {
		w, err := z.Create(fmt.Sprintf("word/document%d.xml", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(w, forever('a'), inside); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// forever reads one octet again and again.
type forever byte

func (f forever) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(f)
	}
	return len(p), nil
}

func packed(t *testing.T, octets int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.CopyN(z, forever(0), octets); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func part(kind, name string, content []byte) string {
	return "Content-Type: " + kind + "\r\nContent-Disposition: attachment; filename=\"" + name + "\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		base64.StdEncoding.EncodeToString(content) + "\r\n"
}

func deep(levels int) string {
	var b strings.Builder
	for i := range levels {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	b.WriteString("\r\nbottom\r\n")
	return b.String()
}

// TestHostileLetters takes, indexes, lists, finds, reads, answers and passes on letters that were
// made to take long or much memory.
func TestHostileLetters(t *testing.T) {
	t.Parallel()
	head := "From: ola@example.org\r\nTo: ala@house.example\r\nSubject: hostile\r\nMIME-Version: 1.0\r\n"
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	h, a := alone(t)
	for name, letter := range map[string]string{
		"References of 100 KB":        head + "References:" + many(4000, "\r\n <%d@very.long.example>") + "\r\nMessage-ID: <x@y>\r\n\r\nhostile\r\n",
		"References without an end":   head + "References: " + strings.Repeat("<", 500<<10) + "\r\n\r\nhostile\r\n",
		"a field folded at each word": head + "X-Long:" + strings.Repeat("\r\n x", 300<<10) + "\r\n\r\nhostile\r\n",
		"a subject of 900 KB":         "From: ola@example.org\r\nSubject: hostile " + strings.Repeat("=?utf-8?q?=C5=BC?= ", 45<<10) + "\r\n\r\nx\r\n",
		"ten thousand recipients":     "From: ola@example.org\r\nSubject: hostile\r\nTo: a@b.example" + many(20000, ",\r\n \"name %d\" <x@y.example>") + "\r\n\r\nx\r\n",
		"a header section of 8 MiB":   head + many(200000, "X-%d: 0123456789012345678901234567\r\n") + "\r\nhostile\r\n",
		"ten thousand files":          head + "Content-Type: multipart/mixed; boundary=b\r\n\r\nhostile\r\n" + many(10000, "--b\r\nContent-Disposition: attachment; filename=f%d\r\n\r\nx\r\n") + "--b--\r\n",
		"five thousand levels":        head + deep(5000),
		"a line of 8 MiB":             head + "\r\n" + strings.Repeat("hostile ", 1<<20) + "\r\n",
		"blanks and tabs":             head + "\r\nhostile" + strings.Repeat("\t ", 1<<20) + "\r\n",
		"quotes within quotes":        head + "\r\n" + strings.Repeat(strings.Repeat(">", 5000)+" hostile\r\n", 200),
		"a zip bomb":                  head + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + part("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "a.docx", bomb(t, 16<<20)) + "--b--\r\n",
		"a gzip bomb":                 head + part("application/gzip", "a.gz", packed(t, 64<<20)),
		"8-bit rubbish":               head + "X: \x80\xff\r\nContent-Type: text/plain; charset=\"\xff\"\r\n\r\nhostile " + strings.Repeat("\x80\xff\xfe", 1000) + "\r\n",
		"HTML that opens":             head + "Content-Type: text/html\r\n\r\nhostile" + strings.Repeat("<div><table><b>", 100<<10),
		"entities":                    head + "Content-Type: text/html\r\n\r\nhostile" + strings.Repeat("&CounterClockwiseContourIntegral;", 50<<10),
		"boundaries":                  head + "Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", 70) + "\r\n\r\nhostile\r\n" + strings.Repeat("--"+strings.Repeat("b", 69)+"\r\n", 50<<10),
		"parameters":                  head + "Content-Type: text/plain;" + many(20000, " a*%d=x;") + " charset=utf-8\r\n\r\nhostile\r\n",
	} {
		h.within(name, []byte(letter), a)
	}
	h.must(h.desk("", false).Export(t.Context(), "-", "mbox", mua.Listing{Folder: store.Inbox}))
}

// within does all that is done with a letter, in a time that a person would wait.
func (h *house) within(name string, letter []byte, a profile.Account) {
	h.t.Helper()
	ctx := h.t.Context()
	text := "no"
	var id string
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"take", func() error { h.takes(a, letter); return nil }},
		{"index", func() error { return h.Store.Catchup(ctx, nil) }},
		{"list", func() error {
			last := store.LetterID(0)
			for _, r := range h.rows(mua.Listing{Folder: store.Inbox}) {
				last = max(last, r.ID)
			}
			id = fmt.Sprint(last)
			return nil
		}},
		{"search", func() error { return h.desk("", false).List(ctx, mua.Listing{Text: "subject:hostile"}) }},
		{"read", func() error { return h.desk("", false).Read(ctx, id, mua.Reading{}) }},
		{"read as JSON", func() error { return h.desk("", true).Read(ctx, id, mua.Reading{}) }},
		{"answer", func() error {
			return h.desk("", false).Send(ctx, mua.Writing{Reply: id, All: true, Text: &text, Draft: true})
		}},
		{"pass on", func() error { return h.desk("", false).Send(ctx, mua.Writing{Forward: id, Text: &text, Draft: true}) }},
	} {
		begin := time.Now()
		h.must(step.do())
		if took := time.Since(begin); took > patience {
			h.t.Errorf("%s: to %s took %v", name, step.what, took.Round(time.Millisecond))
		} else if took > 500*time.Millisecond {
			h.t.Log(name, step.what, took)
		}
		h.harmless(name + ": " + step.what)
	}
}

// patience is how long a person waits for one letter, on a slow machine under the race detector.
const patience = time.Minute
