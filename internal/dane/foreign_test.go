package dane_test

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/dane"
)

// vector is one block of OpenSSL's test/danetest.in.
type vector struct {
	number  string
	result  int // of OpenSSL: 0 is success, 62 a wrong name, 65 no match
	records dane.Records
	chain   []*x509.Certificate
}

// foreign reads OpenSSL's vectors.
func foreign(t *testing.T) []vector {
	t.Helper()
	dir := os.Getenv("POCZTA_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	text, err := os.ReadFile(filepath.Join(dir, "dane", "openssl", "danetest.part-shared.in"))
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	var out []vector
	number := ""
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		f := strings.Fields(line)
		if len(f) == 2 && f[0] == "#" {
			number = f[1]
		}
		if len(f) != 5 || f[0] == "#" {
			continue
		}
		v := vector{number: number}
		v.result, _ = strconv.Atoi(f[3])
		v.records, v.chain = block(t, lines, atoi(t, f[0]), atoi(t, f[1]))
		out = append(out, v)
	}
	return out
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// block reads the records and certificates of one vector.
func block(t *testing.T, lines *bufio.Scanner, records, certs int) (rs dane.Records, chain []*x509.Certificate) {
	t.Helper()
	for len(rs) < records && lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) != 4 || f[0] == "#" {
			continue
		}
		data, err := hex.DecodeString(f[3])
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, dane.Record{Usage: dane.Usage(atoi(t, f[0])), Selector: uint8(atoi(t, f[1])), Matching: uint8(atoi(t, f[2])), Data: data})
	}
	var text strings.Builder
	for n := 0; n < certs && lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "-----END") {
			n++
		}
	}
	for rest := []byte(text.String()); ; {
		var p *pem.Block
		if p, rest = pem.Decode(rest); p == nil {
			return rs, chain
		}
		c, err := x509.ParseCertificate(p.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
}

// TestOpenSSL holds our verdicts against OpenSSL's. The deviation: records of
// usages PKIX-TA and PKIX-EE, which OpenSSL serves for protocols other than SMTP,
// are unusable here (RFC 7672 §3.1.3), so that blocks which have no others leave
// the server unauthenticated instead of verified.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	vectors := foreign(t)
	if len(vectors) != 27 {
		t.Fatalf("read %d blocks, want 27", len(vectors))
	}
	deviations := map[string]bool{"23": true, "25": true, "27": true, "29": true, "31": true, "33": true, "35": true, "37": true, "39": true}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, v := range vectors {
		t.Run(v.number, func(t *testing.T) {
			t.Parallel()
			_, err := v.records.Verify(v.chain, []string{"example.com"}, now)
			want := map[int]error{0: nil, 62: dane.ErrName, 65: dane.ErrNoMatch}[v.result]
			if deviations[v.number] {
				if len(v.records.Usable()) != 0 {
					t.Errorf("got usable records of usages 0 and 1: %v", v.records.Usable().Strings())
				}
				want = dane.ErrNoMatch
			}
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
}
