package clientconfig_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/limit"
)

func handler(t *testing.T, rate limit.Rate) *clientconfig.Handler {
	t.Helper()
	now := time.Unix(1_800_000_000, 0)
	h, err := clientconfig.NewHandler(clientconfig.HandlerConfig{Address: rate, Now: func() time.Time { return now },
		Settings: func(_ context.Context, d address.Domain) (clientconfig.Config, bool) {
			return ours(), d.String() == "example.org"
		}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ask(t *testing.T, h http.Handler, method, url, body string) (int, string, http.Header) {
	t.Helper()
	req := httptest.NewRequest(method, url, strings.NewReader(body))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	text, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(text), w.Result().Header
}

func TestHandler(t *testing.T) {
	t.Parallel()
	h := handler(t, limit.Rate{})
	question := func(a string) string {
		return `<Autodiscover><Request><EMailAddress>` + a + `</EMailAddress></Request></Autodiscover>`
	}
	for _, c := range []struct {
		name, method, url, body string
		status                  int
		want                    string
	}{
		{"autoconfig", "GET", "https://autoconfig.example.org/mail/config-v1.1.xml?emailaddress=ala%40example.org", "", 200, "<hostname>mail.example.org</hostname>"},
		{"autoconfig without an address", "GET", "https://AUTOCONFIG.example.org:443/mail/config-v1.1.xml", "", 200, "%EMAILADDRESS%"},
		{"the address has the say", "GET", "https://autoconfig.provider.example/mail/config-v1.1.xml?emailaddress=ala@example.org", "", 200, "<clientConfig"},
		{"well-known", "GET", "https://example.org/.well-known/autoconfig/mail/config-v1.1.xml", "", 200, "<clientConfig"},
		{"another's domain", "GET", "https://autoconfig.example.org/mail/config-v1.1.xml?emailaddress=ala@other.example", "", 404, ""},
		{"another's host", "GET", "https://autoconfig.other.example/mail/config-v1.1.xml", "", 404, ""},
		{"no address", "GET", "https://autoconfig.example.org/mail/config-v1.1.xml?emailaddress=ala", "", 404, ""},
		{"a person at an address literal", "GET", "https://autoconfig.example.org/mail/config-v1.1.xml?emailaddress=ala@[192.0.2.1]", "", 404, ""},
		{"an address literal", "GET", "https://[::1]/mail/config-v1.1.xml", "", 404, ""},
		{"a strange method", "DELETE", "https://autoconfig.example.org/mail/config-v1.1.xml", "", 405, ""},
		{"another path", "GET", "https://autoconfig.example.org/mail/", "", 404, ""},
		{"autodiscovery", "POST", "https://autodiscover.example.org/autodiscover/autodiscover.xml", question("ala@example.org"), 200, "<LoginName>ala@example.org</LoginName>"},
		{"autodiscovery in capitals", "POST", "https://autodiscover.example.org/Autodiscover/Autodiscover.xml", question("ala@example.org"), 200, "<Action>settings</Action>"},
		{"autodiscovery for nobody's domain", "POST", "https://autodiscover.example.org/AutoDiscover/AutoDiscover.XML", question("ala@other.example"), 200, "<ErrorCode>500</ErrorCode>"},
		{"autodiscovery without an address", "POST", "https://autodiscover.example.org/autodiscover/autodiscover.xml", question(""), 200, "<ErrorCode>600</ErrorCode>"},
		{"autodiscovery by GET", "GET", "https://autodiscover.example.org/autodiscover/autodiscover.xml", "", 200, "<ErrorCode>600</ErrorCode>"},
		{"a question too long", "POST", "https://autodiscover.example.org/autodiscover/autodiscover.xml", question(strings.Repeat("a", 20_000) + "@example.org"), 200, "<ErrorCode>600</ErrorCode>"},
		{"a schema that is not spoken", "POST", "https://autodiscover.example.org/autodiscover/autodiscover.xml",
			`<Autodiscover><Request><EMailAddress>ala@example.org</EMailAddress><AcceptableResponseSchema>http://mobilesync</AcceptableResponseSchema></Request></Autodiscover>`, 200, "<ErrorCode>601</ErrorCode>"},
		{"profile", "GET", "https://mail.example.org/mail/apple.mobileconfig?emailaddress=ala@example.org", "", 200, "EmailTypePOP"},
		{"profile of nobody", "GET", "https://mail.example.org/mail/apple.mobileconfig", "", 404, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			status, body, head := ask(t, h, c.method, c.url, c.body)
			if status != c.status || !strings.Contains(body, c.want) {
				t.Errorf("got %d\n%s", status, body)
			}
			if status == 200 && (head.Get("Cache-Control") != "no-store" || head.Get("X-Content-Type-Options") != "nosniff") {
				t.Errorf("header %v", head)
			}
		})
	}
}

// TestNobodyKnows: who exists and who doesn't get the same answers but for the name asked for.
func TestNobodyKnows(t *testing.T) {
	t.Parallel()
	h := handler(t, limit.Rate{})
	answer := func(person string) string {
		_, a, _ := ask(t, h, "GET", "https://autoconfig.example.org/mail/config-v1.1.xml?emailaddress="+person+"@example.org", "")
		_, b, _ := ask(t, h, "POST", "https://autodiscover.example.org/autodiscover/autodiscover.xml",
			`<Autodiscover><Request><EMailAddress>`+person+`@example.org</EMailAddress></Request></Autodiscover>`)
		return strings.ReplaceAll(a+b, person, "X")
	}
	if answer("ala") != answer("nobody") {
		t.Error("the answers tell who exists")
	}
}

func TestHandlerRate(t *testing.T) {
	t.Parallel()
	h := handler(t, limit.Rate{Burst: 2, Every: time.Minute})
	from := func(peer, path string) int {
		req := httptest.NewRequest("GET", "https://autoconfig.example.org"+path, nil)
		req.RemoteAddr = peer
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code == 429 && w.Header().Get("Retry-After") == "" {
			t.Error("it does not say when to try again")
		}
		return w.Code
	}
	for i, want := range []int{200, 200, 429, 429} {
		if got := from("192.0.2.1:1000", clientconfig.PathAutoconfig); got != want {
			t.Errorf("request %d: got %d, want %d", i, got, want)
		}
	}
	if got := from("192.0.2.2:1000", clientconfig.PathAutoconfig); got != 200 {
		t.Errorf("another address: got %d", got)
	}
	for range 5 {
		if got := from("127.0.0.1:1000", clientconfig.PathAutoconfig); got != 200 {
			t.Errorf("loopback: got %d", got)
		}
	}
	if got := from("nonsense", clientconfig.PathAutoconfig); got != 429 {
		t.Errorf("no address: got %d", got)
	}
}
