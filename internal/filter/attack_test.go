package filter_test

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/intake"
)

// patience is how long a hostile message may take, on a busy machine with the race detector and a
// slow disk; work that grows with the square of a message takes far longer.
const patience = 2 * time.Minute

// once runs on one database: what is attacked here does not depend on which.
func once(t *testing.T, fn func(d db.Database)) {
	t.Helper()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, rooms()); err != nil {
		t.Fatal(err)
	}
	fn(d)
}

func head(extra, from string) string {
	return extra + "From: " + from + "\r\nTo: ala@example.org\r\nSubject: minutes\r\nDate: Mon, 23 Nov 2026 11:59:00 +0000\r\nMessage-ID: <1@good.test>\r\nMIME-Version: 1.0\r\n"
}

func typed(kind, body string) string {
	return head("", "jan@good.test") + "Content-Type: " + kind + "\r\n\r\n" + body
}

func deep(n int) string {
	var b strings.Builder
	b.WriteString(head("", "jan@good.test"))
	for i := range n {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	return b.String() + "\r\nend\r\n"
}

func attached(name string, octets []byte) string {
	text := base64.StdEncoding.EncodeToString(octets)
	var b strings.Builder
	for len(text) > 76 {
		b.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	return typed("multipart/mixed; boundary=b", "--b\r\n\r\nsee there\r\n--b\r\nContent-Type: application/zip\r\nContent-Disposition: attachment; filename=\""+name+
		"\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"+b.String()+text+"\r\n--b--\r\n")
}

func zipped(t *testing.T, name string, files int, octets []byte) []byte {
	t.Helper()
	var once, b bytes.Buffer // what is in all of them is deflated once
	deflate, err := flate.NewWriter(&once, flate.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	_, werr := deflate.Write(octets)
	if err := errors.Join(werr, deflate.Close()); err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(&b)
	head := zip.FileHeader{Method: zip.Deflate, Flags: 0x8, CRC32: crc32.ChecksumIEEE(octets), CompressedSize64: uint64(once.Len()), UncompressedSize64: uint64(len(octets))} // 0x8: the sizes follow, as Create has it
	for i := range files {
		head := head
		head.Name = fmt.Sprintf("%d%s", i, name)
		f, err := w.CreateRaw(&head)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(once.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestBombs: whatever the message, it is judged in bounded time and has one fate, or is refused.
func TestBombs(t *testing.T) {
	t.Parallel()
	zeros := make([]byte, 32<<20)
	bomb := zipped(t, ".txt", 8, zeros)
	nested := bomb
	for range 12 {
		nested = zipped(t, ".zip", 2, nested)[:]
		if len(nested) > 4<<20 {
			break
		}
	}
	flood := func(field string, n int) string { return strings.Repeat(field+"\r\n", n) }
	bombs := []struct {
		name, msg string
		refused   int // 0: taken
	}{
		{"deep", deep(20000), 0},
		{"many parts", typed("multipart/mixed; boundary=b", strings.Repeat("--b\r\n\r\nx\r\n", 300000)), 0},
		{"many messages in messages", typed("message/rfc822", strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 30000)), 0},
		{"boundary of the parent", typed("multipart/mixed; boundary=b", strings.Repeat("--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n", 50000)), 0},
		{"boundaries that begin alike", typed("multipart/mixed; boundary="+strings.Repeat("a", 70), strings.Repeat("--"+strings.Repeat("a", 69)+"\r\n", 100000)), 0},
		{"no boundary", typed("multipart/mixed", "--\r\n\r\nx\r\n----\r\n"), 0},
		{"boundary without end", typed("multipart/mixed; boundary=\""+strings.Repeat("x", 200000), "--x\r\n"), 0},
		{"parameters", typed("text/plain"+strings.Repeat("; a=b", 150000), "x\r\n"), 0},
		{"continued parameters", typed("text/plain"+strings.Repeat("; name*0*=utf-8''%41", 40000), "x\r\n"), 0},
		{"charset unknown", typed("text/plain; charset=x-klingon", strings.Repeat("\xff\xfe\x00\x80", 100000)), 0},
		{"charset that shifts", typed("text/plain; charset=iso-2022-jp", strings.Repeat("\x1b$B\x1b(B", 200000)), 0},
		{"charset of 7 bits", typed("text/plain; charset=utf-7", strings.Repeat("+AGEA", 200000)), 0},
		{"one line", typed("text/html", strings.Repeat("<a href=http://a.test/>", 200000)), 0},
		{"elements in elements", typed("text/html", strings.Repeat("<div><span style='display:none'>", 100000)), 0},
		{"comment without end", typed("text/html", strings.Repeat("<!-- <![CDATA[ <a href=\"", 100000)), 0},
		{"entities", typed("text/html", strings.Repeat("&#x110000;&nbsp", 200000)), 0},
		{"soft line ends", typed("text/plain\r\nContent-Transfer-Encoding: quoted-printable", strings.Repeat("=\r\n", 500000)), 0},
		{"spaces before line ends", typed("text/plain\r\nContent-Transfer-Encoding: quoted-printable", strings.Repeat(strings.Repeat(" ", 10000)+"x", 200)), 0},
		{"field flood", flood("X: y", 100000) + letter("jan@good.test", "x"), 0},
		{"lines that are no fields", flood("nonsense", 50000) + letter("jan@good.test", "x"), 0},
		{"header of 10 MB", flood("X-Filler: "+strings.Repeat("x", 60), 150000) + letter("jan@good.test", "x"), 552},
		{"a field of a MB", "X: " + strings.Repeat("\r\n y", 200000) + "\r\n" + letter("jan@good.test", "x"), 0},
		{"authors", letter(strings.Repeat("a@b.test, ", 60000)+"jan@good.test", "x"), 0},
		{"author's comments", letter(strings.Repeat("(", 300000)+"jan@good.test", "x"), 0},
		{"author's groups", letter(strings.Repeat("g:a@b.test;,", 50000)+"jan@good.test", "x"), 0},
		{"encoded words", "X-Y: z\r\nSubject: " + strings.Repeat("=?utf-8?q?=41?= ", 25000) + "\r\n" + letter(strings.Repeat("=?utf-7?b?QUFB?= ", 30000)+"<jan@good.test>", "x"), 0},
		{"signatures", flood("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=good.test; s=x; h="+strings.Repeat("from:", 100)+"from; bh=AAAA; b=AAAA", 1000) + letter("jan@good.test", "x"), 0},
		{"chains", chains(200) + letter("jan@good.test", "x"), 0},
		{"results", flood("Authentication-Results: (((((mx.example.org 1; dmarc=pass", 10000) + letter("jan@good.test", "x"), 0},
		{"zip bomb", attached("a.zip", bomb), 0},
		{"zip bombs in zips", attached("a.zip", nested), 0},
		{"zip of many files", attached("a.zip", zipped(t, ".txt", 20000, nil)), 0},
		{"zip cut off", attached("a.zip", bomb[:len(bomb)/2]), 0},
		{"empty", "", 451},
		{"an empty line", "\r\n", 451},
		{"NULs", strings.Repeat("\x00", 200000), 451},
	}
	for _, b := range bombs {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			once(t, func(d db.Database) {
				h := newHouse(t, d, nil)
				began := time.Now()
				got, err := h.receive("192.0.2.1", "jan@good.test", b.msg, ala)
				if took := time.Since(began); took > patience {
					t.Errorf("it took %s", took)
				} else if took > time.Second {
					t.Logf("it took %s", took)
				}
				switch {
				case code(err) != b.refused:
					t.Errorf("got %v, want %d", err, b.refused)
				case err == nil && (got == nil || len(got.Locals) != 1 || !strings.Contains(string(got.Locals[0].Prefix), intake.VerdictField+": ")):
					t.Errorf("accepted %+v", got)
				case err == nil:
					t.Logf("%s", got.Locals[0].Prefix)
				}
			})
		})
	}
}

func chains(n int) string {
	var b strings.Builder
	for i := n; i > 0; i-- {
		fmt.Fprintf(&b, "ARC-Seal: i=%d; a=rsa-sha256; cv=pass; d=good.test; s=x; b=AAAA\r\nARC-Message-Signature: i=%d; a=rsa-sha256; d=good.test; s=x; h=from; bh=AAAA; b=AAAA\r\nARC-Authentication-Results: i=%d; good.test; dmarc=pass\r\n", i, i, i)
	}
	return b.String()
}
