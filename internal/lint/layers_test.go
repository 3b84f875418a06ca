package lint_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "poczta.example/poczta/"

// layer is the storey of each room; imports point downwards, and rooms of one
// storey do not import each other except where beside allows it.
var layer = map[string]int{
	"internal/address": 0, "internal/message": 0, "internal/envelope": 0, "internal/dsn": 0, "internal/authres": 0, "internal/sevenbit": 0, "internal/srs": 0, "internal/verp": 0,
	"internal/verdict": 0, "internal/memo": 0, "internal/upkeep": 0, "internal/disk": 0, "internal/limit": 0, "internal/tlsconf": 0, "internal/mailfile": 0, "internal/compound": 0, "internal/compound/compoundtest": 0,
	"internal/smtp": 1, "internal/pop3": 1, "internal/sasl": 1, "internal/resolver": 1,
	"internal/mime": 1, "internal/spf": 1, "internal/dmarc": 1, "internal/feedback": 1,
	"internal/arc": 2, "internal/content": 2, "internal/dnslist": 2, "internal/greeting": 2, "internal/attachment": 3, "internal/verify": 3, "internal/clamd": 3, "internal/rspamd": 3, "internal/milter": 3, "internal/hook": 3,
	"internal/classifier": 4, "internal/reputation": 4, "internal/greylist": 4, "internal/preference": 4, "internal/conduct": 4,
	"internal/dmarcreport": 6, "internal/quarantine": 6, "internal/filter": 7, "internal/digest": 7, "internal/training": 7,
	"internal/dane": 1, "internal/dkim": 1, "internal/mtasts": 1, "internal/tlsrpt": 1,
	"internal/mx": 2, "internal/tlspolicy": 4,
	"internal/db": 2, "internal/body": 3, "internal/account": 3, "internal/smtpserver": 3, "internal/smtpclient": 3, "internal/pop3server": 3,
	"internal/mailbox": 4, "internal/repeat": 4, "internal/keys": 4, "internal/queue": 4, "internal/trace": 4, "internal/vacation": 4,
	"internal/post": 5, "internal/report": 5, "internal/intake": 6, "internal/relay": 6, "internal/relaydomain": 6, "internal/tlsreport": 6, "internal/rebuild": 6,
	"internal/receive": 7, "internal/submit": 7, "internal/forward": 7, "internal/returned": 7,
	"internal/clientconfig": 1, "internal/sanitize": 2, "internal/pop3client": 3, "internal/backup": 5, "internal/backup/bucket": 6, "internal/backup/holdings": 6, "internal/backup/place": 7,
	"internal/mua/discover": 4, "internal/mua/vault": 3, "internal/mua/oauth": 3, "internal/mua/identity": 1, "internal/mua/profile": 4, "internal/mua/compose": 6, "internal/mua/store": 5, "internal/mua/store/search": 1, "internal/mua/store/extract": 2, "internal/mua/store/extract/pdf": 1, "internal/mua/store/extract/rtf": 1, "internal/mua/store/extract/office97": 1, "internal/mua/store/thunderbird": 1,
	"internal/mua/line": 5, "internal/mua/fetch": 6, "internal/mua/fetch/arrivals": 2, "internal/mua/outbox": 6, "internal/mua/page": 7, "internal/mua": 9,
	"internal/config": 8, "internal/obs": 8, "internal/control": 8,
	"internal/daemon": 9, "internal/admin": 9,
	"cmd/poczta": 10,
}

// beside lists the imports within one storey that are meant.
var beside = map[string][]string{
	"internal/envelope": {"internal/address", "internal/verp"},
	"internal/message":  {"internal/address", "internal/envelope", "internal/authres"},
	"internal/authres":  {"internal/address"},
	"internal/dsn":      {"internal/address", "internal/envelope", "internal/message"},
	"internal/mailfile": {"internal/message"},
	"internal/sevenbit": {"internal/message"},
	"internal/srs":      {"internal/address"},
	"internal/verp":     {"internal/address"},
	"internal/dane":     {"internal/resolver"},
	"internal/spf":      {"internal/resolver"},
	"internal/dmarc":    {"internal/resolver"},
	"internal/feedback": {"internal/mime"},
	"internal/mtasts":   {"internal/resolver"},
	"internal/tlsrpt":   {"internal/resolver"},
	"internal/queue":    {"internal/trace"},
	"internal/report":   {"internal/post"},
	"internal/returned": {"internal/forward"},
	"internal/obs":      {"internal/config"},
	"internal/admin":    {"internal/daemon"},
	"internal/daemon":   {"internal/admin"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "../../...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// TestImportsPointDownwards holds the picture of docs/architecture.md against the code.
func TestImportsPointDownwards(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		if testOnly(from) {
			continue
		}
		here, known := layer[from]
		if !known {
			t.Errorf("%s has no storey: give it one in layers_test.go and a line in docs/architecture.md", from)
			continue
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			if testOnly(to) {
				t.Errorf("%s imports %s, which is for tests only", from, to)
				continue
			}
			if there := layer[to]; there > here || there == here && !slices.Contains(beside[from], to) {
				t.Errorf("%s (storey %d) imports %s (storey %d): imports point downwards; declare an interface in %s instead", from, here, to, there, from)
			}
		}
	}
}

// testOnly reports whether a package exists for tests, tools and benchmarks alone.
func testOnly(name string) bool {
	return strings.HasPrefix(name, "internal/mailtest") || strings.HasSuffix(name, "test") && name != "cmd/poptest" && name != "internal/poptest" ||
		strings.HasPrefix(name, "internal/lint") || strings.HasPrefix(name, "internal/e2e") || strings.HasPrefix(name, "bench") ||
		name == "cmd/poptest" || name == "internal/poptest"
}

// TestPlainLeaves keeps metrics, configuration and SQL drivers out of the rooms below.
func TestPlainLeaves(t *testing.T) {
	t.Parallel()
	only := map[string][]string{
		"github.com/prometheus/":        {"internal/obs"},
		"github.com/pelletier/go-toml/": {"internal/config"},
		"github.com/jackc/pgx/":         {"internal/db"},
		"modernc.org/sqlite":            {"internal/db"},
		"github.com/caddyserver/":       {"internal/tlsconf"},
		"github.com/miekg/dns":          {"internal/resolver"},
		"github.com/alecthomas/kong":    {"cmd/poczta"},
	}
	for _, p := range packages(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		if testOnly(from) {
			continue
		}
		for _, imp := range p.Imports {
			for prefix, homes := range only {
				if strings.HasPrefix(imp, prefix) && !slices.Contains(homes, from) {
					t.Errorf("%s imports %s; that library belongs to %v", from, imp, homes)
				}
			}
		}
	}
}
