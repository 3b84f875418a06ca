package hook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/hook"
	"poczta.example/poczta/internal/verdict"
)

const (
	header  = "From: ala@a.test\r\nSubject: Hello\xff\r\n"
	content = header + "\r\nHi.\r\n"
	secret  = "0123456789abcdef"
)

var at = time.Unix(1795435200, 0)

func sample(t testing.TB, from string) hook.Message {
	t.Helper()
	parse := func(s string) address.Address {
		a, err := address.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	return hook.Message{
		Origin: envelope.Origin{Peer: netip.MustParseAddrPort("192.0.2.7:4321"), PeerName: "out.a.test", Helo: "out.a.test", Protocol: "ESMTPS", TLS: "TLS1.3 X", Time: at},
		Envelope: envelope.Envelope{
			ReversePath: address.NewReversePath(parse(from)),
			Recipients:  []envelope.Recipient{{ForwardPath: address.NewForwardPath(parse("ola@b.test"))}},
		},
		QueueID: "q1", Header: []byte(header), Content: strings.NewReader(content), Size: int64(len(content)),
		Evidence: []verdict.Item{{Name: verdict.SPFPass, Detail: "192.0.2.7 may"}}, Verified: []string{"a.test"},
	}
}

func newClient(t *testing.T, url string, change func(*hook.Config)) *hook.Client {
	t.Helper()
	cfg := hook.Config{Name: "test", URL: url, Timeout: 20 * time.Second, Secret: []byte(secret), Now: func() time.Time { return at }}
	if change != nil {
		change(&cfg)
	}
	c, err := hook.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// request is what the program got.
type request struct {
	Path, Kind, Key, Signature string
	Body                       []byte
}

// server notes requests and gives one answer to all.
func server(t *testing.T, network, answer string) (url string, last func() request) {
	t.Helper()
	var mu sync.Mutex
	var got request
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = request{r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get(hook.KeyField), r.Header.Get(hook.SignatureField), b}
		if answer == "" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	if network == "unix" {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		s.Listener.Close()
		s.Listener, url = l, "unix:"+socket+":/ask"
	}
	s.Start()
	t.Cleanup(s.Close)
	if url == "" {
		url = s.URL + "/ask"
	}
	return url, func() request { mu.Lock(); defer mu.Unlock(); return got }
}

const facts = `{"version":1,"queue_id":"q1","time":"2026-11-23T12:00:00Z","outgoing":false,"peer":{"address":"192.0.2.7","port":4321,"name":"out.a.test","helo":"out.a.test","protocol":"ESMTPS","tls":"TLS1.3 X"},` +
	`"reverse_path":"ala@a.test","recipients":["ola@b.test"],"size":42,"verified_domains":["a.test"],"evidence":[{"name":"spf_pass","detail":"192.0.2.7 may"}]`

// TestRequest holds what is sent, and its signature, against docs/hook.md.
func TestRequest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		network string
		send    hook.Send
		want    string
	}{
		"facts": {"tcp", hook.SendFacts, facts + "}"}, "facts by a UNIX socket": {"unix", hook.SendFacts, facts + "}"},
		"header":  {"tcp", hook.SendHeader, facts + `,"header":"From: ala@a.test\r\nSubject: Hello` + "\uFFFD" + `\r\n"}`},
		"message": {"tcp", hook.SendMessage, facts + "}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, last := server(t, test.network, "")
			r, err := newClient(t, url, func(c *hook.Config) { c.Send = test.send }).Ask(t.Context(), sample(t, "ala@a.test"))
			if err != nil || len(r.Items()) > 0 {
				t.Fatalf("%+v, %v", r, err)
			}
			got := last()
			mac := hmac.New(sha256.New, []byte(secret))
			_, _ = io.WriteString(mac, "1795435200.")
			_, _ = mac.Write(got.Body)
			if want := "t=1795435200,v1=" + hex.EncodeToString(mac.Sum(nil)); got.Signature != want || got.Key != "q1" || got.Path != "/ask" {
				t.Errorf("got %s %s %s, want signature %s", got.Path, got.Key, got.Signature, want)
			}
			text := got.Body
			if test.send == hook.SendMessage {
				var message []byte
				if text, message = parts(t, got); string(message) != content {
					t.Errorf("message %q", message)
				}
			} else if got.Kind != "application/json" {
				t.Errorf("media type %s", got.Kind)
			}
			if !json.Valid(text) {
				t.Errorf("no JSON: %s", text)
			}
			if diff := cmp.Diff(test.want, string(text)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// parts takes a request of two parts to pieces.
func parts(t *testing.T, r request) (facts, message []byte) {
	t.Helper()
	_, params, err := mime.ParseMediaType(r.Kind)
	if err != nil {
		t.Fatal(err)
	}
	form, err := multipart.NewReader(bytes.NewReader(r.Body), params["boundary"]).ReadForm(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	f, err := form.File["message"][0].Open()
	if err != nil {
		t.Fatal(err)
	}
	if message, err = io.ReadAll(f); err != nil {
		t.Fatal(err)
	}
	return []byte(form.Value["facts"][0]), message
}

// TestAnswers is a table of answers.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer string
		want   []verdict.Item
		err    error
	}{
		"nothing":            {``, nil, nil},
		"none":               {`{}`, nil, nil},
		"none in words":      {`{"action":"none","later":1}`, nil, nil},
		"points":             {`{"score":2.5,"reason":"odd"}`, []verdict.Item{{Name: verdict.Hook, Detail: "test: odd", Scale: 2.5}}, nil},
		"junk":               {`{"action":"junk","tag":"t-1"}`, []verdict.Item{{Name: verdict.Hook, Detail: "test: t-1", Scale: 1e-9, Demand: verdict.Junk}}, nil},
		"refuse":             {`{"action":"refuse","score":-1,"reason":"a\r\nb"}`, []verdict.Item{{Name: verdict.Hook, Detail: "test: a b", Scale: -1, Demand: verdict.Refuse}}, nil},
		"defer":              {`{"action":"defer"}`, []verdict.Item{{Name: verdict.Hook, Detail: "test", Scale: 1e-9, Demand: verdict.Defer}}, nil},
		"absurd score":       {`{"score":-1e300}`, []verdict.Item{{Name: verdict.Hook, Detail: "test", Scale: -1000}}, nil},
		"long reason":        {`{"score":1,"reason":"` + strings.Repeat("ż", 500) + `"}`, []verdict.Item{{Name: verdict.Hook, Detail: "test: " + strings.Repeat("ż", 75), Scale: 1}}, nil},
		"header fields":      {`{"add_headers":[{"name":"X-A","value":"b"}]}`, nil, nil},
		"unknown action":     {`{"action":"explode"}`, nil, hook.ErrReply},
		"no JSON":            {`ok`, nil, hook.ErrReply},
		"a list":             {`[]`, nil, hook.ErrReply},
		"header breaks out":  {`{"add_headers":[{"name":"X-A","value":"b\r\nBcc: c"}]}`, nil, hook.ErrReply},
		"header name":        {`{"add_headers":[{"name":"X-A: b\r\nX","value":"b"}]}`, nil, hook.ErrReply},
		"header of ours":     {`{"add_headers":[{"name":"Authentication-Results","value":"mx; dkim=pass"}]}`, nil, hook.ErrReply},
		"header too long":    {`{"add_headers":[{"name":"X-A","value":"` + strings.Repeat("b", 901) + `"}]}`, nil, hook.ErrReply},
		"too many headers":   {`{"add_headers":[` + strings.Repeat(`{"name":"X-A","value":"b"},`, 20) + `{"name":"X-A","value":"b"}]}`, nil, hook.ErrReply},
		"tag is no word":     {`{"tag":"a b"}`, nil, hook.ErrReply},
		"answer is too long": {`{"reason":"` + strings.Repeat("b", 70000) + `"}`, nil, hook.ErrReply},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, _ := server(t, "tcp", test.answer)
			r, err := newClient(t, url, nil).Ask(t.Context(), sample(t, "ala@a.test"))
			if !errors.Is(err, test.err) {
				t.Fatalf("got %v, want %v", err, test.err)
			}
			if diff := cmp.Diff(test.want, r.Items()); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(test.answer, `"X-A","value":"b"}]}`) && err == nil && len(r.Headers) != 1 {
				t.Errorf("headers %v", r.Headers)
			}
		})
	}
}

// peer answers every connection by a function that may do anything to it, and counts them.
func peer(t *testing.T, serve func(n int, c net.Conn)) (url string, count func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			n := len(conns)
			mu.Unlock()
			wg.Go(func() { defer c.Close(); serve(n, c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return "http://" + l.Addr().String(), func() int { mu.Lock(); defer mu.Unlock(); return len(conns) }
}

// drain reads a request of facts alone up to its last octets.
func drain(c net.Conn) bool {
	var all strings.Builder
	b := make([]byte, 4096)
	for !strings.HasSuffix(all.String(), `may"}]}`) {
		n, err := c.Read(b)
		if err != nil {
			return false
		}
		all.Write(b[:n])
	}
	return true
}

// TestMisbehaving is a table of programs that do not answer as they should.
func TestMisbehaving(t *testing.T) {
	t.Parallel()
	say := func(s string) func(int, net.Conn) {
		return func(_ int, c net.Conn) { drain(c); _, _ = io.WriteString(c, s) }
	}
	wait := func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }
	ok := "HTTP/1.1 200 OK\r\nContent-Length: "
	for name, test := range map[string]struct {
		serve func(int, net.Conn)
		want  error
	}{
		"closes at once":    {func(int, net.Conn) {}, hook.ErrUnavailable},
		"closes when asked": {func(_ int, c net.Conn) { drain(c) }, hook.ErrUnavailable},
		"garbage":           {say("220 mx.test ESMTP\r\n"), hook.ErrUnavailable},
		"cut in the header": {say("HTTP/1.1 200 OK\r\nContent-"), hook.ErrUnavailable},
		"cut in the answer": {say(ok + "100\r\n\r\n{\"score\""), hook.ErrUnavailable},
		"huge header":       {say("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n"), hook.ErrUnavailable},
		"huge answer":       {say(ok + "3000000\r\n\r\n" + strings.Repeat(" ", 3000000)), hook.ErrReply},
		"redirect":          {say("HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), hook.ErrReply},
		"wrong secret":      {say("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"), hook.ErrReply},
		"fault":             {say("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), hook.ErrReply},
		"deep JSON":         {say(ok + "50000\r\n\r\n" + strings.Repeat("[", 50000)), hook.ErrReply},
		"never answers":     {func(_ int, c net.Conn) { drain(c); wait(c) }, hook.ErrTimeout},
		"answers in drops":  {func(_ int, c net.Conn) { drain(c); _, _ = io.WriteString(c, ok+"100\r\n\r\n{"); wait(c) }, hook.ErrTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := 20 * time.Second
			if errors.Is(test.want, hook.ErrTimeout) {
				limit = 100 * time.Millisecond
			}
			var outcome string
			url, _ := peer(t, test.serve)
			c := newClient(t, url, func(c *hook.Config) {
				c.Timeout = limit
				c.Hooks.Asked = func(o string, _ time.Duration) { outcome = o }
			})
			r, err := c.Ask(t.Context(), sample(t, "ala@a.test"))
			if !errors.Is(err, test.want) || len(r.Items()) > 0 {
				t.Errorf("got %+v, %v, want %v", r, err, test.want)
			}
			if outcome == "" || outcome == "failed" || outcome == "deliver" {
				t.Errorf("hook says %q", outcome)
			}
		})
	}
}

// TestReconnect has the program close a kept connection when the next request comes: it is asked
// once more, and not a third time.
func TestReconnect(t *testing.T) {
	t.Parallel()
	no := "HTTP/1.1 204 No Content\r\n\r\n"
	url, count := peer(t, func(n int, c net.Conn) {
		if n == 3 {
			return // the second attempt of the third message
		}
		if drain(c) {
			_, _ = io.WriteString(c, no)
		}
		_, _ = c.Read(make([]byte, 1)) // the next request is begun, and cut
	})
	c := newClient(t, url, nil)
	for i, want := range []error{nil, nil, hook.ErrUnavailable} {
		if _, err := c.Ask(t.Context(), sample(t, "ala@a.test")); !errors.Is(err, want) {
			t.Errorf("message %d: got %v, want %v", i, err, want)
		}
	}
	if n := count(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

// brokenAt fails behind some octets.
type brokenAt struct {
	io.ReaderAt
	from int64
}

var errFire = errors.New("disk on fire")

// ReadAt implements io.ReaderAt.
func (b brokenAt) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.from {
		return 0, errFire
	}
	return b.ReaderAt.ReadAt(p, off)
}

// TestOurSide tells what is not the program's fault.
func TestOurSide(t *testing.T) {
	t.Parallel()
	url, _ := server(t, "tcp", "{}")
	for _, signing := range []string{"", secret} {
		c := newClient(t, url, func(c *hook.Config) { c.Send, c.MaxSize, c.Secret = hook.SendMessage, 100, []byte(signing) })
		m := sample(t, "ala@a.test")
		m.Content = brokenAt{m.Content, 10}
		if _, err := c.Ask(t.Context(), m); !errors.Is(err, errFire) || errors.Is(err, hook.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		m = sample(t, "ala@a.test")
		m.Size++
		if _, err := c.Ask(t.Context(), m); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, hook.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		m.Size = 101
		if _, err := c.Ask(t.Context(), m); !errors.Is(err, hook.ErrTooLarge) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Ask(ctx, sample(t, "ala@a.test")); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	for url, secret := range map[string]string{"": "", "127.0.0.1:1": "", "unix:": "", "ftp://x": "", "http://u:p@x": "", "http://x": "short"} {
		if _, err := hook.New(hook.Config{URL: url, Secret: []byte(secret)}); err == nil {
			t.Errorf("address %q with secret %q is taken", url, secret)
		}
	}
}

// FuzzResult reads any answer: what comes out keeps the rules of docs/hook.md.
func FuzzResult(f *testing.F) {
	f.Add(`{"action":"junk","score":5,"reason":"x","tag":"t","add_headers":[{"name":"X-A","value":"b"}]}`)
	f.Fuzz(func(t *testing.T, s string) {
		r, err := hook.ParseResult([]byte(s))
		if err != nil {
			return
		}
		for _, it := range r.Items() {
			if len(it.Detail) > verdict.MaxDetailOctets || strings.ContainsAny(it.Detail, "\r\n") || it.Scale == 0 {
				t.Fatalf("%+v", it)
			}
		}
		for _, h := range r.Headers {
			if strings.ContainsAny(h.Name+h.Value, "\r\n\x00") || len(h.Value) > 900 {
				t.Fatalf("%+v", h)
			}
		}
	})
}
