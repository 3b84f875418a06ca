package pop3client_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/pop3client"
)

// talk opens a session with a server that gives one reply for each command.
func talk(t *testing.T, cfg pop3client.Config, replies ...string) *pop3client.Session {
	t.Helper()
	conn := &lines{replies: append([]string{"+OK hello\r\n"}, replies...)}
	s, err := pop3client.Open(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestListing has what servers say in LIST and UIDL.
func TestListing(t *testing.T) {
	t.Parallel()
	type items = []pop3client.Item
	for _, tc := range []struct {
		name       string
		capa       string
		list, uidl string // lines, blank separated by /
		want       items
		err        error
	}{
		{name: "usual", list: "1 120/2 200", uidl: "1 whqtswO00WBw418f9t5JxYwZ/2 QhdPYR:00WBw1Ph7x7", want: items{{Number: 1, Octets: 120, UniqueID: "whqtswO00WBw418f9t5JxYwZ"}, {Number: 2, Octets: 200, UniqueID: "QhdPYR:00WBw1Ph7x7"}}},
		{name: "empty"},
		{name: "gaps and words behind", list: "3 120 octets/7\t\t200", uidl: "3 a /7  b", want: items{{Number: 3, Octets: 120, UniqueID: "a"}, {Number: 7, Octets: 200, UniqueID: "b"}}},
		{name: "no UIDL", list: "1 1", uidl: "-ERR unknown", want: items{{Number: 1, Octets: 1}}},
		{name: "UIDL offered and refused", capa: "UIDL", list: "1 1", uidl: "-ERR unknown", err: errAny},
		{name: "UIDL refused for now", list: "1 1", uidl: "-ERR [SYS/TEMP] later", err: errAny},
		{name: "some without", list: "1 1/2 2/3 3", uidl: "1 a/3 c", want: items{{Number: 1, Octets: 1, UniqueID: "a"}, {Number: 2, Octets: 2}, {Number: 3, Octets: 3, UniqueID: "c"}}},
		{name: "number alone", list: "1 1/2 2", uidl: "1/2 b", want: items{{Number: 1, Octets: 1}, {Number: 2, Octets: 2, UniqueID: "b"}}},
		{name: "any order", list: "2 2/1 1/3 3", uidl: "3 c/1 a/2 b", want: items{{Number: 1, Octets: 1, UniqueID: "a"}, {Number: 2, Octets: 2, UniqueID: "b"}, {Number: 3, Octets: 3, UniqueID: "c"}}},
		{name: "shared", list: "1 1/2 2/3 3/4 4", uidl: "1 a/2 b/3 a/4 a", want: items{{1, 1, "a", false, true}, {2, 2, "b", false, false}, {3, 3, "a", false, true}, {4, 4, "a", false, true}}},
		{name: "longer than 70", list: "1 1", uidl: "1 " + strings.Repeat("u", 255), want: items{{Number: 1, Octets: 1, UniqueID: strings.Repeat("u", 255)}}},
		{name: "too long", list: "1 1", uidl: "1 " + strings.Repeat("u", 256), want: items{{Number: 1, Octets: 1, Illegal: true}}},
		{name: "blank within", list: "1 1", uidl: "1 a b", want: items{{Number: 1, Octets: 1, Illegal: true}}},
		{name: "octets over 127", list: "1 1", uidl: "1 ż", want: items{{Number: 1, Octets: 1, Illegal: true}}},
		{name: "leading zeros", list: "01 007", uidl: "001 a", want: items{{Number: 1, Octets: 7, UniqueID: "a"}}},
		{name: "dot stuffed", list: "1 1", uidl: "1 .", want: items{{Number: 1, Octets: 1, UniqueID: "."}}},
		{name: "twice", list: "1 1/1 1", err: pop3client.ErrListing},
		{name: "twice, out of order", list: "1 1/2 1/1 1", err: pop3client.ErrListing},
		{name: "unique-id twice", list: "1 1/2 1", uidl: "1 a/1 b", err: pop3client.ErrListing},
		{name: "unique-id twice, out of order", list: "1 1/2 1", uidl: "2 a/1 b/2 c", err: pop3client.ErrListing},
		{name: "unique-id of nothing", list: "1 1", uidl: "2 a", err: pop3client.ErrListing},
		{name: "number 0", list: "0 1", err: pop3client.ErrListing},
		{name: "negative", list: "1 -1", err: pop3client.ErrListing},
		{name: "no size", list: "1", err: pop3client.ErrListing},
		{name: "words", list: "one 1", err: pop3client.ErrListing},
		{name: "too large a number", list: "4294967297 1", err: pop3client.ErrListing},
		{name: "too large a size", list: "1 99999999999999999999", err: pop3client.ErrListing},
		{name: "blank line", list: "1 1//2 2", err: pop3client.ErrListing},
		{name: "too many", list: strings.TrimSuffix(strings.Repeat("1 1/", 11), "/"), err: errAny},
		{name: "refused", list: "-ERR no", err: errAny},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, pipelining := range []bool{false, true} {
				list, uidl := multi(tc.list), multi(tc.uidl)
				replies := []string{multi(tc.capa), list, uidl}
				if pipelining {
					replies = []string{multi(strings.TrimPrefix(tc.capa+"/PIPELINING", "/")), list + uidl}
				}
				s := talk(t, pop3client.Config{MaxItems: 10}, replies...)
				got, err := s.List(t.Context())
				switch {
				case tc.err == nil && err != nil, tc.err != nil && err == nil, tc.err != nil && tc.err != errAny && !errors.Is(err, tc.err): //nolint:errorlint // a mark
					t.Errorf("pipelining %v: got %v, want %v", pipelining, err, tc.err)
				case tc.err == pop3client.ErrListing && s.Usable(): //nolint:errorlint // a mark
					t.Error("usable although its numbers can't be trusted")
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("pipelining %v (-want +got):\n%s", pipelining, diff)
				}
			}
		})
	}
}

var errAny = errors.New("any error")

// multi makes a multi-line reply of lines parted by "/", or a refusal.
func multi(text string) string {
	switch {
	case strings.HasPrefix(text, "-ERR"):
		return text + "\r\n"
	case text == "":
		return "+OK\r\n.\r\n"
	}
	return "+OK\r\n" + strings.ReplaceAll(text, "/", "\r\n") + "\r\n.\r\n"
}

// TestHugeListing bounds the memory of a listing of a million messages. It is not parallel,
// because others allocate too.
func TestHugeListing(t *testing.T) { //nolint:paralleltest // measures
	const n = 1_000_000
	var list, uidl bytes.Buffer
	list.WriteString("+OK\r\n")
	uidl.WriteString("+OK\r\n")
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&list, "%d 4096\r\n", i)
		fmt.Fprintf(&uidl, "%d %026d\r\n", i, i)
	}
	list.WriteString(".\r\n")
	uidl.WriteString(".\r\n")
	s := talk(t, pop3client.Config{}, multi("UIDL/PIPELINING"), list.String()+uidl.String())
	list, uidl = bytes.Buffer{}, bytes.Buffer{}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	items, err := s.List(t.Context())
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err != nil || len(items) != n || items[n-1].UniqueID != fmt.Sprintf("%026d", n) || items[n-1].Shared {
		t.Fatalf("%d items, %v", len(items), err)
	}
	kept := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) >> 20
	t.Logf("%v, %d MiB kept", took, kept)
	if kept > 140 {
		t.Errorf("a million items keep %d MiB", kept)
	}
	runtime.KeepAlive(items)
	runtime.KeepAlive(s)
}

// TestAllocations: retrieving allocates nothing for a message. It is not parallel, because
// others allocate too.
func TestAllocations(t *testing.T) { //nolint:paralleltest // measures
	const n = 1000
	message := "+OK 4096 octets\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n..\r\n", 50) + ".\r\n"
	allocations := func(n int) float64 {
		numbers := make([]int, n)
		for i := range numbers {
			numbers[i] = i + 1
		}
		var sum int64
		return testing.AllocsPerRun(3, func() {
			conn := &flood{lines: lines{replies: []string{"+OK\r\n", multi("PIPELINING")}}, message: message}
			s, err := pop3client.Open(t.Context(), conn, pop3client.Config{})
			if err == nil {
				err = s.Retrieve(t.Context(), numbers, func(_ int, r io.Reader) error {
					k, err := io.Copy(io.Discard, r)
					sum += k
					return err
				})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	if few, many := allocations(n), allocations(2*n); many-few > n/50 {
		t.Errorf("%v allocations for %d messages, %v for twice as many", few, n, many)
	}
}

// flood is a connection that, behind CAPA, gives a message for each command.
type flood struct {
	lines
	message string
	due     int
}

func (c *flood) Write(b []byte) (int, error) {
	if c.writes > 0 {
		c.due += bytes.Count(b, []byte("\n"))
	}
	c.writes++
	return len(b), nil
}

func (c *flood) Read(b []byte) (int, error) {
	if c.text == "" && c.due > 0 {
		c.text = c.message
		c.due--
	}
	if c.text == "" {
		return c.lines.Read(b)
	}
	n := copy(b, c.text)
	c.text = c.text[n:]
	return n, nil
}

// TestForeign reads what large providers say, collected by another client's authors.
func TestForeign(t *testing.T) {
	t.Parallel()
	root := os.Getenv("POCZTA_TESTDATA")
	if root == "" {
		root = "../../../shared/testdata"
	}
	dir := filepath.Join(root, "pop3", "mailkit-server-replies", "gmail")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") != "" && os.Getenv("POCZTA_TESTDATA") != "" {
			t.Fatal(err)
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	file := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "\r\n", "\n")
		return strings.ReplaceAll(text, "\n", "\r\n")
	}
	caps, err := talk(t, pop3client.Config{}, file("capa1")).Capabilities(t.Context())
	if diff := cmp.Diff([]string{"PLAIN", "XOAUTH2"}, caps.SASL); diff != "" || err != nil || caps.LoginDelay != 300*time.Second || !caps.ExpireTold || caps.Expire != 0 || caps.Pipelining {
		t.Errorf("capa1: %+v, %v %s", caps, err, diff)
	}
	for name, want := range map[string]error{"uidl": nil, "uidl-error1": nil, "uidl-error2": pop3client.ErrListing} {
		items, err := talk(t, pop3client.Config{}, file("capa2"), file("list")+file(name)).List(t.Context())
		if !errors.Is(err, want) || want == nil && (len(items) != 3 || items[0].Octets != 1024 || items[1].UniqueID != "102" || (items[2].UniqueID == "103") != (name == "uidl")) {
			t.Errorf("%s: %v, %v", name, items, err)
		}
	}
	one, three := file("retr1"), file("retr123")
	for name, tc := range map[string]struct {
		replies []string
		numbers []int
	}{"one": {[]string{file("capa1"), one}, []int{1}}, "three": {[]string{file("capa2"), three}, []int{1, 2, 3}}} {
		got := map[int]string{}
		err := talk(t, pop3client.Config{}, tc.replies...).Retrieve(t.Context(), tc.numbers, keep(got))
		_, text, _ := strings.Cut(one, "\r\n")
		text = strings.ReplaceAll(strings.TrimSuffix(text, ".\r\n"), "\r\n..", "\r\n.")
		for _, n := range tc.numbers {
			if got[n] != text {
				t.Errorf("%s: message %s has %d octets, want %d", name, strconv.Itoa(n), len(got[n]), len(text))
			}
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	got := map[int]string{}
	if err := talk(t, pop3client.Config{}, file("capa2"), file("retr1-parse-error")).Retrieve(t.Context(), []int{1}, keep(got)); !errors.Is(err, io.ErrUnexpectedEOF) && err != nil {
		t.Errorf("a text that is no message: %v", err)
	}
	client, server := memconn.Pair()
	defer server.Close()
	_, _ = io.WriteString(server, strings.ReplaceAll(mustRead(t, filepath.Join(dir, "..", "common", "err-greeting.txt")), "\n", "\r\n"))
	if _, err := pop3client.Open(t.Context(), client, pop3client.Config{}); pop3client.KindOf(err) != pop3client.KindRefused {
		t.Errorf("a greeting that refuses: %v", err)
	}
}

func mustRead(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
