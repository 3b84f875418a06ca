package dkim_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dkim"
)

func Example() {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	domain, _ := address.ParseDomain("example.org")
	signer, _ := dkim.NewSigner(domain, dkim.SigningKey{Selector: "s1", Private: private})
	record, _ := dkim.Record(private.Public())
	at := time.Unix(1795435200, 0)

	header, body := []byte("From: ala@example.org\r\nSubject: Hello\r\n"), []byte("Hi.\r\n")
	signing := signer.Begin(header, dkim.Options{})
	_, _ = signing.Write(body) // in any number of pieces
	fields, _ := signing.Fields(at)

	verifier, _ := dkim.NewVerifier(dkim.VerifierConfig{Records: zone{"s1._domainkey.example.org": record}})
	check := verifier.Begin(append(fields, header...))
	_, _ = check.Write(body)
	for _, r := range check.Results(context.Background(), at) {
		fmt.Println(r.Status, r.Signature.Domain, r.Signature.Selector, r.Signature.Algorithm)
	}
	// Output: pass example.org s1 ed25519-sha256
}
