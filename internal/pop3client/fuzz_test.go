package pop3client_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/pop3client"
)

// FuzzSession: a server may say anything at all. Nothing panics, nothing waits, listings
// keep their rules, and what was said in pieces means what it means in one.
func FuzzSession(f *testing.F) {
	f.Add("+OK hi\r\n", "+OK\r\nUIDL\r\nPIPELINING\r\nSASL PLAIN\r\n.\r\n", "+OK\r\n1 10\r\n2 20\r\n.\r\n+OK\r\n1 a\r\n2 a\r\n.\r\n", "+OK\r\n..a\r\n.\r\n-ERR [SYS/TEMP] x\r\n", uint8(3))
	f.Add("+OK\n", "-ERR\n", "+OK\n1 10\n.\n", "+OK\nabc\n.\n", uint8(1))
	f.Add("+OK <1@x>\r\n", "+OK\r\n.\r\n", "+OK\r\n2 20\r\n1 10\r\n.\r\n", "+OK\r\n\r\n.\r\n+OK\r\n.\r\n", uint8(2))
	f.Fuzz(func(t *testing.T, greeting, capa, listing, messages string, piece uint8) {
		run := func(piece int) string {
			conn := &lines{replies: []string{greeting, capa, listing, messages, messages}}
			conn.piece = piece
			s, err := pop3client.Open(context.Background(), conn, pop3client.Config{MaxItems: 1000, MaxMessageOctets: 100_000})
			if err != nil {
				return "open " + check(t, err)
			}
			defer s.Close()
			var words []string
			caps, err := s.Capabilities(context.Background())
			words = append(words, fmt.Sprint(caps), check(t, err))
			items, err := s.List(context.Background())
			words = append(words, fmt.Sprint(items), check(t, err))
			legal(t, items)
			err = s.Retrieve(context.Background(), []int{1, 2}, func(n int, r io.Reader) error {
				b, err := io.ReadAll(r)
				words = append(words, fmt.Sprintf("%d %q %v", n, b, err != nil))
				return err
			})
			return strings.Join(append(words, check(t, err)), "\n")
		}
		if whole, parts := run(1<<20), run(1+int(piece)); whole != parts && !strings.Contains(whole, "more than was asked") && !strings.Contains(parts, "more than was asked") {
			t.Errorf("in one piece:\n%s\nin pieces of %d:\n%s", whole, piece, parts)
		}
	})
}

// check holds an error's text to its limits and returns it.
func check(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	text := err.Error()
	if len(text) > 3*pop3client.MaxText || !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n\x00") {
		t.Errorf("error of %d octets: %q", len(text), text)
	}
	return text
}

// legal checks what holds for every listing.
func legal(t *testing.T, items []pop3client.Item) {
	t.Helper()
	ids := map[string]int{}
	for i, it := range items {
		ids[it.UniqueID]++
		if it.Number < 1 || i > 0 && items[i-1].Number >= it.Number || it.Octets < 0 || len(it.UniqueID) > pop3client.MaxUniqueID || it.Illegal && it.UniqueID != "" {
			t.Errorf("item %d: %+v", i, it)
		}
	}
	for _, it := range items {
		if it.UniqueID != "" && it.Shared != (ids[it.UniqueID] > 1) {
			t.Errorf("%q is told %d times, shared %v", it.UniqueID, ids[it.UniqueID], it.Shared)
		}
	}
}

// FuzzBody: what a server stuffs comes out as it went in, whatever the pieces; and for any
// octets the reader agrees with a simple one.
func FuzzBody(f *testing.F) {
	f.Add([]byte("a\r\n.b\r\n..\r\n"), uint8(1))
	f.Add([]byte(".\r\n"), uint8(2))
	f.Add([]byte("a\n.\r\nb\r\r\n.\n"), uint8(3))
	f.Fuzz(func(t *testing.T, message []byte, piece uint8) {
		read := func(text []byte) ([]byte, error) {
			conn := &pieces{text: "+OK\r\n-ERR no CAPA\r\n", then: "+OK\r\n" + string(text), piece: 1 + int(piece)}
			s, err := pop3client.Open(context.Background(), conn, pop3client.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var b bytes.Buffer
			err = s.Retrieve(context.Background(), []int{1}, func(_ int, r io.Reader) error {
				if piece%2 == 0 {
					_, err := r.(io.WriterTo).WriteTo(&b)
					return err
				}
				_, err := b.ReadFrom(r)
				return err
			})
			return b.Bytes(), err
		}
		stuffed, bareStuffed := stuff(message)
		if got, err := read(stuffed); err != nil || !bytes.Equal(got, ended(message)) {
			t.Errorf("got %q, want %q: %v", got, ended(message), err)
		}
		if got, err := read(bareStuffed); !bytes.Contains(message, []byte("\n.")) && (err != nil || !bytes.Equal(got, ended(message))) {
			t.Errorf("stuffed by package pop3: got %q, want %q: %v", got, ended(message), err)
		}
		// As it is: the first CRLF.CRLF ends it, else it is cut. What follows may be seen or not.
		got, err := read(message)
		end := bytes.Index(append([]byte("\r\n"), message...), []byte("\r\n.\r\n"))
		if err == nil && end < 0 || err != nil && end >= 0 && end+3 == len(message) {
			t.Errorf("%q: got %q: %v", message, got, err)
		}
		if want := message[:max(end, 0)]; end >= 0 && !bytes.Equal(got, unstuffed(want)) {
			t.Errorf("%q: got %q, want %q", message, got, unstuffed(want))
		}
	})
}

// stuff makes a multi-line reply of a message by the letter of RFC 1939 §3, and by package
// pop3, which also stuffs behind a bare LF.
func stuff(message []byte) (strict, ours []byte) {
	framed := append([]byte("\r\n"), ended(message)...)
	strict = append(bytes.ReplaceAll(framed, []byte("\r\n."), []byte("\r\n.."))[2:], ".\r\n"...)
	var s pop3.Stuffer
	ours = s.Append(nil, ended(message))
	return strict, s.End(ours)
}

// unstuffed takes the first dot off each line.
func unstuffed(text []byte) []byte {
	return bytes.ReplaceAll(append([]byte("\r\n"), text...), []byte("\r\n."), []byte("\r\n"))[2:]
}

// ended is the message with CRLF at its end.
func ended(message []byte) []byte {
	if len(message) == 0 || bytes.HasSuffix(message, []byte("\r\n")) {
		return message
	}
	return append(bytes.Clone(message), "\r\n"...)
}
