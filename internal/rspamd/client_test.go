package rspamd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/rspamd"
	"poczta.example/poczta/internal/verdict"
)

const text = "From: ala@a.test\r\nSubject: Hello\r\n\r\nHi.\r\n"

func sample(t testing.TB) rspamd.Message {
	t.Helper()
	parse := func(s string) address.Address {
		a, err := address.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	return rspamd.Message{
		Origin: envelope.Origin{Peer: netip.MustParseAddrPort("[::ffff:192.0.2.7]:4321"), PeerName: "out.a.test", Helo: "out\r\n.a.test", TLS: "TLS1.3 TLS_AES_128_GCM_SHA256", Login: "ala"},
		Envelope: envelope.Envelope{
			ReversePath: address.NewReversePath(parse("ala@a.test")),
			Recipients:  []envelope.Recipient{{ForwardPath: address.NewForwardPath(parse("ola@b.test"))}, {ForwardPath: address.NewForwardPath(parse("ula@b.test"))}},
		},
		QueueID: "q1", Size: int64(len(text)),
	}
}

func newClient(t *testing.T, url string, change func(*rspamd.Config)) *rspamd.Client {
	t.Helper()
	cfg := rspamd.Config{URL: url, Controller: url, Password: "pw", Hostname: "mx.test", AllFilters: true, Timeout: 20 * time.Second}
	if change != nil {
		change(&cfg)
	}
	c, err := rspamd.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

const clean = `{"score":-0.5,"required_score":15,"action":"no action","symbols":{}}`

// TestRequest holds what is sent against Rspamd's protocol, over TCP and a UNIX socket.
func TestRequest(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var got http.Header
			var path, body string
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				mu.Lock()
				defer mu.Unlock()
				got, path, body = r.Header.Clone(), r.URL.Path, string(b)
				_, _ = io.WriteString(w, clean)
			}))
			url := ""
			if network == "unix" {
				socket := filepath.Join(t.TempDir(), "s")
				l, err := net.Listen("unix", socket)
				if err != nil {
					t.Skip(err)
				}
				s.Listener.Close()
				s.Listener, url = l, "unix:"+socket
			}
			s.Start()
			defer s.Close()
			if url == "" {
				url = s.URL
			}
			if _, err := newClient(t, url, nil).Check(t.Context(), sample(t), strings.NewReader(text)); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			want := http.Header{
				"User-Agent": {"poczta"}, "Password": {"pw"}, "Mta-Name": {"mx.test"}, "Queue-Id": {"q1"}, "Ip": {"192.0.2.7"}, "Helo": {"out.a.test"}, "Hostname": {"out.a.test"},
				"User": {"ala"}, "From": {"ala@a.test"}, "Rcpt": {"ola@b.test", "ula@b.test"}, "Tls-Version": {"TLS1.3"}, "Tls-Cipher": {"TLS_AES_128_GCM_SHA256"}, "Pass": {"all"},
				"Content-Length": {"41"},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if path != "/checkv2" || body != text {
				t.Errorf("%s got %q", path, body)
			}
		})
	}
}

// TestResults is a table of answers.
func TestResults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer string
		want   []verdict.Item // of a client that obeys
		err    error
	}{
		"clean":         {clean, []verdict.Item{{Name: verdict.Rspamd, Detail: "-0.5 of 15.0, no action", Scale: -0.5}}, nil},
		"no points":     {`{"score":0,"required_score":15,"action":"no action"}`, []verdict.Item{{Name: verdict.Rspamd, Detail: "0.0 of 15.0, no action", Scale: 1e-9}}, nil},
		"junk":          {`{"score":7,"required_score":15,"action":"add header","symbols":{"A":{"score":2.5},"B":{"score":-4},"C":{"score":0}}}`, []verdict.Item{{Name: verdict.Rspamd, Detail: "7.0 of 15.0, add header: B -4.0, A 2.5", Scale: 7, Demand: verdict.Junk}}, nil},
		"greylist":      {`{"score":5,"action":"greylist"}`, []verdict.Item{{Name: verdict.Rspamd, Detail: "5.0 of 0.0, greylist", Scale: 5, Demand: verdict.Defer}}, nil},
		"reject":        {`{"score":20,"action":"reject"}`, []verdict.Item{{Name: verdict.Rspamd, Detail: "20.0 of 0.0, reject", Scale: 20, Demand: verdict.Refuse}}, nil},
		"GTUBE":         {`{"is_skipped":true,"score":15,"required_score":15,"action":"reject"}`, []verdict.Item{{Name: verdict.Rspamd, Detail: "15.0 of 15.0, reject", Scale: 15, Demand: verdict.Refuse}}, nil},
		"skipped":       {`{"is_skipped":true,"score":0,"action":"no action"}`, nil, nil},
		"own action":    {`{"score":1,"action":"own\r\nword"}`, []verdict.Item{{Name: verdict.Rspamd, Detail: "1.0 of 0.0, own word", Scale: 1}}, nil},
		"absurd score":  {`{"score":1e300,"action":"reject"}`, []verdict.Item{{Name: verdict.Rspamd, Detail: "1000.0 of 0.0, reject", Scale: 1000, Demand: verdict.Refuse}}, nil},
		"no JSON":       {`<html>`, nil, rspamd.ErrReply},
		"cut":           {`{"score":1,"action":"rej`, nil, rspamd.ErrReply},
		"no action":     {`{"score":1}`, nil, rspamd.ErrReply},
		"no score":      {`{"action":"reject"}`, nil, rspamd.ErrReply},
		"score is text": {`{"score":"1","action":"reject"}`, nil, rspamd.ErrReply},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := rspamd.ParseResult([]byte(test.answer))
			if !errors.Is(err, test.err) {
				t.Fatalf("got %v, want %v", err, test.err)
			}
			if diff := cmp.Diff(test.want, rspamd.Obeyed(r).Items()); diff != "" {
				t.Error(diff)
			}
			for _, it := range r.Items() {
				if it.Demand != verdict.Deliver {
					t.Errorf("a client that does not obey demands %s", it.Demand)
				}
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	r, err := rspamd.ParseResult([]byte(`{"score":1,"action":"x","messages":{"smtp_message":"no\r\n250 żart"},"milter":{
		"add_headers":{"X-A":"one","X-B":{"value":"two\r\nBcc: x","order":1},"X-C":["three",{"value":"four"},["no"]],"X Bad":"no","X-D":5},
		"remove_headers":{"X-Spam":0,"Bad Name":1}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []rspamd.Header{{Name: "X-A", Value: "one"}, {Name: "X-B", Value: "two Bcc: x"}, {Name: "X-C", Value: "three"}, {Name: "X-C", Value: "four"}}
	if diff := cmp.Diff(want, r.AddHeaders); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"X-Spam"}, r.RemoveHeaders); diff != "" {
		t.Error(diff)
	}
	if r.Message != "no 250 ?art" {
		t.Errorf("got %q", r.Message)
	}
}

// peer answers every connection by a function that may do anything to it.
func peer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var conns sync.Map
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Store(c, true)
			wg.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	return "http://" + l.Addr().String()
}

// drain reads a request up to its last octet, which no request of the tests leaves out.
func drain(c net.Conn) {
	var all strings.Builder
	b := make([]byte, 4096)
	for !strings.HasSuffix(all.String(), "Hi.\r\n") {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		all.Write(b[:n])
	}
}

// TestMisbehaving is a table of peers that are no Rspamd.
func TestMisbehaving(t *testing.T) {
	t.Parallel()
	say := func(s string) func(net.Conn) { return func(c net.Conn) { drain(c); _, _ = io.WriteString(c, s) } }
	ok := "HTTP/1.1 200 OK\r\nContent-Length: "
	for name, test := range map[string]struct {
		serve func(net.Conn)
		want  error
	}{
		"closes at once":    {func(net.Conn) {}, rspamd.ErrUnavailable},
		"closes when asked": {drain, rspamd.ErrUnavailable},
		"garbage":           {say("220 mx.test ESMTP\r\n"), rspamd.ErrUnavailable},
		"cut in the header": {say("HTTP/1.1 200 OK\r\nContent-"), rspamd.ErrUnavailable},
		"cut in the answer": {say(ok + "100\r\n\r\n{\"score\""), rspamd.ErrUnavailable},
		"huge header":       {say("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n"), rspamd.ErrUnavailable},
		"huge answer":       {say(ok + "3000000\r\n\r\n" + strings.Repeat(" ", 3000000)), rspamd.ErrReply},
		"redirect":          {say("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), rspamd.ErrReply},
		"refusal":           {say("HTTP/1.1 403 No\r\nContent-Length: 15\r\n\r\n{\"error\":\"pwd\"}"), rspamd.ErrReply},
		"no JSON":           {say(ok + "2\r\n\r\nok"), rspamd.ErrReply},
		"deep JSON":         {say(ok + "200000\r\n\r\n" + strings.Repeat("[", 200000)), rspamd.ErrReply},
		"never answers":     {func(c net.Conn) { drain(c); _, _ = c.Read(make([]byte, 1)) }, rspamd.ErrTimeout},
		"never reads": {func(c net.Conn) {
			_, _ = c.Write(nil)
			_ = c.(*net.TCPConn).SetReadBuffer(1)
			drain(c)
			_, _ = c.Read(make([]byte, 1))
		}, rspamd.ErrTimeout},
		"answers in drops": {func(c net.Conn) {
			drain(c)
			_, _ = io.WriteString(c, ok+"100\r\n\r\n{")
			_, _ = c.Read(make([]byte, 1))
		}, rspamd.ErrTimeout},
		"answers before the end": {func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1))
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
			drain(c)
		}, rspamd.ErrReply},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := 20 * time.Second
			if errors.Is(test.want, rspamd.ErrTimeout) {
				limit = 100 * time.Millisecond
			}
			var outcome string
			c := newClient(t, peer(t, test.serve), func(c *rspamd.Config) {
				c.Timeout = limit
				c.Hooks.Asked = func(o string, _ time.Duration) { outcome = o }
			})
			r, err := c.Check(t.Context(), sample(t), strings.NewReader(text))
			if !errors.Is(err, test.want) || len(r.Items()) > 0 {
				t.Errorf("got %+v, %v, want %v", r, err, test.want)
			}
			if outcome == "" || outcome == "failed" {
				t.Errorf("hook says %q", outcome)
			}
		})
	}
}

// TestOurSide tells what is not Rspamd's fault.
func TestOurSide(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, clean)
	}))
	defer s.Close()
	c := newClient(t, s.URL, func(c *rspamd.Config) { c.MaxSize = 100 })
	broken := errors.New("disk on fire")
	if _, err := c.Check(t.Context(), sample(t), io.MultiReader(strings.NewReader("From"), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, rspamd.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	m := sample(t)
	m.Size = 101
	if _, err := c.Check(t.Context(), m, strings.NewReader(strings.Repeat("x", 101))); !errors.Is(err, rspamd.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Check(ctx, sample(t), strings.NewReader(text)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for _, url := range []string{"", "127.0.0.1:11333", "ftp://x", "unix:", "http://u:p@x"} {
		if _, err := rspamd.New(rspamd.Config{URL: url}); err == nil {
			t.Errorf("address %q is taken", url)
		}
	}
}

// TestReconnect has the peer close a kept connection when the next request comes.
func TestReconnect(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	conns := 0
	url := peer(t, func(c net.Conn) {
		mu.Lock()
		conns++
		mu.Unlock()
		drain(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 68\r\n\r\n"+clean)
		_, _ = c.Read(make([]byte, 1)) // the next request is begun, and cut
	})
	c := newClient(t, url, nil)
	for i := range 3 {
		if _, err := c.Check(t.Context(), sample(t), strings.NewReader(text)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if conns != 3 {
		t.Errorf("%d connections, want 3", conns)
	}
}

// FuzzResult reads any answer: what comes out is bounded and printable.
func FuzzResult(f *testing.F) {
	f.Add(clean)
	f.Add(`{"score":7,"action":"add header","symbols":{"A":{"score":2.5}},"milter":{"add_headers":{"X-A":["a",{"value":"b"}]}}}`)
	f.Fuzz(func(t *testing.T, s string) {
		r, err := rspamd.ParseResult([]byte(s))
		if err != nil {
			return
		}
		for _, it := range r.Items() {
			if len(it.Detail) > verdict.MaxDetailOctets || strings.ContainsAny(it.Detail, "\r\n") || it.Scale == 0 {
				t.Fatalf("%+v", it)
			}
		}
		for _, h := range r.AddHeaders {
			if strings.ContainsAny(h.Name+h.Value, "\r\n\x00") {
				t.Fatalf("%+v", h)
			}
		}
	})
}
