package dkim_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/dkim"
)

// TestProgramsSign: what dkimpy signs holds here, where it is installed.
func TestProgramsSign(t *testing.T) {
	t.Parallel()
	r := keys(t)
	der, err := x509.MarshalPKCS8PrivateKey(r.rsa)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pemFile, seedFile := filepath.Join(dir, "rsa.pem"), filepath.Join(dir, "ed.seed")
	for file, text := range map[string][]byte{
		pemFile:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		seedFile: []byte(base64.StdEncoding.EncodeToString(r.ed.Seed())),
	} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const dkimpy = `
import dkim, sys
msg, key = sys.stdin.buffer.read(), open(sys.argv[2], 'rb').read()
c = tuple(x.encode() for x in sys.argv[3].split('/'))
sys.stdout.buffer.write(dkim.sign(msg, sys.argv[1].encode(), b'example.org', key, canonicalize=c,
    signature_algorithm=b'ed25519-sha256' if sys.argv[1] == 'ed' else b'rsa-sha256') + msg)
`
	tests := []struct { // opendkim-testmsg knows rsa-sha1 alone, which nobody may take
		name, need string
		args       []string
	}{
		{"dkimpy rsa relaxed/relaxed", "python3-dkim", []string{"/usr/bin/python3", "-c", dkimpy, "rsa", pemFile, "relaxed/relaxed"}},
		{"dkimpy rsa simple/simple", "python3-dkim", []string{"/usr/bin/python3", "-c", dkimpy, "rsa", pemFile, "simple/simple"}},
		{"dkimpy ed25519 relaxed/simple", "python3-dkim python3-nacl", []string{"/usr/bin/python3", "-c", dkimpy, "ed", seedFile, "relaxed/simple"}},
		{"dkimpy ed25519 simple/relaxed", "python3-dkim python3-nacl", []string{"/usr/bin/python3", "-c", dkimpy, "ed", seedFile, "simple/relaxed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(tt.args[0]); err != nil ||
				strings.HasPrefix(tt.name, "dkimpy") && exec.CommandContext(t.Context(), tt.args[0], "-c", "import dkim, nacl").Run() != nil {
				t.Skipf("not installed: apt-get install %s", tt.need)
			}
			cmd := exec.CommandContext(t.Context(), tt.args[0], tt.args[1:]...)
			cmd.Stdin = strings.NewReader(letter)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			msg := string(out)
			if !strings.Contains(msg, "Subject:") { // the field alone
				msg += letter
			}
			if got := outcome(verify(t, r.zone, wire([]byte(msg)), now)); got != dkim.Pass.String() {
				t.Errorf("got %s for\n%s", got, msg)
			}
		})
	}
}
