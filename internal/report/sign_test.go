package report_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/keys"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/report"
)

// signers have one key, of one domain, or an error.
type signers struct {
	domain  string
	private ed25519.PrivateKey
	err     error
}

// Signer implements report.Signers.
func (s *signers) Signer(_ context.Context, d address.Domain) (*dkim.Signer, error) {
	if s.err != nil {
		return nil, s.err
	}
	if d.String() != s.domain {
		return nil, keys.ErrNoKey
	}
	return dkim.NewSigner(d, dkim.SigningKey{Selector: "s", Private: s.private})
}

// TXT implements dkim.Records.
func (s *signers) TXT(_ context.Context, name string) ([]string, error) {
	if name != "s._domainkey."+s.domain {
		return nil, dkim.ErrNoKey
	}
	record, err := dkim.Record(s.private.Public())
	return []string{record}, err
}

// TestSigned: reports that leave are signed for the host name or the nearest
// domain above it with keys; those to mailboxes here are not.
func TestSigned(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, domain, to string
		want             int
	}{
		{"host name", "mx.example.org", "jan@example.net", 1},
		{"domain above", "example.org", "jan@example.net", 1},
		{"no keys", "other.example", "jan@example.net", 0},
		{"alias to elsewhere", "example.org", "both@example.org", 1},
		{"mailbox here", "example.org", "ala@example.org", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &signers{domain: tt.domain, private: private}
			r, accepter := newReporter(t, func(c *report.Config) { c.Signers = s })
			if err := r.Send(t.Context(), original(t, tt.to), failed(t)); err != nil {
				t.Fatal(err)
			}
			got := accepter.Accepted()[0]
			header, rest, _ := message.SplitHeader([]byte(string(got.Head) + got.Text))
			v, err := dkim.NewVerifier(dkim.VerifierConfig{Records: s})
			if err != nil {
				t.Fatal(err)
			}
			c := v.Begin(header)
			_, _ = c.Write(dkim.AfterEmptyLine(rest))
			results := c.Results(t.Context(), time.Date(2026, 11, 23, 3, 35, 9, 0, time.UTC))
			if len(results) != tt.want || !got.Ours {
				t.Errorf("%d signatures, want %d", len(results), tt.want)
			}
			for _, res := range results {
				if res.Status != dkim.Pass {
					t.Errorf("%s: %v", res.Status, res.Err)
				}
			}
		})
	}
	away := errors.New("database is away")
	r, accepter := newReporter(t, func(c *report.Config) { c.Signers = &signers{err: away} })
	if err := r.Send(t.Context(), original(t, "jan@example.net"), failed(t)); !errors.Is(err, away) || accepter.Leaked() != 0 {
		t.Errorf("got %v, %d left staged", err, accepter.Leaked())
	}
	if _, err := r.Prepare(t.Context(), original(t, "jan@example.net"), failed(t)); !errors.Is(err, away) {
		t.Errorf("got %v", err)
	}
}
