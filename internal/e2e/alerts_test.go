package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAlerts reads the figures and expressions that the documentation tells people to
// watch: each figure is one of ours, and promtool takes each expression as an alert.
func TestAlerts(t *testing.T) {
	t.Parallel()
	var known strings.Builder
	for _, file := range glob(t, "../obs/*.go") {
		known.WriteString(readFile(t, file))
	}
	span := regexp.MustCompile("`[^`\n]+`")
	figure := regexp.MustCompile(`\b(poczta|process|go)_[a-z_]+`)
	var rules []string
	for _, file := range glob(t, "../../docs/*.md") {
		for _, s := range span.FindAllString(readFile(t, file), -1) {
			s = strings.Trim(s, "`")
			names := figure.FindAllString(s, -1)
			for _, name := range names {
				base := strings.TrimSuffix(name, "_bucket")
				if own := strings.HasPrefix(name, "poczta_"); own && !strings.Contains(known.String(), `"`+base+`"`) {
					t.Errorf("%s: there is no figure %s", filepath.Base(file), name)
				}
			}
			if len(names) > 0 && strings.ContainsAny(s, "(>/") && !strings.Contains(s, "…") {
				rules = append(rules, s)
			}
		}
	}
	if len(rules) < 5 {
		t.Fatalf("found the expressions %q alone", rules)
	}
	text := "groups:\n- name: docs\n  rules:\n"
	for i, r := range rules {
		text += fmt.Sprintf("  - {alert: A%d, expr: %q}\n", i, r)
	}
	dir := t.TempDir()
	t.Log(execute(t, dir, "", tool(t, "promtool"), "check", "rules", keep(t, dir, "rules.yml", text)))
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
