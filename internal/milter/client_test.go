package milter_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/milter"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/verdict"
)

// TestDialogue holds all that is said to a milter against the protocol.
func TestDialogue(t *testing.T) {
	t.Parallel()
	connect := []string{
		"D Cj|mx.test|_|out.a.test [192.0.2.7]|{daemon_name}|smtp|v|Poczta|{client_addr}|192.0.2.7|{client_name}|out.a.test|{client_port}|4321|{client_ptr}|out.a.test|{client_resolve}|OK|",
		"C out.a.test|4\x10\xe1192.0.2.7|",
		"D H{tls_version}|TLSv1.3|{cipher}|TLS_AES_128_GCM_SHA256|{cipher_bits}|128|",
		"H out.a.test|",
		"D Mi|q1|{client_addr}|192.0.2.7|{client_name}|out.a.test|{mail_addr}|ala@a.test|{mail_host}|a.test|{mail_mailer}|smtp|",
		"M <ala@a.test>|SIZE=100|BODY=8BITMIME|",
		"D Ri|q1|{rcpt_addr}|ola@b.test|{rcpt_host}|b.test|{rcpt_mailer}|smtp|",
		"R <ola@b.test>|NOTIFY=FAILURE,DELAY|",
		"D Ri|q1|{rcpt_addr}|ula@b.test|{rcpt_host}|b.test|{rcpt_mailer}|smtp|",
		"R <ula@b.test>|",
	}
	data := []string{"D Ti|q1|", "T"}
	eoh := []string{"D Ni|q1|", "N"}
	end := []string{"B " + sampleBody, "D Ei|q1|", "E"}
	spaced := []string{"L From| ala@a.test|", "L To| ola@b.test|", "L Subject| Zażółć\n folded|", "L X-Empty||", "L X-Tight|tight|"}
	bare := []string{"L From|ala@a.test|", "L To|ola@b.test|", "L Subject|Zażółć\n folded|", "L X-Empty||", "L X-Tight|tight|"}
	join := func(parts ...[]string) (all []string) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	for name, test := range map[string]struct {
		fake *fake
		want []string
	}{
		"version 6":           {&fake{version: 6, steps: leadSpace}, join(connect, data, spaced, eoh, end)},
		"version 6, trimmed":  {&fake{version: 6}, join(connect, data, bare, eoh, end)},
		"version 2":           {&fake{version: 2}, join(connect, bare, eoh, end)},
		"nothing wanted":      {&fake{version: 6, steps: 0x37f | 0x200}, []string{"D Ei|q1|", "E"}},
		"silent to the end":   {&fake{version: 6, steps: 0xff080 | leadSpace, answer: silent}, join(connect, data, spaced, eoh, end)},
		"macros as asked for": {&fake{version: 6, actions: 0x100, steps: 0x37f, lists: u32(5) + "{client_addr}, i nothing\x00" + u32(99) + "x\x00"}, []string{"D Ei|q1|{client_addr}|192.0.2.7|", "E"}},
		"no macros wanted":    {&fake{version: 6, actions: 0x100, steps: 0x37f, lists: u32(5) + "\x00"}, []string{"E"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, test.fake.start(t), nil)
			r, err := c.Filter(t.Context(), sample(t))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(milter.Result{Stage: "end of message"}, r); diff != "" {
				t.Error(diff)
			}
			got := test.fake.heard()
			for len(got) > 0 && (got[len(got)-1] == "K" || got[len(got)-1] == "Q") {
				got = got[:len(got)-1]
			}
			if diff := cmp.Diff(strings.Join(test.want, "\n"), strings.Join(got, "\n")); diff != "" {
				t.Errorf("dialogue (-want +got):\n%s", diff)
			}
		})
	}
}

// silent is a milter that promised to say nothing before the end.
func silent(cmd byte, _ []byte) []string {
	if cmd == 'E' || cmd == 'O' {
		return nil
	}
	return []string{}
}

// TestVerdicts is a table of what a milter says where, and what comes of it.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	reject := smtp.Reply{Code: 550, Subject: 7, Detail: 1, Text: "Command rejected"}
	later := smtp.Reply{Code: 451, Subject: 7, Detail: 1, Text: "Service unavailable - try again later"}
	second := func(reply string) func(byte, []byte) []string {
		return func(cmd byte, data []byte) []string {
			if cmd == 'R' && bytes.HasPrefix(data, []byte("<ula@")) {
				return []string{reply}
			}
			return nil
		}
	}
	for name, test := range map[string]struct {
		answer func(byte, []byte) []string
		want   milter.Result
		items  []verdict.Item
	}{
		"accept at connect":     {on('C', "a"), milter.Result{Stage: "connect"}, nil},
		"reject at connect":     {on('C', "r"), milter.Result{Action: milter.Reject, Reply: reject, Stage: "connect"}, []verdict.Item{{Name: verdict.Milter, Detail: "test: reject at connect: Command rejected", Demand: verdict.Refuse}}},
		"shutdown at hello":     {on('H', "4"), milter.Result{Action: milter.TempFail, Reply: later, Stage: "hello"}, []verdict.Item{{Name: verdict.Milter, Detail: "test: tempfail at hello: Service unavailable - try again later", Demand: verdict.Defer}}},
		"tempfail at mail":      {on('M', "t"), milter.Result{Action: milter.TempFail, Reply: later, Stage: "mail"}, []verdict.Item{{Name: verdict.Milter, Detail: "test: tempfail at mail: Service unavailable - try again later", Demand: verdict.Defer}}},
		"discard at data":       {on('T', "d"), milter.Result{Action: milter.Discard, Stage: "data"}, []verdict.Item{{Name: verdict.Milter, Detail: "test: discard at data", Demand: verdict.Discard}}},
		"reply at header":       {on('L', "y550 5.7.0 100%% no\x00"), milter.Result{Action: milter.Reject, Reply: smtp.Reply{Code: 550, Subject: 7, Text: "100% no"}, Stage: "header"}, []verdict.Item{{Name: verdict.Milter, Detail: "test: reject at header: 100% no", Demand: verdict.Refuse}}},
		"reject at eoh":         {on('N', "r"), milter.Result{Action: milter.Reject, Reply: reject, Stage: "end of header"}, []verdict.Item{{Name: verdict.Milter, Detail: "test: reject at end of header: Command rejected", Demand: verdict.Refuse}}},
		"reject at body":        {on('B', "p", "r"), milter.Result{Action: milter.Reject, Reply: reject, Stage: "body"}, []verdict.Item{{Name: verdict.Milter, Detail: "test: reject at body: Command rejected", Demand: verdict.Refuse}}},
		"skip the body":         {on('B', "s"), milter.Result{Stage: "end of message"}, nil},
		"two lines":             {on('E', "y451-4.7.1 one\r\n451 4.7.1 two\x00"), milter.Result{Action: milter.TempFail, Reply: smtp.Reply{Code: 451, Subject: 7, Detail: 1, Text: "one\ntwo"}, Stage: "end of message"}, []verdict.Item{{Name: verdict.Milter, Detail: "test: tempfail: one", Demand: verdict.Defer}}},
		"one recipient refused": {second("r"), milter.Result{Recipients: []milter.Refused{{Index: 1, Action: milter.Reject, Reply: reject}}, Stage: "end of message"}, nil},
		"all recipients refused": {on('R', "y450 later\x00"), milter.Result{Action: milter.TempFail, Reply: smtp.Reply{Code: 450, Subject: 7, Detail: 1, Text: "later"}, Stage: "recipient", Recipients: []milter.Refused{
			{Index: 0, Action: milter.TempFail, Reply: smtp.Reply{Code: 450, Subject: 7, Detail: 1, Text: "later"}}, {Index: 1, Action: milter.TempFail, Reply: smtp.Reply{Code: 450, Subject: 7, Detail: 1, Text: "later"}},
		}}, []verdict.Item{{Name: verdict.Milter, Detail: "test: tempfail at recipient: later", Demand: verdict.Defer}}},
		"discard for a recipient":             {second("d"), milter.Result{Action: milter.Discard, Stage: "recipient"}, []verdict.Item{{Name: verdict.Milter, Detail: "test: discard at recipient", Demand: verdict.Discard}}},
		"quarantine":                          {on('E', "p", "qodd\x00", "a"), milter.Result{Action: milter.Quarantine, Reason: "odd", Stage: "end of message"}, []verdict.Item{{Name: verdict.Milter, Detail: "test: quarantine: odd", Demand: verdict.Quarantine}}},
		"changes of what is refused are void": {on('E', "hX-A\x00b\x00", "r"), milter.Result{Action: milter.Reject, Reply: reject, Stage: "end of message"}, []verdict.Item{{Name: verdict.Milter, Detail: "test: reject: Command rejected", Demand: verdict.Refuse}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{answer: test.answer}
			var outcome string
			c := newClient(t, f.start(t), func(c *milter.Config) { c.Hooks.Filtered = func(o string, _ time.Duration) { outcome = o } })
			got, err := c.Filter(t.Context(), sample(t))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.items, got.Items("test")); diff != "" {
				t.Error(diff)
			}
			if outcome != test.want.Action.String() {
				t.Errorf("hook says %q, want %q", outcome, test.want.Action)
			}
			// The next message is not lost, wherever the milter decided: a connection is kept only
			// where libmilter goes on.
			if again, err := c.Filter(t.Context(), sample(t)); err != nil || again.Action != got.Action {
				t.Errorf("the second message: %v, %v", again.Action, err)
			}
			want := 2
			if got.Stage == "end of message" && got.Action == milter.Accept {
				want = 1
			}
			if n := f.connections(); n != want {
				t.Errorf("%d connections for two messages, want %d", n, want)
			}
		})
	}
}

// TestChanges has milters change a message, and the next one see it.
func TestChanges(t *testing.T) {
	t.Parallel()
	envelope := "MAIL <ala@a.test>\nRCPT <ola@b.test>\nRCPT <ula@b.test>\n"
	fields := strings.ReplaceAll(sampleHeader, "\r\n", "\n")
	for name, test := range map[string]struct {
		replies []string
		want    string
	}{
		"add":                      {[]string{"hX-New\x00 one\n\ttwo\x00"}, envelope + fields + "X-New: one\n\ttwo\n"},
		"add, trailing line end":   {[]string{"hX-New\x00 one\r\n\x00"}, envelope + fields + "X-New: one\n"},
		"insert at 0":              {[]string{"i" + u32(0) + "X-New\x00 1\x00"}, envelope + "X-New: 1\n" + fields},
		"insert at 1":              {[]string{"i" + u32(1) + "X-New\x00 1\x00"}, envelope + "X-New: 1\n" + fields},
		"insert at 3":              {[]string{"i" + u32(3) + "X-New\x00 1\x00"}, envelope + strings.Replace(fields, "Subject", "X-New: 1\nSubject", 1)},
		"insert far behind":        {[]string{"i" + u32(999) + "X-New\x00 1\x00"}, envelope + fields + "X-New: 1\n"},
		"change":                   {[]string{"m" + u32(1) + "subject\x00 New\x00"}, envelope + strings.Replace(fields, "Subject: Zażółć\n folded", "subject: New", 1)},
		"remove":                   {[]string{"m" + u32(1) + "X-Empty\x00\x00"}, envelope + strings.Replace(fields, "X-Empty:\n", "", 1)},
		"remove without value":     {[]string{"m" + u32(1) + "X-Empty\x00"}, envelope + strings.Replace(fields, "X-Empty:\n", "", 1)},
		"remove what is not":       {[]string{"m" + u32(2) + "X-Empty\x00\x00"}, envelope + fields},
		"change what is not":       {[]string{"m" + u32(2) + "X-Tight\x00 x\x00"}, envelope + fields + "X-Tight: x\n"},
		"removed ones still count": {[]string{"hX-A\x00 1\x00", "hX-A\x00 2\x00", "m" + u32(1) + "X-A\x00\x00", "m" + u32(2) + "X-A\x00\x00"}, envelope + fields},
		"recipients":               {[]string{"+<new@c.test>\x00", "+ola@b.test\x00", "-<ula@b.test>\x00", "2<par@c.test>\x00NOTIFY=NEVER\x00"}, "MAIL <ala@a.test>\nRCPT <ola@b.test>\nRCPT <new@c.test>\nRCPT <par@c.test>\n" + fields},
		"reverse-path":             {[]string{"e<other@a.test>\x00"}, strings.Replace(envelope, "ala@", "other@", 1) + fields},
		"null reverse-path":        {[]string{"e<>\x00RET=HDRS\x00"}, strings.Replace(envelope, "ala@a.test", "", 1) + fields},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{answer: on('E', append(test.replies, "c")...)}
			m := sample(t)
			r, err := newClient(t, f.start(t), nil).Filter(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, apply(m, r.Changes)); diff != "" {
				t.Error(diff)
			}
			if got := apply(m, nil); got != envelope+fields {
				t.Errorf("Apply has changed its argument: %s", got)
			}
		})
	}
}

// TestBodyAnew replaces a body in pieces of any line ends, and has the next milter see it.
func TestBodyAnew(t *testing.T) {
	t.Parallel()
	first := &fake{answer: on('E', "bone\r", "b\ntwo\nthree\rfour", "hX-Seen\x00 1\x00", "b", "a")}
	second := &fake{}
	m := sample(t)
	for _, f := range []*fake{first, second} {
		r, err := newClient(t, f.start(t), nil).Filter(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		m = m.Apply(r.Changes)
	}
	if got, want := whole(t, m), sampleHeader+"X-Seen: 1\r\n\r\none\r\ntwo\r\nthree\r\nfour\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	told := strings.Join(second.heard(), "\n")
	if !strings.Contains(told, "L X-Seen| 1|") || !strings.Contains(told, "B one\r\ntwo\r\nthree\r\nfour\r\n") {
		t.Errorf("the second milter does not see the first one's changes:\n%s", told)
	}
}

// TestChunks sends a body of 300 KiB in the pieces that were agreed on.
func TestChunks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		chunk int
		steps uint32
		want  int
	}{"64 KiB": {0, 0, 5}, "256 KiB offered and taken": {256 << 10, 1 << 28, 2}, "1 MiB offered and taken": {1 << 20, 1 << 29, 1}, "1 MiB offered and not taken": {1 << 20, 0, 5}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{version: 6, steps: test.steps}
			m := sample(t)
			text := strings.Repeat("0123456789abcdef\r\n", 300<<10/18)
			m.Body, m.Size = strings.NewReader(text), int64(len(text))
			if _, err := newClient(t, f.start(t), func(c *milter.Config) { c.Chunk = test.chunk }).Filter(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			var n, octets int
			for _, s := range f.heard() {
				if strings.HasPrefix(s, "B ") {
					n, octets = n+1, octets+len(s)-2
				}
			}
			if n != test.want || octets != len(text) {
				t.Errorf("%d pieces of %d octets together, want %d of %d", n, octets, test.want, len(text))
			}
		})
	}
}

// TestReconnect has the milter close a kept connection; the message goes over another one.
func TestReconnect(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var messages int
	f := &fake{answer: func(cmd byte, _ []byte) []string {
		mu.Lock()
		defer mu.Unlock()
		if cmd == 'C' {
			if messages++; messages == 2 {
				return []string{"cut"}
			}
		}
		return nil
	}}
	c := newClient(t, f.start(t), nil)
	for i := range 3 {
		if _, err := c.Filter(t.Context(), sample(t)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if n := f.connections(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// TestBrokenMessage tells an error of the message from one of the milter.
func TestBrokenMessage(t *testing.T) {
	t.Parallel()
	f := &fake{}
	c := newClient(t, f.start(t), nil)
	m := sample(t)
	m.Size++
	_, err := c.Filter(t.Context(), m)
	if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, milter.ErrUnavailable) || errors.Is(err, milter.ErrProtocol) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Filter(ctx, sample(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"unix:/run/x.sock": true, "local:/run/x.sock": true, "inet:8891@127.0.0.1": true, "inet6:8891@[::1]": true, "inet:8891": true, "127.0.0.1:8891": true, "tcp:[::1]:1": true,
		"": false, "unix:": false, "127.0.0.1": false, ":1": false, "tcp:x:": false,
	} {
		if _, err := milter.New(milter.Config{Address: address}); (err == nil) != ok {
			t.Errorf("address %q: %v", address, err)
		}
	}
	if _, err := milter.New(milter.Config{Address: "unix:/x", Version: 7}); err == nil {
		t.Error("version 7 is taken")
	}
}
