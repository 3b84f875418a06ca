package dkim_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/message"
)

// check verifies a message by a configuration.
func check(t *testing.T, c dkim.VerifierConfig, msg string, at time.Time) dkim.Result {
	t.Helper()
	v, err := dkim.NewVerifier(c)
	if err != nil {
		t.Fatal(err)
	}
	header, rest, _ := message.SplitHeader([]byte(msg))
	s := v.Begin(header)
	_, _ = s.Write(dkim.AfterEmptyLine(rest))
	return s.Results(t.Context(), at)[0]
}

// TestPolicy: what holds and does not count here is 'policy', and what does not hold never is.
func TestPolicy(t *testing.T) {
	t.Parallel()
	r := keys(t)
	rsaOnly, err := dkim.NewSigner(domain(t, "example.org"), dkim.SigningKey{Selector: "rsa", Private: r.rsa})
	if err != nil {
		t.Fatal(err)
	}
	signed := sign(t, rsaOnly, letter, dkim.Options{})
	ed, err := dkim.NewSigner(domain(t, "example.org"), dkim.SigningKey{Selector: "ed", Private: r.ed})
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(signed, "lost", "won", 1)
	partial := dkim.Forge(r.ed, "example.org", "ed", "l=5; ", letter)
	whole := dkim.Forge(r.ed, "example.org", "ed", fmt.Sprintf("l=%d; ", len(canonBody(dkim.Relaxed, []byte("Hi.\r\n\r\nWe lost  the game.\t\r\n\r\n\r\n")))), letter)
	tests := []struct {
		name string
		c    dkim.VerifierConfig
		msg  string
		at   time.Time
		want dkim.Status
		err  error
	}{
		{"2048 bits", dkim.VerifierConfig{MinRSABits: 2048}, signed, now, dkim.Pass, nil},
		{"2048 bits of 3072", dkim.VerifierConfig{MinRSABits: 3072}, signed, now, dkim.Policy, dkim.ErrWeak},
		{"2048 bits of 3072, changed", dkim.VerifierConfig{MinRSABits: 3072}, changed, now, dkim.Fail, dkim.ErrBodyHash},
		{"Ed25519 is never short", dkim.VerifierConfig{MinRSABits: 4096}, sign(t, ed, letter, dkim.Options{}), now, dkim.Pass, nil},
		{"part of the body", dkim.VerifierConfig{RefusePartial: true}, partial, now, dkim.Policy, dkim.ErrPartial},
		{"part of the body, taken", dkim.VerifierConfig{}, partial, now, dkim.Pass, nil},
		{"l= of the whole body", dkim.VerifierConfig{RefusePartial: true}, whole, now, dkim.Pass, nil},
		{"clock an hour ahead", dkim.VerifierConfig{}, signed, now.Add(-time.Hour), dkim.Pass, nil},
		{"two days ahead", dkim.VerifierConfig{}, signed, now.Add(-48 * time.Hour), dkim.PermError, dkim.ErrFuture},
		{"an hour ahead of a minute", dkim.VerifierConfig{Skew: time.Minute}, signed, now.Add(-time.Hour), dkim.PermError, dkim.ErrFuture},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.c.Records = r.zone
			got := check(t, tt.c, tt.msg, tt.at)
			if got.Status != tt.want || !errors.Is(got.Err, tt.err) {
				t.Errorf("got %s (%v), want %s (%v)", got.Status, got.Err, tt.want, tt.err)
			}
		})
	}
	for _, c := range []dkim.VerifierConfig{{MinRSABits: 512}, {MinRSABits: 1 << 20}, {MaxSignatures: -1}, {Skew: -1}} {
		c.Records = r.zone
		if _, err := dkim.NewVerifier(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// counter counts questions, and answers after a second each.
type counter struct {
	zone
	asked atomic.Int32
}

func (c *counter) TXT(ctx context.Context, name string) ([]string, error) {
	c.asked.Add(1)
	select {
	case <-time.After(time.Second):
		return c.zone.TXT(ctx, name)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestLookUp: keys are fetched at once and each name once, beside the body.
func TestLookUp(t *testing.T) {
	t.Parallel()
	r := keys(t)
	msg := letter
	for range 3 { // six signatures of two names
		msg = sign(t, r.signer(t), msg, dkim.Options{})
	}
	synctest.Test(t, func(t *testing.T) {
		slow := &counter{zone: r.zone}
		v, err := dkim.NewVerifier(dkim.VerifierConfig{Records: slow})
		if err != nil {
			t.Fatal(err)
		}
		header, rest, _ := message.SplitHeader([]byte(msg))
		c := v.Begin(header)
		began, done := time.Now(), make(chan struct{})
		go func() {
			defer close(done)
			c.LookUp(t.Context())
		}()
		_, _ = c.Write(dkim.AfterEmptyLine(rest))
		<-done
		if got := outcome(c.Results(t.Context(), now)); got != "pass pass pass pass pass pass" {
			t.Errorf("got %s", got)
		}
		if n, took := slow.asked.Load(), time.Since(began); n != 2 || took != time.Second {
			t.Errorf("%d questions in %s", n, took)
		}
	})
}

// TestMessageShared: what two verifications read of one message is what each reads alone.
func TestMessageShared(t *testing.T) {
	t.Parallel()
	r := keys(t)
	msg := sign(t, r.signer(t), letter, dkim.Options{})
	v, err := dkim.NewVerifier(dkim.VerifierConfig{Records: r.zone})
	if err != nil {
		t.Fatal(err)
	}
	header, rest, _ := message.SplitHeader([]byte(msg))
	m := dkim.NewMessage(header)
	a, b := v.BeginMessage(m), v.BeginMessage(m)
	whole, part, simple := m.Body(dkim.Relaxed, -1), m.Body(dkim.Relaxed, 5), m.Body(dkim.Simple, -1)
	if again := m.Body(dkim.Relaxed, -1); again != whole || part == whole || simple == whole {
		t.Error("hashes are shared wrongly")
	}
	_, _ = m.Write(dkim.AfterEmptyLine(rest))
	if got := outcome(append(a.Results(t.Context(), now), b.Results(t.Context(), now)...)); got != "pass pass pass pass" {
		t.Errorf("got %s", got)
	}
}

// TestKeyCache: a key is parsed once while its record stays, a changed record counts at once, and
// memory is bounded.
func TestKeyCache(t *testing.T) {
	t.Parallel()
	r := keys(t)
	z := zone{"a": r.zone["ed._domainkey.example.org"]}
	v, err := dkim.NewVerifier(dkim.VerifierConfig{Records: z})
	if err != nil {
		t.Fatal(err)
	}
	get := func(name string) *dkim.Key {
		k, err := v.Fetch(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := get("a")
	if get("a") != first {
		t.Error("the key was parsed again")
	}
	z["a"] = r.zone["rsa._domainkey.example.org"]
	if get("a").Same(first) {
		t.Error("the old key is used")
	}
	for i := range 3000 {
		name := fmt.Sprint("n", i)
		z[name] = r.zone["ed._domainkey.example.org"] + strings.Repeat(" ", i) + ";"
		get(name)
	}
	if n := dkim.CachedKeys(v); n > 1024 {
		t.Errorf("%d keys are kept", n)
	}
}
