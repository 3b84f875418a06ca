package oauth_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/mua/oauth"
)

func TestDevice(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.pending, p.device = 1, map[string]any{"verification_uri_complete": "https://provider.example/device?code=ABCD-EFGH"}
	var shown []oauth.Code
	got, err := p.provider().Device(t.Context(), func(c oauth.Code) { shown = append(shown, c) })
	if err != nil || got.Access != "a1" || len(shown) != 1 {
		t.Fatalf("%+v, %v, shown %+v", got, err, shown)
	}
	c := shown[0]
	if c.Address != "https://provider.example/device" || c.Complete != c.Address+"?code=ABCD-EFGH" || c.Text != "ABCD-EFGH" || c.Away {
		t.Errorf("shown %+v", c)
	}
	if left := time.Until(c.Until); left < 30*time.Second || left > time.Minute {
		t.Errorf("it ends in %v", left)
	}
}

// TestDeviceRefused has the provider say no, or nothing before the code ends.
func TestDeviceRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		deny   string
		device map[string]any
		is     error
		says   string
	}{
		"denied":             {deny: "access_denied", is: oauth.ErrDenied},
		"expired there":      {deny: "expired_token", is: oauth.ErrLate},
		"expired here":       {deny: "authorization_pending", device: map[string]any{"expires_in": 2}, is: oauth.ErrLate},
		"something else":     {deny: "unauthorized_client", says: "unauthorized_client why not"},
		"a hostile address":  {device: map[string]any{"verification_uri": "javascript:alert(1)"}, says: "no https address"},
		"in the clear":       {device: map[string]any{"verification_uri": "http://provider.example/device"}, says: "no https address"},
		"no code":            {device: map[string]any{"user_code": ""}, says: "no code"},
		"a code without end": {device: map[string]any{"user_code": strings.Repeat("A", 65)}, says: "no code"},
		"no device code":     {device: map[string]any{"device_code": ""}, says: "no code"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t)
			p.deny, p.device = c.deny, c.device
			_, err := p.provider().Device(t.Context(), func(oauth.Code) {})
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v %q", err, c.is, c.says)
			}
		})
	}
}

// TestDeviceAway loses the provider while the code is waited for, and finds it again.
func TestDeviceAway(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.pending, p.broken = 1, 1
	o := p.provider()
	var lost atomic.Bool
	o.Client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if lost.Load() {
			return nil, &net.OpError{Op: "dial", Err: errors.New("network is unreachable")}
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}}
	var shown []bool
	got, err := o.Device(t.Context(), func(c oauth.Code) {
		shown = append(shown, c.Away)
		lost.Store(len(shown) == 1) // gone with the code, there again once that was said
	})
	if err != nil || got.Access != "a1" {
		t.Fatalf("%+v, %v", got, err)
	}
	if len(shown) != 3 || shown[0] || !shown[1] || shown[2] {
		t.Errorf("away was said as %v", shown)
	}
	lost.Store(true)
	if _, err := o.Device(t.Context(), func(oauth.Code) { t.Error("a code without a provider") }); !errors.Is(err, oauth.ErrAway) || strings.Contains(err.Error(), p.URL) {
		t.Errorf("nobody there: %v", err)
	}
	gone, cancel := context.WithCancelCause(t.Context())
	lost.Store(false)
	stopped := errors.New("stopped")
	p.mu.Lock()
	p.deny = "authorization_pending"
	p.mu.Unlock()
	if _, err := o.Device(gone, func(oauth.Code) { cancel(stopped) }); !errors.Is(err, stopped) {
		t.Errorf("the person gave up: %v", err)
	}
}
