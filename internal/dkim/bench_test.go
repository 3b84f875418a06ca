package dkim_test

import (
	"bytes"
	"crypto"
	"io"
	"strings"
	"testing"

	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/message"
)

// text is a message of about so many octets.
func text(octets int) []byte {
	const line = "The quick brown fox jumps over the lazy dog, and then it goes home.\r\n"
	return []byte(letter + strings.Repeat(line, max(1, (octets-len(letter))/len(line))))
}

func BenchmarkSign(b *testing.B) {
	r := keys(b)
	for name, key := range map[string]crypto.Signer{"ed25519": r.ed, "rsa2048": r.rsa} {
		b.Run(name, func(b *testing.B) {
			s, err := dkim.NewSigner(domain(b, "example.org"), dkim.SigningKey{Selector: "a", Private: key})
			if err != nil {
				b.Fatal(err)
			}
			benchSign(b, s)
		})
	}
	b.Run("both", func(b *testing.B) { benchSign(b, r.signer(b)) })
}

func benchSign(b *testing.B, s *dkim.Signer) {
	msg := text(4 << 10)
	header, rest, _ := message.SplitHeader(msg)
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		g := s.Begin(header, dkim.Options{})
		_, _ = g.Write(rest[2:])
		if _, err := g.Fields(now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	r := keys(b)
	for name, key := range map[string]crypto.Signer{"ed": r.ed, "rsa": r.rsa} {
		b.Run(name, func(b *testing.B) {
			s, err := dkim.NewSigner(domain(b, "example.org"), dkim.SigningKey{Selector: name, Private: key})
			if err != nil {
				b.Fatal(err)
			}
			msg := []byte(sign(b, s, string(text(4<<10)), dkim.Options{}))
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				if got := verify(b, r.zone, msg, now); got[0].Status != dkim.Pass {
					b.Fatal(got[0].Err)
				}
			}
		})
	}
}

func BenchmarkBody(b *testing.B) {
	body := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog, and then it goes home.\r\n"), 1<<14)
	for _, c := range []dkim.Canonicalization{dkim.Simple, dkim.Relaxed} {
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				w := dkim.NewBody(c, io.Discard)
				for rest := body; len(rest) > 0; rest = rest[min(16<<10, len(rest)):] {
					_, _ = w.Write(rest[:min(16<<10, len(rest))])
				}
				_ = w.Close()
			}
		})
	}
}
