package milter_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/milter"
)

// TestHostile is a table of milters that break the protocol. None of their changes comes through.
func TestHostile(t *testing.T) {
	t.Parallel()
	many := func(reply string, n int) []string {
		return append(strings.Split(strings.Repeat(reply+"\xff", n), "\xff")[:n], "c")
	}
	for name, test := range map[string]struct {
		fake *fake
		want error
	}{
		"no negotiation":             {&fake{answer: on('O', "c")}, milter.ErrProtocol},
		"short negotiation":          {&fake{answer: on('O', "O123")}, milter.ErrProtocol},
		"version 1":                  {&fake{version: 1}, milter.ErrProtocol},
		"version 7":                  {&fake{version: 7}, milter.ErrProtocol},
		"unknown changes":            {&fake{version: 6, actions: 0x200}, milter.ErrProtocol},
		"unknown steps":              {&fake{version: 6, steps: 1 << 27}, milter.ErrProtocol},
		"macro list cut":             {&fake{version: 6, lists: "\x00\x00"}, milter.ErrProtocol},
		"macro list without end":     {&fake{version: 6, lists: u32(1) + "abc"}, milter.ErrProtocol},
		"packet without command":     {&fake{answer: on('C', "raw:\x00\x00\x00\x00")}, milter.ErrProtocol},
		"packet of 4 GiB":            {&fake{answer: on('C', "raw:\xff\xff\xff\xffc")}, milter.ErrProtocol},
		"packet over the limit":      {&fake{answer: on('E', "b"+strings.Repeat("x", 1<<20))}, milter.ErrProtocol},
		"unknown reply":              {&fake{answer: on('C', "Z")}, milter.ErrProtocol},
		"another protocol":           {&fake{answer: on('O', "raw:220 mx.test ESMTP\r\n")}, milter.ErrProtocol},
		"change before the end":      {&fake{answer: on('N', "hX-A\x00b\x00")}, milter.ErrProtocol},
		"skip at mail":               {&fake{answer: on('M', "s")}, milter.ErrProtocol},
		"change not negotiated":      {&fake{version: 6, answer: on('E', "hX-A\x00b\x00", "c")}, milter.ErrProtocol},
		"new body not negotiated":    {&fake{version: 6, answer: on('E', "bx", "c")}, milter.ErrProtocol},
		"cut at connect":             {&fake{answer: on('C', "cut")}, milter.ErrUnavailable},
		"cut in a packet":            {&fake{answer: on('E', "raw:\x00\x00\x00\x09h", "cut")}, milter.ErrUnavailable},
		"cut after changes":          {&fake{answer: on('E', "hX-A\x00b\x00", "cut")}, milter.ErrUnavailable},
		"field without end":          {&fake{answer: on('E', "hX-A\x00b", "c")}, milter.ErrProtocol},
		"field with more":            {&fake{answer: on('E', "hX-A\x00b\x00c\x00", "c")}, milter.ErrProtocol},
		"field breaks out":           {&fake{answer: on('E', "hX-A\x00b\r\nBcc: x@y.test\x00", "c")}, milter.ErrProtocol},
		"field ends the header":      {&fake{answer: on('E', "hX-A\x00b\r\n\r\nbody\x00", "c")}, milter.ErrProtocol},
		"bare CR in a field":         {&fake{answer: on('E', "hX-A\x00b\rc\x00", "c")}, milter.ErrProtocol},
		"field name breaks out":      {&fake{answer: on('E', "hX: 1\r\nX-A\x00b\x00", "c")}, milter.ErrProtocol},
		"field name with colon":      {&fake{answer: on('E', "hX:A\x00b\x00", "c")}, milter.ErrProtocol},
		"field name empty":           {&fake{answer: on('E', "h\x00b\x00", "c")}, milter.ErrProtocol},
		"index negative":             {&fake{answer: on('E', "m"+u32(0xffffffff)+"X-A\x00b\x00", "c")}, milter.ErrProtocol},
		"index cut":                  {&fake{answer: on('E', "i\x00\x00", "c")}, milter.ErrProtocol},
		"recipient breaks out":       {&fake{answer: on('E', "+<a@b.test>\r\nDATA\x00", "c")}, milter.ErrProtocol},
		"recipient is no address":    {&fake{answer: on('E', "+nobody\x00", "c")}, milter.ErrProtocol},
		"parameters break out":       {&fake{answer: on('E', "2<a@b.test>\x00X\r\nY\x00", "c")}, milter.ErrProtocol},
		"reverse-path is none":       {&fake{answer: on('E', "e<a b>\x00", "c")}, milter.ErrProtocol},
		"reply of class 2":           {&fake{answer: on('E', "y250 ok\x00")}, milter.ErrProtocol},
		"reply of two classes":       {&fake{answer: on('E', "y550 4.7.1 no\x00")}, milter.ErrProtocol},
		"reply of two codes":         {&fake{answer: on('E', "y550-a\r\n551 b\x00")}, milter.ErrProtocol},
		"reply without end":          {&fake{answer: on('E', "y550 no")}, milter.ErrProtocol},
		"reply with control":         {&fake{answer: on('E', "y550 5.7.1 a\rb\x00")}, milter.ErrProtocol},
		"too many changes":           {&fake{answer: on('E', many("hX-A\x00b\x00", 21)...)}, milter.ErrProtocol},
		"too much header":            {&fake{answer: on('E', many("hX-A\x00"+strings.Repeat("b", 600)+"\x00", 10)...)}, milter.ErrProtocol},
		"too much body":              {&fake{answer: on('E', many("b"+strings.Repeat("b", 600), 10)...)}, milter.ErrProtocol},
		"progress without end":       {&fake{answer: on('E', many("p", 1100)...)}, milter.ErrProtocol},
		"more than was asked for":    {&fake{answer: on('C', "c", "Z")}, milter.ErrProtocol},
		"replies where it is silent": {&fake{version: 6, steps: 0x80, answer: on('L', "c")}, nil}, // read as replies to what comes next
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, test.fake.start(t), func(c *milter.Config) { c.MaxChanges, c.MaxHeader, c.MaxBody = 20, 5000, 5000 })
			r, err := c.Filter(t.Context(), sample(t))
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if len(r.Changes) > 0 || r.Action != milter.Accept {
				t.Errorf("it gets its way: %+v", r)
			}
		})
	}
}

// TestSlow runs milters that don't answer, in a time that is not real.
func TestSlow(t *testing.T) {
	t.Parallel()
	never := []string{"wait:1h"}
	progress := func(n int) (all []string) {
		for range n {
			all = append(all, "wait:5s", "p")
		}
		return all
	}
	for name, test := range map[string]struct {
		at      byte
		replies []string
		cancel  time.Duration
		want    error
		took    time.Duration
	}{
		"never at the negotiation":     {at: 'O', replies: never, want: milter.ErrTimeout, took: 3 * time.Second},
		"never at mail":                {at: 'M', replies: never, want: milter.ErrTimeout, took: 10 * time.Second},
		"never at the end":             {at: 'E', replies: never, want: milter.ErrTimeout, took: 30 * time.Second},
		"half a packet":                {at: 'E', replies: []string{"raw:\x00\x00", "wait:1h"}, want: milter.ErrTimeout, took: 30 * time.Second},
		"in time":                      {at: 'M', replies: []string{"wait:9s", "c"}, took: 9 * time.Second},
		"too late without progress":    {at: 'E', replies: []string{"wait:50s", "c"}, want: milter.ErrTimeout, took: 30 * time.Second},
		"late with progress":           {at: 'E', replies: append(progress(10), "c"), took: 50 * time.Second},
		"endless progress":             {at: 'E', replies: progress(1000), want: milter.ErrTimeout, took: 2 * time.Minute},
		"the caller has enough":        {at: 'E', replies: never, cancel: 7 * time.Second, want: context.Canceled, took: 7 * time.Second},
		"the caller ends the progress": {at: 'E', replies: progress(1000), cancel: 12 * time.Second, want: context.Canceled, took: 12 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, server := memconn.Pair()
				f := &fake{answer: on(test.at, test.replies...)}
				ended := make(chan struct{})
				go func() { defer close(ended); defer server.Close(); f.serve(server) }()
				c := newClient(t, "127.0.0.1:1", func(c *milter.Config) {
					c.Connect, c.Reply, c.End, c.Total = 3*time.Second, 10*time.Second, 30*time.Second, 2*time.Minute
					c.Dial = func(context.Context, string, string) (net.Conn, error) { return client, nil }
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.cancel > 0 {
					time.AfterFunc(test.cancel, cancel)
				}
				began := time.Now()
				_, err := c.Filter(ctx, sample(t))
				if took := time.Since(began); !errors.Is(err, test.want) || took != test.took {
					t.Errorf("%v after %s, want %v after %s", err, took, test.want, test.took)
				}
				c.Close()
				<-ended
			})
		})
	}
}

// TestReplies is a table of reply texts.
func TestReplies(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"550 5.7.1 no":                      "550 5.7.1 no\r\n",
		"550 no":                            "550 5.7.1 no\r\n",
		"451":                               "451 4.7.1 \r\n",
		"451 4.3.2 a\r\n":                   "451 4.3.2 a\r\n",
		"550-5.1.1 a\r\n550-b\n550 5.1.1 c": "550-5.1.1 a\r\n550-5.1.1 b\r\n550 5.1.1 c\r\n",
		"550 5.7.1 50%% %s":                 "550 5.7.1 50% %s\r\n",
		"55 no":                             "", "": "", "650 no": "", "550_no": "", "550-": "550 5.7.1 \r\n", "560 no": "", "550 5.7.1 ż": "",
		"550 " + strings.Repeat("x", 600): "", strings.Repeat("550-x\n", 40) + "550 x": "",
	} {
		r, err := milter.ParseReply(text)
		got := ""
		if err == nil {
			got = string(r.AppendTo(nil))
		}
		if got != want {
			t.Errorf("%.40q: got %q (%v), want %q", text, got, err, want)
		}
	}
}

// FuzzPacket reads packets: never more than the limit, and what is read is what was written.
func FuzzPacket(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01c"))
	f.Add([]byte("\x00\x00\x00\x0dO\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff"))
	f.Add([]byte("\xff\xff\xff\xffc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		cmd, data, err := milter.ReadPacket(bytes.NewReader(b), 1000)
		if err != nil {
			return
		}
		if len(data) >= 1000 {
			t.Fatalf("%d octets", len(data))
		}
		if again := packet(string(cmd) + string(data)); cmd < 0x80 && !bytes.HasPrefix(b, again) {
			t.Fatalf("read %q from %q", again, b)
		}
	})
}

// FuzzReplies lets a milter say anything at the end of the message: the dialogue ends, and the
// message it leads to has sound lines and as many fields as were asked for.
func FuzzReplies(f *testing.F) {
	f.Add([]byte("hX-A\x00b\x00"), []byte("c"))
	f.Add([]byte("m\x00\x00\x00\x01Subject\x00\x00"), []byte("y550 5.7.1 no\x00"))
	f.Add([]byte("bx\ry"), []byte("qwhy\x00"))
	f.Add([]byte("e<>\x00A=B\x00"), []byte("+<a@b.test>\x00"))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		client, server := memconn.Pair()
		fake := &fake{answer: on('E', string(one), string(two), "c", "cut")}
		done := make(chan struct{})
		go func() { defer close(done); defer server.Close(); fake.serve(server) }()
		c := newClient(t, "127.0.0.1:1", func(c *milter.Config) {
			c.MaxIdle = -1
			c.Dial = func(context.Context, string, string) (net.Conn, error) { return client, nil }
		})
		m := sample(t)
		r, err := c.Filter(t.Context(), m)
		client.Close()
		<-done
		if err != nil {
			return
		}
		text := whole(t, m.Apply(r.Changes))
		if s := strings.ReplaceAll(text, "\r\n", ""); strings.ContainsAny(s, "\r\n") {
			t.Fatalf("bare CR or LF: %q", text)
		}
		header, _, _ := strings.Cut(text, "\r\n\r\n")
		for _, l := range strings.Split(header, "\r\n") {
			if l != "" && l[0] != ' ' && l[0] != '\t' && strings.IndexByte(l, ':') <= 0 {
				t.Fatalf("a line that is no field: %q", l)
			}
		}
	})
}
