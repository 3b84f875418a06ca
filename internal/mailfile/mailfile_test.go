package mailfile_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailfile"
)

// read is a message with its octets.
type read struct {
	mailfile.Message
	text     string
	repaired int64
}

func readAll(t *testing.T, path string, o mailfile.Options) []read {
	t.Helper()
	s, err := mailfile.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var all []read
	for m, err := range s.Messages() {
		if err != nil {
			t.Errorf("%s: %v", m.Name, err)
			continue
		}
		text, err := io.ReadAll(m.Body)
		if err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		r := read{m, string(text), m.Body.Repaired()}
		r.Body = nil
		all = append(all, r)
	}
	if s.Done() != s.Total() {
		t.Errorf("done %d of %d octets at the end", s.Done(), s.Total())
	}
	return all
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
	return name
}

func texts(all []read) []string {
	var s []string
	for _, r := range all {
		s = append(s, r.text)
	}
	return s
}

func TestMbox(t *testing.T) {
	t.Parallel()
	const from = "From a@example.org Sun Jan 23 20:41:55 2022\n"
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"empty":              {"", nil},
		"one":                {from + "A: b\n\ntext\n\n", []string{"A: b\r\n\r\ntext\r\n"}},
		"no blank at end":    {from + "A: b\n\ntext\n", []string{"A: b\r\n\r\ntext\r\n"}},
		"no line end":        {from + "A: b\n\ntext", []string{"A: b\r\n\r\ntext\r\n"}},
		"two":                {from + "A: b\n\n1\n\n" + from + "A: c\n\n2\n\n", []string{"A: b\r\n\r\n1\r\n", "A: c\r\n\r\n2\r\n"}},
		"blank lines stay":   {from + "A: b\n\n1\n\n\n\n" + from + "A: c\n\n", []string{"A: b\r\n\r\n1\r\n\r\n\r\n", "A: c\r\n"}},
		"CRLF":               {strings.ReplaceAll(from+"A: b\n\n1\n\n"+from+"A: c\n\n2\n\n", "\n", "\r\n"), []string{"A: b\r\n\r\n1\r\n", "A: c\r\n\r\n2\r\n"}},
		"mboxrd":             {from + "A: b\n\n>From x\n>>From y\n>from\n> From\n\n", []string{"A: b\r\n\r\nFrom x\r\n>From y\r\n>from\r\n> From\r\n"}},
		"quoted after blank": {from + "A: b\n\n1\n\n>From x\n\n", []string{"A: b\r\n\r\n1\r\n\r\nFrom x\r\n"}},
		"unquoted prose":     {from + "A: b\n\n1\n\nFrom Russia with love\nYear: 1963\n\n", []string{"A: b\r\n\r\n1\r\n\r\nFrom Russia with love\r\nYear: 1963\r\n"}},
		"no blank between":   {from + "A: b\n\n1\n" + from + "A: c\n\n2\n", []string{"A: b\r\n\r\n1\r\n", "A: c\r\n\r\n2\r\n"}},
		"Thunderbird":        {"\xef\xbb\xbfFrom - \nA: b\n\n1\n\nFrom -\nA: c\n\n2\n", []string{"A: b\r\n\r\n1\r\n", "A: c\r\n\r\n2\r\n"}},
		"undated":            {"From 1844@xxx\nA: b\n\n1\n\nFrom 1845@xxx\nA: c\n\n", []string{"A: b\r\n\r\n1\r\n", "A: c\r\n"}},
		"empty messages":     {from + "\n" + from + "\n", []string{"", ""}},
		"internal data":      {from + "Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\nx\n\n" + from + "A: c\n\n", []string{"A: c\r\n"}},
		"long lines":         {from + "A: b\n\n" + strings.Repeat("x", 200_000) + "\n\n" + from + "A: c\n\n", []string{"A: b\r\n\r\n" + strings.Repeat("x", 200_000) + "\r\n", "A: c\r\n"}},
		"large header":       {from + strings.Repeat("A: b\n", 60_000) + "\n1\n\n" + from + "A: c\n\n", []string{strings.Repeat("A: b\r\n", 60_000) + "\r\n1\r\n", "A: c\r\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := texts(readAll(t, write(t, filepath.Join(t.TempDir(), "box"), tt.text), mailfile.Options{}))
			if diff := cmp.Diff(tt.want, got); diff != "" && len(diff) < 3000 {
				t.Errorf("-want +got:\n%s", diff)
			} else if diff != "" {
				t.Errorf("got %d messages, want %d, or others", len(got), len(tt.want))
			}
		})
	}
}

func TestMboxFields(t *testing.T) {
	t.Parallel()
	text := "From a@example.org Sun Jan 23 20:41:55 2022\nStatus: RO\nX-Status: AFTD\nX-Keywords: $NotJunk,$Forwarded\nX-UIDL: abc123\nA: b\n\nx\ry\n\n" +
		"From MAILER-DAEMON Fri Sep 26 10:18:40 2025 -0700\nX-UIDL: not legal\nA: b\n\n"
	got := readAll(t, write(t, filepath.Join(t.TempDir(), "box"), text), mailfile.Options{Folder: "Old"})
	if len(got) != 2 {
		t.Fatalf("got %d messages", len(got))
	}
	want := mailfile.Message{Folder: "Old", UniqueID: "abc123", Flags: mailfile.Seen | mailfile.Answered | mailfile.Flagged | mailfile.Draft | mailfile.Deleted | mailfile.Forwarded,
		Keywords: []string{"$NotJunk"}, Received: time.Date(2022, 1, 23, 20, 41, 55, 0, time.UTC), Name: "box, message 1"}
	if diff := cmp.Diff(want, got[0].Message); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got[0].repaired != 1 || !strings.HasSuffix(got[0].text, "\r\n\r\nx\r\ny\r\n") {
		t.Errorf("repaired %d line ends in %q, want 1", got[0].repaired, got[0].text)
	}
	if got[1].UniqueID != "" || !got[1].Received.Equal(time.Date(2025, 9, 26, 17, 18, 40, 0, time.UTC)) {
		t.Errorf("got %+v", got[1].Message)
	}
}

func dovecotMaildir(t *testing.T) string {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "cur/1276528487.M364837P9451.kurkku,S=10,W=12:2,RSab"), "A: seen\n\n1\n")
	write(t, filepath.Join(dir, "cur/1276528488.M1P1.kurkku:2,"), "A: old\n\n2\n")
	write(t, filepath.Join(dir, "new/1276528489.M1P1.kurkku"), "A: new\n\n3\n")
	write(t, filepath.Join(dir, "new/.hidden"), "no mail")
	write(t, filepath.Join(dir, "tmp/1276528490.M1P1.kurkku"), "not whole")
	write(t, filepath.Join(dir, "dovecot-uidlist"), "3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1\n"+
		"25006 :1276528488.M1P1.kurkku\n12 W12 Pold-unique-id :1276528487.M364837P9451.kurkku,S=10,W=12:2,S\ntorn\n")
	write(t, filepath.Join(dir, "dovecot-keywords"), "0 $Forwarded\n1 work\n")
	write(t, filepath.Join(dir, ".Sent/cur/1:2,S"), "A: sent\n\n")
	write(t, filepath.Join(dir, ".Archiwum.&AXwA8wFC-w/cur/1:2,FTD"), "A: turtle\r\n\r\nx\r\ny\n")
	write(t, filepath.Join(dir, "fs/sub/cur/1!2,S"), "A: fs\n\n")
	write(t, filepath.Join(dir, "dovecot.index.log"), "\x00")
	return dir
}

func TestMaildir(t *testing.T) {
	t.Parallel()
	got := readAll(t, dovecotMaildir(t), mailfile.Options{})
	type row struct {
		Folder, ID, Text string
		Flags            mailfile.Flags
		Keywords         []string
	}
	var rows []row
	for _, r := range got {
		if time.Since(r.Received) > time.Hour {
			t.Errorf("%s: received %v, want the file's time", r.Name, r.Received)
		}
		rows = append(rows, row{r.Folder, r.UniqueID, r.text, r.Flags, r.Keywords})
	}
	want := []row{
		{"INBOX", "old-unique-id", "A: seen\r\n\r\n1\r\n", mailfile.Seen | mailfile.Answered | mailfile.Forwarded, []string{"work"}},
		{"INBOX", "000061ae4c0907b0", "A: old\r\n\r\n2\r\n", 0, nil},
		{"INBOX", "", "A: new\r\n\r\n3\r\n", 0, nil},
		{"Archiwum/żółw", "", "A: turtle\r\n\r\nx\r\ny\r\n", mailfile.Flagged | mailfile.Deleted | mailfile.Draft, nil},
		{"Sent", "", "A: sent\r\n\r\n", mailfile.Seen, nil},
		{"fs/sub", "", "A: fs\r\n\r\n", mailfile.Seen, nil},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got[3].repaired != 1 {
		t.Errorf("repaired %d line ends of a CRLF file with one LF, want 1", got[3].repaired)
	}
	other := readAll(t, dovecotMaildir(t), mailfile.Options{UIDLFormat: "UID%u-%v"})
	if other[1].UniqueID != "UID25006-1275660208" {
		t.Errorf("with a format of its own: got %q", other[1].UniqueID)
	}
}

// TestMaildirDangers: links out of the folder, pipes and folders among files must
// not be followed, block or end the import.
func TestMaildirDangers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := write(t, filepath.Join(t.TempDir(), "secret"), "secret")
	write(t, filepath.Join(dir, "cur/1:2,"), "A: b\n\n")
	write(t, filepath.Join(dir, "cur/3/x"), "")
	if err := errors.Join(os.Symlink(secret, filepath.Join(dir, "cur/2:2,")), os.Symlink("/etc", filepath.Join(dir, ".etc"))); err != nil {
		t.Fatal(err)
	}
	s, err := mailfile.Open(dir, mailfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var good, bad int
	for m, err := range s.Messages() {
		if err != nil {
			bad++
			continue
		}
		good++
		text, _ := io.ReadAll(m.Body)
		if strings.Contains(string(text), "secret") {
			t.Error("a symbolic link was followed out of the folder")
		}
	}
	if good != 1 || bad != 1 {
		t.Errorf("got %d messages and %d errors, want 1 and 1", good, bad)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{
		"no mbox": write(t, filepath.Join(t.TempDir(), "x"), "hello\n"),
		"nothing": t.TempDir(),
		"device":  "/dev/null",
	} {
		if _, err := mailfile.Open(path, mailfile.Options{}); !errors.Is(err, mailfile.ErrFormat) {
			t.Errorf("%s: got %v, want ErrFormat", name, err)
		}
	}
	if _, err := mailfile.Open(filepath.Join(t.TempDir(), "none"), mailfile.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}

// TestRoundTrip writes each format and reads it again.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	messages := []read{
		{Message: mailfile.Message{Folder: "INBOX", UniqueID: "id1", Flags: mailfile.Seen | mailfile.Flagged | mailfile.Forwarded, Keywords: []string{"$label1", "work"}, Received: time.Unix(1700000000, 0).UTC()}, text: "A: b\r\n\r\nFrom me\r\n>From you\r\n.\r\n\r\n\r\n"},
		{Message: mailfile.Message{Folder: "INBOX", UniqueID: "id2", Received: time.Unix(1700000001, 0).UTC()}, text: "A: b\r\n\r\n" + strings.Repeat("x", 100_000) + "\r\n"},
		{Message: mailfile.Message{Folder: "Praca/żółw", UniqueID: "id3", Flags: mailfile.Answered | mailfile.Draft | mailfile.Deleted, Keywords: []string{"work"}, Received: time.Unix(1700000002, 0).UTC()}, text: "A: b\r\n\r\n"},
	}
	for name, create := range map[string]func(string) (mailfile.Writer, string, error){
		"mbox": func(dir string) (mailfile.Writer, string, error) {
			f, err := os.Create(filepath.Join(dir, "box"))
			return mailfile.NewMboxWriter(f), f.Name(), err
		},
		"Maildir": func(dir string) (mailfile.Writer, string, error) {
			w, err := mailfile.CreateMaildir(filepath.Join(dir, "Maildir"))
			return w, filepath.Join(dir, "Maildir"), err
		},
		"eml": func(dir string) (mailfile.Writer, string, error) {
			w, err := mailfile.CreateEML(filepath.Join(dir, "eml"))
			return w, filepath.Join(dir, "eml"), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, path, err := create(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				if err := w.Add(m.Message, strings.NewReader(m.text)); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			got := readAll(t, path, mailfile.Options{})
			if len(got) != len(messages) {
				t.Fatalf("got %d messages, want %d", len(got), len(messages))
			}
			byText := map[string]read{}
			for _, g := range got {
				byText[g.text] = g
			}
			for _, m := range messages {
				g, ok := byText[m.text]
				want := m.Message
				switch name {
				case "mbox":
					want.Folder = "INBOX"
				case "eml":
					want.UniqueID, want.Flags, want.Keywords = "", 0, nil
				}
				g.Name, g.Received = "", g.Received.UTC()
				if len(g.Keywords) == 0 {
					g.Keywords = nil
				}
				if diff := cmp.Diff(want, g.Message); !ok || diff != "" {
					t.Errorf("%s: found %v, -want +got:\n%s", m.UniqueID, ok, diff)
				}
			}
		})
	}
}

// testdata finds foreign test material.
func testdata(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("POCZTA_TESTDATA")
	if dir == "" {
		dir = "../../../shared/testdata"
	}
	dir = filepath.Join(dir, "mbox")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	return dir
}

func TestForeign(t *testing.T) {
	t.Parallel()
	dir := testdata(t)
	for name, want := range map[string]int{"mimekit/unmunged.mbox.txt": 2, "mimekit/simple.mbox.txt": 3, "mimekit/issue1189.mbox.txt": 4, "mox/importtest.mbox": 2} {
		got := readAll(t, filepath.Join(dir, name), mailfile.Options{})
		if len(got) != want {
			t.Errorf("%s: %d messages, want %d", name, len(got), want)
		}
		for _, r := range got {
			if strings.Contains(strings.ReplaceAll(r.text, "\r\n", ""), "\n") || !strings.Contains(r.text, ":") {
				t.Errorf("%s, %s: bare line ends, or no header", name, r.Name)
			}
		}
	}
	got := readAll(t, unpack(t, filepath.Join(dir, "mox/importtest.maildir.tgz")), mailfile.Options{})
	if len(got) != 2 || got[0].Flags != mailfile.Seen|mailfile.Answered|mailfile.Flagged|mailfile.Forwarded || got[1].Flags != mailfile.Deleted {
		t.Errorf("mox's Maildir: got %+v", got)
	}
}

func unpack(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return filepath.Join(dir, "maildir")
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(filepath.Join(dir, h.Name), 0o755)
		} else {
			text, _ := io.ReadAll(r)
			write(t, filepath.Join(dir, h.Name), string(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestMemory reads a large mbox message by message: nothing of it may stay. Not
// parallel: it measures the process.
func TestMemory(t *testing.T) {
	var box bytes.Buffer
	for i := range 2000 {
		fmt.Fprintf(&box, "From a@b Sun Jan 23 20:41:55 2022\nSubject: %d\n\n%s\n", i, strings.Repeat(strings.Repeat("x", 76)+"\n", 200))
	}
	path := write(t, filepath.Join(t.TempDir(), "box"), box.String())
	box = bytes.Buffer{}
	s, err := mailfile.Open(path, mailfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	count := 0
	for m, err := range s.Messages() {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, m.Body); err != nil {
			t.Fatal(err)
		}
		if count++; count == 1500 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			if grown := int64(now.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
				t.Errorf("heap grew by %d octets while reading", grown)
			}
		}
	}
	if count != 2000 {
		t.Errorf("read %d messages, want 2000", count)
	}
}

// FuzzMbox: what is read never panics or loops, lines end with CRLF, and writing
// and reading again gives the same messages.
// TestSingleEML reads one .eml file, whatever lies beside it.
func TestSingleEML(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "one.EML"), "Subject: one\n\nFrom here\n")
	write(t, filepath.Join(dir, "two.eml"), "Subject: two\n\nx\n")
	got := readAll(t, filepath.Join(dir, "one.EML"), mailfile.Options{})
	if len(got) != 1 || got[0].text != "Subject: one\r\n\r\nFrom here\r\n" || got[0].Folder != mailfile.Inbox {
		t.Errorf("got %+v, want the one message", got)
	}
}

func FuzzMbox(f *testing.F) {
	f.Add([]byte("A: b\n\nFrom x\n>From y\n\n\nFrom a@b Sun Jan 23 20:41:55 2022\nC: d\n\n"))
	f.Add([]byte("From -\nA: b\n\r\r\n\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		path := filepath.Join(t.TempDir(), "box")
		if err := os.WriteFile(path, append([]byte("From a@b Sun Jan 23 20:41:55 2022\n"), body...), 0o600); err != nil {
			t.Fatal(err)
		}
		first := readAll(t, path, mailfile.Options{})
		var out bytes.Buffer
		w := mailfile.NewMboxWriter(&out)
		for _, m := range first {
			if bare := strings.ReplaceAll(m.text, "\r\n", ""); strings.ContainsAny(bare, "\r\n") {
				t.Fatalf("bare line end in %q", m.text)
			}
			if err := w.Add(mailfile.Message{}, strings.NewReader(m.text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		second := readAll(t, path, mailfile.Options{})
		if len(second) != len(first) {
			t.Fatalf("%d messages written, %d read: %q", len(first), len(second), out.Bytes())
		}
		for i := range first {
			want := first[i].text
			if got := strings.TrimPrefix(second[i].text, "Status: O\r\n"); got != want {
				t.Fatalf("message %d: wrote %q, read %q", i, want, got)
			}
		}
	})
}

// TestNamesOfOctets reads folders and files whose names are no UTF-8, and is not
// held up by pipes in place of Dovecot's own files.
func TestNamesOfOctets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "cur", "1.\xff\x1b[31m:2,S"), "A: b\n\n")
	write(t, filepath.Join(dir, ".Za\xbf\xf3\xb3\xe6", "cur", "2"), "A: c\n\n")
	for _, name := range []string{"dovecot-uidlist", "dovecot-keywords"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := mailfile.Open(dir, mailfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var folders, faults []string
	for m, err := range s.Messages() {
		if err != nil {
			faults = append(faults, err.Error())
			continue
		}
		folders = append(folders, m.Folder)
	}
	if diff := cmp.Diff([]string{"INBOX", "Za?"}, folders); diff != "" {
		t.Error(diff)
	}
	if len(faults) != 2 || !strings.Contains(faults[0], "not a regular file") {
		t.Errorf("faults %q, want one for each pipe", faults)
	}
	letters := t.TempDir()
	write(t, filepath.Join(letters, "a\xff", "1.eml"), "A: b\n\n")
	if all := readAll(t, letters, mailfile.Options{}); len(all) != 1 || all[0].Folder != "a?" {
		t.Errorf("letters: %+v", all)
	}
}
