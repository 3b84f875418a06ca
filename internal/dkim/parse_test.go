package dkim_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/dkim"
)

func TestParseTags(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       []dkim.Tag // nil for an error
	}{
		{"one", "v=1", []dkim.Tag{{Name: "v", Value: "1"}}},
		{"semicolon at the end", "v=1; a=b ;", []dkim.Tag{{Name: "v", Value: "1"}, {Name: "a", Value: "b"}}},
		{"blanks at the end", "v=1;\r\n ", []dkim.Tag{{Name: "v", Value: "1"}}},
		{"folded", " v = 1 ;\r\n\th=a :\r\n b", []dkim.Tag{{Name: "v", Value: "1"}, {Name: "h", Value: "a :\r\n b"}}},
		{"empty value", "p=", []dkim.Tag{{Name: "p"}}},
		{"equals in the value", "b=YQ==", []dkim.Tag{{Name: "b", Value: "YQ=="}}},
		{"case matters", "a=1; A=2", []dkim.Tag{{Name: "a", Value: "1"}, {Name: "A", Value: "2"}}},
		{"UTF-8", "d=żółw.example", []dkim.Tag{{Name: "d", Value: "żółw.example"}}},
		{"empty", "", nil},
		{"no equals", "v=1; t; p=", nil},
		{"two semicolons", "v=1;; a=2", nil},
		{"twice", "v=1; v=1", nil},
		{"digit first", "1v=1", nil},
		{"blank in the name", "v v=1", nil},
		{"control", "v=\x01", nil},
		{"not UTF-8", "v=\xff", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := dkim.ParseTags(tt.text)
			if (err != nil) != (tt.want == nil) {
				t.Fatalf("got %v, %v; want %v", got, err, tt.want)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

const hash32 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

func TestParseSignature(t *testing.T) {
	t.Parallel()
	const good = "v=1; a=rsa-sha256; d=example.org; s=sel; h=From:To; bh=" + hash32 + "; b=YQ=="
	with := func(old, now string) string { return strings.Replace(good, old, now, 1) }
	tests := []struct {
		name, text string
		want       error
	}{
		{"good", good, nil},
		{"unknown tag", good + "; z=x", nil},
		{"A-labels", with("example.org", "xn--w-uga1v8h.example"), nil},
		{"U-labels", with("d=example.org; s=sel", "d=żółw.example; s=żółw; i=ż@żółw.example"), nil},
		{"selector of digits", with("s=sel", "s=20230601"), nil},
		{"selector with an underscore", with("s=sel", "s=a_b.c"), nil},
		{"subdomain in i=", good + "; i=a@x.example.org", nil},
		{"l=0", good + "; l=0", nil},
		{"x= after t=", good + "; t=1; x=2", nil},
		{"x= beyond all time", good + "; t=1; x=99999999999999999999", nil},
		{"q=", good + "; q=x/y:dns/txt", nil},
		{"no v=", with("v=1; ", ""), dkim.ErrMissing},
		{"v=2", with("v=1", "v=2"), dkim.ErrVersion},
		{"no a=", with("a=rsa-sha256; ", ""), dkim.ErrMissing},
		{"rsa-sha1", with("sha256", "sha1"), dkim.ErrAlgorithm},
		{"unknown algorithm", with("rsa-sha256", "dsa-sha256"), dkim.ErrAlgorithm},
		{"no d=", with("d=example.org; ", ""), dkim.ErrMissing},
		{"literal", with("example.org", "[192.0.2.1]"), dkim.ErrSyntax},
		{"final dot", with("example.org", "example.org."), dkim.ErrSyntax},
		{"no s=", with("s=sel; ", ""), dkim.ErrMissing},
		{"path as selector", with("s=sel", "s=a/b"), dkim.ErrSyntax},
		{"no h=", with("h=From:To; ", ""), dkim.ErrMissing},
		{"From not signed", with("From:", "Fro:"), dkim.ErrFrom},
		{"empty name in h=", with("From:To", "From::To"), dkim.ErrSyntax},
		{"no bh=", with("bh="+hash32+"; ", ""), dkim.ErrMissing},
		{"short bh=", with(hash32, "YQ=="), dkim.ErrSyntax},
		{"no b=", with("; b=YQ==", ""), dkim.ErrMissing},
		{"empty b=", with("b=YQ==", "b="), dkim.ErrSyntax},
		{"b= not base64", with("b=YQ==", "b=?"), dkim.ErrSyntax},
		{"foreign i=", good + "; i=a@example.net", dkim.ErrDomain},
		{"i= that ends like d=", good + "; i=a@badexample.org", dkim.ErrDomain},
		{"i= above d=", good + "; i=a@org", dkim.ErrDomain},
		{"i= without @", good + "; i=example.org", dkim.ErrSyntax},
		{"l= negative", good + "; l=-1", dkim.ErrSyntax},
		{"x= before t=", good + "; t=2; x=1", dkim.ErrSyntax},
		{"t= not a number", good + "; t=now", dkim.ErrSyntax},
		{"c= unknown", good + "; c=nofws", dkim.ErrSyntax},
		{"c= unknown body", good + "; c=relaxed/nofws", dkim.ErrSyntax},
		{"q= unknown", good + "; q=x/y", dkim.ErrQuery},
		{"twice", good + "; d=example.net", dkim.ErrSyntax},
		{"too long", good + "; z=" + strings.Repeat("x", dkim.MaxFieldOctets), dkim.ErrSyntax},
		{"too many fields", with("From:To", "From"+strings.Repeat(":a", dkim.MaxSignedFields)), dkim.ErrSyntax},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := dkim.ParseSignature(tt.text)
			if !errors.Is(err, tt.want) || s == nil {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	s, err := dkim.ParseSignature(with("d=example.org; s=sel", "d=żółw.example; s=żółw; i=ż@żółw.example"))
	if err != nil || s.Name() != "xn--w-uga1v8h._domainkey.xn--w-uga1v8h.example" || s.Identity != "ż@xn--w-uga1v8h.example" {
		t.Errorf("got %s, %s, %v", s.Name(), s.Identity, err) // RFC 8616 §5: looked up as A-labels
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	r := keys(t)
	pkcs1 := base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(&r.rsa.PublicKey))
	edRecord := r.zone["ed._domainkey.example.org"]
	tests := []struct {
		name, text string
		want       error
	}{
		{"RSA", r.zone["rsa._domainkey.example.org"], nil},
		{"RSA of PKCS #1", "p=" + pkcs1, nil},
		{"Ed25519", edRecord, nil},
		{"blanks in p=", strings.Replace(edRecord, "p=", "p= \t", 1), nil},
		{"revoked", "v=DKIM1; p=", nil},
		{"empty", "", dkim.ErrKeySyntax},
		{"SPF", "v=spf1 mx -all", dkim.ErrKeySyntax},
		{"v= not first", "k=rsa; v=DKIM1; p=" + pkcs1, dkim.ErrKeySyntax},
		{"no p=", "v=DKIM1; k=rsa", dkim.ErrKeySyntax},
		{"p= not base64", "p=?", dkim.ErrKeySyntax},
		{"unknown type", "k=dsa; p=YQ==", dkim.ErrKeyType},
		{"Ed25519 in the place of RSA", strings.Replace(edRecord, "k=ed25519", "k=rsa", 1), dkim.ErrKeySyntax},
		{"RSA in the place of Ed25519", "k=ed25519; p=" + pkcs1, dkim.ErrKeySyntax},
		{"too long", "p=" + strings.Repeat("A", dkim.MaxRecordOctets), dkim.ErrKeySyntax},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := dkim.ParseKey(tt.text); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	one, err := dkim.ParseKey(r.zone["rsa._domainkey.example.org"])
	if err != nil {
		t.Fatal(err)
	}
	two, err := dkim.ParseKey("k=RSA; n=another; t=y:s; s=email; h=sha256; p=" + pkcs1)
	if err != nil || !one.Same(two) || !two.Testing || !two.Strict || !two.Email || two.Bits() != 2048 {
		t.Errorf("got %+v, %v; want the same key", two, err)
	}
	if other, err := dkim.ParseKey(edRecord); err != nil || one.Same(other) || other.Bits() != 256 {
		t.Errorf("got %+v, %v; want another key", other, err)
	}
}

// TestKeyRules: what the key record says is enforced (RFC 6376 §6.1.2).
func TestKeyRules(t *testing.T) {
	t.Parallel()
	r := keys(t)
	signed := []byte(sign(t, r.signer(t), letter, dkim.Options{Lifetime: time.Hour}))
	ed, rsaRecord := r.zone["ed._domainkey.example.org"], r.zone["rsa._domainkey.example.org"]
	weak, err := dkim.Record(&shortKey(t).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := dkim.Record(stranger.Public())
	if err != nil {
		t.Fatal(err)
	}
	rsaName := "rsa._domainkey.example.org"
	tests := []struct {
		name   string
		record string // of the Ed25519 key
		status dkim.Status
		want   error
	}{
		{"as it is", ed, dkim.Pass, nil},
		{"testing", ed + "; t=y", dkim.Pass, nil},
		{"strict", ed + "; t=s", dkim.Pass, nil},
		{"for e-mail", ed + "; s=x:email", dkim.Pass, nil},
		{"for all", ed + "; s=*", dkim.Pass, nil},
		{"SHA-256 among others", ed + "; h=sha1:sha256", dkim.Pass, nil},
		{"other hash", ed + "; h=sha1", dkim.PermError, dkim.ErrKeyHash},
		{"other service", ed + "; s=tlsrpt", dkim.PermError, dkim.ErrKeyService},
		{"revoked", "v=DKIM1; k=ed25519; p=", dkim.PermError, dkim.ErrKeyRevoked},
		{"other type", rsaRecord, dkim.PermError, dkim.ErrKeyType},
		{"other key", other, dkim.Fail, dkim.ErrSignature},
		{"malformed", "v=DKIM1; p", dkim.PermError, dkim.ErrKeySyntax},
		{"absent", "NXDOMAIN", dkim.PermError, dkim.ErrNoKey},
		{"fault", "~~SERVFAIL~~", dkim.TempError, dkim.ErrKeyFetch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := verify(t, zone{"ed._domainkey.example.org": tt.record, rsaName: rsaRecord}, signed, now)
			if got[0].Status != tt.status || !errors.Is(got[0].Err, tt.want) {
				t.Errorf("got %s (%v), want %s (%v)", got[0].Status, got[0].Err, tt.status, tt.want)
			}
			if got[1].Status != dkim.Pass {
				t.Errorf("the other signature: %s (%v)", got[1].Status, got[1].Err)
			}
			if testing := strings.Contains(tt.record, "t=y"); got[0].Testing != testing {
				t.Errorf("Testing is %v", got[0].Testing)
			}
		})
	}
	got := verify(t, zone{rsaName: weak}, signed, now)
	if got[1].Status != dkim.PermError || !errors.Is(got[1].Err, dkim.ErrKeySize) || got[1].Bits != 768 {
		t.Errorf("short key: got %s (%v)", got[1].Status, got[1].Err) // RFC 8301 §3.2
	}
	got = verify(t, r.zone, signed, now.Add(time.Hour))
	if got[0].Status != dkim.PermError || !errors.Is(got[0].Err, dkim.ErrExpired) {
		t.Errorf("expired: got %s (%v)", got[0].Status, got[0].Err)
	}
}

// shortKey is an RSA public key of 768 bits, which crypto/rsa does not make any
// more: a longer modulus cut short, with which nobody can sign.
func shortKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k := keys(t).rsa.PublicKey
	n := new(big.Int).Rsh(k.N, 2048-768)
	return &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n.SetBit(n, 0, 1), E: k.E}}
}

// many answers with several records.
type many []string

// TXT implements dkim.Records.
func (m many) TXT(context.Context, string) ([]string, error) { return m, nil }

func TestSeveralRecords(t *testing.T) {
	t.Parallel()
	r := keys(t)
	ed, other := r.zone["ed._domainkey.example.org"], r.zone["rsa._domainkey.example.org"]
	d := domain(t, "example.org")
	for _, tt := range []struct {
		name    string
		records many
		want    error
	}{
		{"one", many{ed}, nil},
		{"beside another text", many{"v=spf1 -all", ed}, nil},
		{"the same twice", many{ed, ed + ";"}, nil},
		{"two keys", many{ed, other}, dkim.ErrManyKeys},
		{"none", many{}, dkim.ErrNoKey},
		{"other text alone", many{"v=spf1 -all"}, dkim.ErrKeySyntax},
	} {
		if _, err := dkim.Fetch(t.Context(), tt.records, "ed", d); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

// TestStrictAndLength: i= in a subdomain against t=s, and l= reported, with
// signatures of a foreign signer's form.
func TestStrictAndLength(t *testing.T) {
	t.Parallel()
	r := keys(t)
	sig := func(extra string) string { return dkim.Forge(r.ed, "example.org", "ed", extra, letter) }
	record := r.zone["ed._domainkey.example.org"]
	z := zone{"ed._domainkey.example.org": record}
	if got := verify(t, z, []byte(sig("i=a@sub.example.org; ")), now); got[0].Status != dkim.Pass {
		t.Errorf("got %s (%v)", got[0].Status, got[0].Err)
	}
	strict := zone{"ed._domainkey.example.org": record + "; t=s"}
	if got := verify(t, strict, []byte(sig("i=a@sub.example.org; ")), now); !errors.Is(got[0].Err, dkim.ErrKeyStrict) {
		t.Errorf("got %s (%v), want ErrKeyStrict", got[0].Status, got[0].Err)
	}
	long := sig("l=5; ") + "Buy this\r\n"
	got := verify(t, z, []byte(long), now)
	if got[0].Status != dkim.Pass || got[0].Unsigned != int64(len(canonBody(dkim.Relaxed, []byte("Hi.\r\n\r\nWe lost  the game.\t\r\n\r\n\r\nBuy this\r\n")))-5) {
		t.Errorf("got %s (%v), %d octets unsigned", got[0].Status, got[0].Err, got[0].Unsigned)
	}
	if got := verify(t, z, []byte(sig("l=5000; ")), now); !errors.Is(got[0].Err, dkim.ErrBodyLength) {
		t.Errorf("got %s (%v), want ErrBodyLength", got[0].Status, got[0].Err)
	}
}

func TestManySignatures(t *testing.T) {
	t.Parallel()
	r := keys(t)
	signed := letter
	for range 8 {
		signed = sign(t, r.signer(t), signed, dkim.Options{})
	}
	v, err := dkim.NewVerifier(dkim.VerifierConfig{Records: r.zone, MaxSignatures: 5})
	if err != nil {
		t.Fatal(err)
	}
	header, body, _ := strings.Cut(signed, "\r\n\r\n")
	c := v.Begin([]byte(header + "\r\n"))
	_, _ = c.Write([]byte(body))
	if got := outcome(c.Results(t.Context(), now)); got != "pass pass pass pass pass" {
		t.Errorf("got %s", got)
	}
	if checked, ignored := c.Signatures(); checked != 5 || ignored != 11 {
		t.Errorf("%d checked, %d ignored", checked, ignored)
	}
	if _, err := dkim.NewVerifier(dkim.VerifierConfig{}); err == nil {
		t.Error("a Verifier without Records")
	}
}
