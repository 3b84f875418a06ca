package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"

	"poczta.example/poczta/internal/mua/oauth"
)

// FuzzAnswer renews a token at a provider that answers anything: there is a token, or an error in
// words, without what the provider must keep to itself.
func FuzzAnswer(f *testing.F) {
	f.Add(200, `{"access_token":"a","refresh_token":"r","token_type":"Bearer","expires_in":3600}`)
	f.Add(200, `access_token=a&expires_in=1`)
	f.Add(400, `{"error":"invalid_grant","error_description":"\u001b[2Jgone\u009b\u202e"}`)
	f.Add(400, `{"error":"\u001b]0;x\u0007"}`)
	f.Add(500, "the-refresh-token is bad")
	f.Add(200, `{"access_token":"a","expires_in":1e300}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 {
			status = 200
		}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		defer s.Close()
		p := &oauth.Provider{TokenURL: s.URL, AuthURL: s.URL, ClientID: "poczta"}
		got, err := p.Refresh(t.Context(), oauth.Token{Refresh: "the-refresh-token"})
		if err == nil {
			if got.Access == "" || got.Refresh == "" {
				t.Errorf("%d %q: a token without its parts", status, body)
			}
			text, err := got.Encode()
			if err != nil {
				t.Errorf("%d %q: %v", status, body, err)
			}
			if again, err := oauth.Decode(text); err != nil || again.Access != strings.ToValidUTF8(got.Access, "\uFFFD") {
				t.Errorf("%d %q: kept as %q (%v)", status, body, again.Access, err)
			}
			_ = got.Fresh(time.Now())
			return
		}
		if strings.ContainsFunc(err.Error(), unicode.IsControl) || strings.Contains(err.Error(), "the-refresh-token") || len(err.Error()) > 2000 {
			t.Errorf("%d %q: %q", status, body, err)
		}
	})
}
