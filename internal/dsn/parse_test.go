package dsn_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/message"
)

// TestParseOurOwn: what we write is read.
func TestParseOurOwn(t *testing.T) {
	t.Parallel()
	for name, r := range reports(t) {
		var b bytes.Buffer
		if err := r.Write(&b); err != nil {
			t.Fatal(err)
		}
		got, err := dsn.Parse(&b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.EnvelopeID != r.EnvelopeID || got.ReportingMTA != r.ReportingMTA.String() || got.Guessed || len(got.Recipients) != len(r.Recipients) {
			t.Fatalf("%s: %+v", name, got)
		}
		if strings.TrimSpace(string(got.Header)) != strings.TrimSpace(string(r.Header)) {
			t.Errorf("%s: header %q, want %q", name, got.Header, r.Header)
		}
		for i, want := range r.Recipients {
			g := got.Recipients[i]
			if g.Final != want.Final.Address().String() || g.Original != want.Original.Address || g.Action != want.Action || g.Status != want.Status || g.RemoteMTA != want.RemoteMTA {
				t.Errorf("%s: recipient %d: %+v, want %+v", name, i, g, want)
			}
		}
	}
}

func TestParseOddities(t *testing.T) {
	t.Parallel()
	status := func(fields string) string {
		return "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n" + fields + "\r\n--b--\r\n"
	}
	for _, tt := range []struct {
		name, text string
		want       []dsn.ReturnedRecipient
	}{
		{"brackets and comment", status("Final-Recipient: RFC822; <ala@example.org> (gone)\r\nAction: Failed (x)\r\nStatus: 5.1.1 (no such user)\r\n"),
			[]dsn.ReturnedRecipient{{Final: "ala@example.org", Action: dsn.Failed, Status: dsn.Status{Class: 5, Subject: 1, Detail: 1}}}},
		{"without types", status("Final-Recipient: ala@example.org\r\nAction: failed\r\nStatus: 5.0.0\r\nDiagnostic-Code: 550 5.2.2 full\r\n"),
			[]dsn.ReturnedRecipient{{Final: "ala@example.org", Action: dsn.Failed, Status: dsn.Status{Class: 5, Subject: 2, Detail: 2}, Diagnostic: "550 5.2.2 full"}}},
		{"base64", "Content-Type: multipart/report; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
			"RmluYWwtUmVjaXBpZW50OiByZmM4MjI7IGFAYi5jCkFjdGlvbjogZGVsYXllZApTdGF0dXM6IDQuNC4xCg==\r\n--b--\r\n",
			[]dsn.ReturnedRecipient{{Final: "a@b.c", Action: dsn.Delayed, Status: dsn.Status{Class: 4, Subject: 4, Detail: 1}}}},
		{"cut off", strings.TrimSuffix(status("Final-Recipient: rfc822; a@b.c\r\nAction: failed\r\nStatus: 5.1.1\r\n"), "\r\n--b--\r\n"),
			[]dsn.ReturnedRecipient{{Final: "a@b.c", Action: dsn.Failed, Status: dsn.Status{Class: 5, Subject: 1, Detail: 1}}}},
		{"qmail", "From: MAILER-DAEMON@x.example\r\n\r\nHi. This is the qmail-send program at x.example.\r\n\r\n<ala@example.org>:\r\n192.0.2.1 failed: 550 no such user\r\n",
			[]dsn.ReturnedRecipient{{Final: "ala@example.org", Action: dsn.Failed, Status: dsn.Status{Class: 5}, Diagnostic: "192.0.2.1 failed: 550 no such user"}}},
		{"a letter", "Subject: Hi\r\n\r\nWrite to me at 192.168.5.5.5.1, ala@example.org.\r\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := dsn.Parse(strings.NewReader(tt.text))
			if tt.want == nil {
				if !errors.Is(err, dsn.ErrNoReport) {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Recipients); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// foreign is the folder of foreign test data.
func foreign(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("POCZTA_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	dir = filepath.Join(dir, name)
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("foreign test data is not here: set POCZTA_TESTDATA")
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	return dir
}

// TestForeignBounces holds how many bounces of other hosts are understood: a recipient
// and a status of the class that the expectations have. None may be understood less.
func TestForeignBounces(t *testing.T) {
	t.Parallel()
	dir := foreign(t, "bounce/sisimai")
	table, err := os.ReadFile(filepath.Join(dir, "EXPECTED.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	read := func(file string) (*dsn.Returned, error) {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return dsn.Parse(message.NewReader(f))
	}
	files := map[string]string{} // of the first recipient's status; feedback reports and vacation replies are no bounces
	for line := range strings.Lines(string(table)) {
		cols := strings.Split(strings.TrimRight(line, "\r\n"), "\t")
		if len(cols) == 6 && cols[1] == "1" && cols[4] != "feedback" && cols[4] != "vacation" {
			files[cols[0]] = cols[2]
		}
	}
	var machine, understood, class, exact int
	for name, want := range files {
		r, err := read(filepath.Join(dir, "bsd", name))
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		if !r.Guessed {
			machine++
		}
		got := r.Recipients[0]
		if got.Final+got.Original == "" || got.Status == (dsn.Status{}) {
			t.Logf("%s: %+v, want %s", name, got, want)
			continue
		}
		understood++
		if strings.HasPrefix(got.Status.String(), want[:1]) {
			class++
		} else {
			t.Logf("%s: %+v, want %s", name, got, want)
		}
		if got.Status.String() == want {
			exact++
		}
	}
	t.Logf("%d bounces: %d by their machine's part, %d with recipient and status, %d of the class expected, %d with the very status", len(files), machine, understood, class, exact)
	if len(files) < leastBounces || understood < leastUnderstood || class < leastClass || exact < leastExact {
		t.Error("fewer than before")
	}
	err = filepath.WalkDir(filepath.Dir(dir), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".eml") {
			_, _ = read(path) // must not panic
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// What TestForeignBounces has found.
const (
	leastBounces    = 252
	leastUnderstood = 225
	leastClass      = 218
	leastExact      = 172
)

// FuzzParse: nothing panics, and what is understood is bounded.
func FuzzParse(f *testing.F) {
	f.Add([]byte("Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nFinal-Recipient: rfc822; a@b.c\r\nStatus: 5.1.1\r\n--b--\r\n"))
	f.Add([]byte("\r\n<a@b.c>: 550 5.1.1 no\r\n"))
	f.Add([]byte("Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/report; boundary=x\r\n\r\n--x\r\n--x\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := dsn.Parse(bytes.NewReader(b))
		if err != nil {
			return
		}
		if len(r.Recipients) == 0 || len(r.Recipients) > dsn.MaxParseRecipients || len(r.Header) > len(b)*2+2 {
			t.Fatalf("%+v", r)
		}
		for _, x := range r.Recipients {
			if strings.ContainsAny(x.Final+x.Original+x.Diagnostic+x.RemoteMTA, "\r\n\x00") {
				t.Fatalf("%+v", x)
			}
		}
	})
}
