package page_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// TestStrangers tries all who must not come in.
func TestStrangers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	at, err := h.page.Enter(h.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	in := httptest.NewRecorder()
	r := httptest.NewRequest("GET", at, nil)
	r.RemoteAddr = "127.0.0.1:4000"
	h.page.ServeHTTP(in, r)
	cookies := in.Result().Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode || cookies[0].Path != h.base || len(h.base) < 33 {
		t.Fatalf("cookies: %v", cookies)
	}
	tests := []struct {
		name, method, target, remote, host string
		header                             map[string]string
		cookie                             bool
		want                               int
	}{
		{"let in", "GET", h.base + "/mail", "127.0.0.1:4000", "127.0.0.1:80", nil, true, 200},
		{"by IPv6", "GET", h.base + "/mail", "[::1]:4000", "[::1]:80", nil, true, 200},
		{"by localhost", "GET", h.base + "/mail", "127.0.0.1:4000", "localhost:80", nil, true, 200},
		{"no cookie", "GET", h.base + "/mail", "127.0.0.1:4000", "127.0.0.1:80", nil, false, 401},
		{"no path", "GET", "/mail", "127.0.0.1:4000", "127.0.0.1:80", nil, true, 401},
		{"another path", "GET", "/" + strings.Repeat("A", 32) + "/mail", "127.0.0.1:4000", "127.0.0.1:80", nil, true, 401},
		{"no cookie for a script", "GET", h.base + "/static/x/page.js", "127.0.0.1:4000", "127.0.0.1:80", nil, false, 401},
		{"a token that was used", "GET", strings.TrimPrefix(at, h.server.URL), "127.0.0.1:4000", "127.0.0.1:80", nil, false, 401},
		{"a token that is none", "GET", "/enter?token=x", "127.0.0.1:4000", "127.0.0.1:80", nil, false, 401},
		{"another computer", "GET", h.base + "/mail", "192.0.2.7:4000", "127.0.0.1:80", nil, true, 403},
		{"another name", "GET", h.base + "/mail", "127.0.0.1:4000", "rebind.example:80", nil, true, 421},
		{"another name, to enter", "GET", "/enter?token=x", "127.0.0.1:4000", "rebind.example", nil, false, 421},
		{"an address that begins like ours", "GET", h.base + "/mail", "127.0.0.1:4000", "127.0.0.1.rebind.example", nil, true, 421},
		{"another site reads", "GET", h.base + "/mail", "127.0.0.1:4000", "127.0.0.1:80", map[string]string{"Sec-Fetch-Site": "cross-site"}, true, 403},
		{"another port reads", "GET", h.base + "/mail", "127.0.0.1:4000", "127.0.0.1:80", map[string]string{"Sec-Fetch-Site": "same-site"}, true, 403},
		{"another site writes", "POST", h.base + "/look", "127.0.0.1:4000", "127.0.0.1:80", map[string]string{"Sec-Fetch-Site": "cross-site"}, true, 403},
		{"another port writes, old browser", "POST", h.base + "/look", "127.0.0.1:4000", "127.0.0.1:80", map[string]string{"Origin": "http://127.0.0.1:81"}, true, 403},
		{"we write", "POST", h.base + "/look", "127.0.0.1:4000", "127.0.0.1:80", map[string]string{"Origin": "http://127.0.0.1:80"}, true, 303},
		{"a command as an address", "GET", h.base + "/act?do=delete", "127.0.0.1:4000", "127.0.0.1:80", nil, true, 404},
		{"a picture with a wrong seal", "GET", "/inline/AAAAAAAAAAAAAAAAAAAAAA/1/0", "127.0.0.1:4000", "127.0.0.1:80", nil, true, 404},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(tt.method, tt.target, nil)
		r.RemoteAddr, r.Host = tt.remote, tt.host
		for k, v := range tt.header {
			r.Header.Set(k, v)
		}
		if tt.cookie {
			r.AddCookie(cookies[0])
		}
		w := httptest.NewRecorder()
		h.page.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, w.Code, tt.want)
		}
		for field, want := range map[string]string{"Content-Security-Policy": "default-src 'none'", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin"} {
			if got := w.Header().Get(field); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s is %q", tt.name, field, got)
			}
		}
	}
}

// TestCookieStays looks at what programs at other ports of this computer get from a browser that was
// let in: nothing that says who or where.
func TestCookieStays(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.post("/preferences", url.Values{"lang": {"pl"}, "theme": {"dark"}})
	var mu sync.Mutex
	var got []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range r.Cookies() {
			got = append(got, r.URL.Path+" "+c.Name)
		}
	}))
	t.Cleanup(other.Close)
	for _, path := range []string{"/", "/mail", "/enter", "/favicon.ico", h.base[:len(h.base)-1], h.base + "x/mail"} {
		r, err := h.client.Get(other.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
	}
	for _, s := range got {
		if !strings.HasSuffix(s, " poczta-lang") && !strings.HasSuffix(s, " poczta-theme") {
			t.Errorf("another port got %s", s)
		}
	}
	if len(got) == 0 {
		t.Error("the other port got not even the language: this test's browser tells nothing to anybody")
	}
	// Two pages on one computer do not know each other's cookies.
	second := newHouse(t)
	r, err := h.client.Get(second.at("/mail"))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusUnauthorized {
		t.Errorf("one page's cookie opens another: %s", r.Status)
	}
}

// TestServe listens on loopback alone, and ends with its context.
func TestServe(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	everywhere, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.page.Serve(t.Context(), everywhere); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("served everywhere: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.page.Serve(ctx, l) }()
	at, err := h.page.Enter("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections() // lint: the test's own connection
	stop()
	if err := <-ended; err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("%s, %v", r.Status, err)
	}
}
