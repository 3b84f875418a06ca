package smtpserver_test

import (
	"bufio"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"poczta.example/poczta/internal/smtpserver"
)

// jamesDeviation is where our server answers otherwise than the script of Apache
// James wants, and why.
type jamesDeviation struct {
	first string   // a command that is sent in front of the script's own
	lacks []string // lines of the reply to EHLO that ours has not
	why   string
}

var jamesDeviations = map[string]jamesDeviation{
	"authplain.test": {first: "EHLO client.test", why: "AUTH belongs to extended SMTP: before EHLO it is answered 503 (RFC 4954 §3, RFC 5321 §4.1.4)"},
	"starttls.test":  {lacks: []string{"AUTH=LOGIN PLAIN"}, why: "AUTH= is a form of drafts before RFC 2554, offered by no standard"},
	"data_with_starttls.test": {lacks: []string{"AUTH=LOGIN PLAIN"},
		why: "AUTH= is a form of drafts before RFC 2554, offered by no standard"},
}

// jamesLine is an expectation: a line of a reply.
var jamesLine = regexp.MustCompile(`^(\d{3})([ -]|\.\*)(.*)$`)

// TestJames plays the scripts of Apache James' protocol tester. Its wording is
// James's own, so codes and the offered extensions are compared.
func TestJames(t *testing.T) {
	t.Parallel()
	root := os.Getenv("POCZTA_TESTDATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	files, err := filepath.Glob(filepath.Join(root, "smtp", "james-mpt", "*.test"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("no foreign test data (POCZTA_TESTDATA)")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			server, _ := certificates()
			cfg := smtpserver.Config{TLS: server}
			if strings.Contains(string(text), "AUTH") {
				cfg.Auth = smtpserver.Auth{Verifier: verifier{}, Mechanisms: []string{"LOGIN", "PLAIN"}, PlaintextFrom: everybody()}
			}
			playJames(t, open(t, cfg).dial(t), strings.Split(string(text), "\n"), jamesDeviations[filepath.Base(file)])
		})
	}
}

// playJames sends the client's lines and compares the replies to those of the server's.
func playJames(t *testing.T, c net.Conn, lines []string, dev jamesDeviation) {
	t.Helper()
	r := bufio.NewReader(c)
	if dev.first != "" {
		lines = slices.Insert(lines, 1, "C: "+dev.first, "S: 250.*")
	}
	var want []string // lines of the reply that is being described
	for i, line := range lines {
		if s, ok := strings.CutPrefix(line, "C:"); ok {
			if _, err := io.WriteString(c, strings.TrimPrefix(jamesLogin(s), " ")+"\r\n"); err != nil {
				t.Fatal(err)
			}
			continue
		}
		s, ok := strings.CutPrefix(line, "S: ")
		if !ok {
			continue
		}
		want = append(want, s)
		m := jamesLine.FindStringSubmatch(s)
		if m == nil {
			t.Fatalf("line %d %q is no reply", i+1, line)
		}
		goesOn := m[2] == "-" || m[2] == ".*" && i+1 < len(lines) && strings.HasPrefix(lines[i+1], "S: "+m[1]+"-")
		if !goesOn {
			compareJames(t, r, m[1], want, dev)
			want = nil
		}
	}
}

// jamesLogin puts the account of our tests in place of the script's.
func jamesLogin(line string) string {
	return strings.NewReplacer("Ym9iQG15ZG9tYWluLnRsZA==", "YWxh", "c2VjcmV0", "a290").Replace(line)
}

// compareJames reads one reply and compares its code and the extensions it names.
func compareJames(t *testing.T, r *bufio.Reader, code string, want []string, dev jamesDeviation) {
	t.Helper()
	var got []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v, want %q", got, err, want)
		}
		line = strings.TrimRight(line, "\r\n")
		if got = append(got, line); len(line) < 4 || line[3] == ' ' {
			break
		}
	}
	if !strings.HasPrefix(got[0], code) {
		t.Fatalf("got %q, want code %s", got, code)
	}
	if len(want) == 1 {
		return
	}
	offered := make([]string, len(got))
	for i, line := range got {
		offered[i] = line[4:]
	}
	for _, line := range want[1:] {
		ext := line[4:]
		if slices.Contains(dev.lacks, ext) {
			if slices.Contains(offered, ext) {
				t.Errorf("%q is offered now; strike it from the deviations (%s)", ext, dev.why)
			}
			continue
		}
		if !slices.Contains(offered, ext) {
			t.Errorf("the reply to EHLO lacks %q: %q", ext, offered)
		}
	}
}
