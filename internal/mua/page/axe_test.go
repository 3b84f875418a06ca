package page_test

import (
	"os"
	"path/filepath"
	"testing"
)

// axeSource is axe-core's script, "" where it is absent and that is no failure. scripts/test.sh
// fetches the npm package into the folder that POCZTA_AXE names.
func axeSource(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("POCZTA_AXE")
	b, err := os.ReadFile(filepath.Join(dir, "package", "axe.min.js"))
	if dir == "" || err != nil {
		if required() {
			t.Fatalf("axe-core is not here: unpack its npm package where POCZTA_AXE says: %v", err)
		}
		t.Log("axe-core is not here (POCZTA_AXE): accessibility was not checked")
		return ""
	}
	return string(b)
}
