package admin_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/config"
)

// TestCheckFilters: what is there is said to be there, and what is not is an error with its key
// and what happens to mail meanwhile.
func TestCheckFilters(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := config.Default()
	if got := admin.CheckFilters(t.Context(), c); len(got) != 0 {
		t.Errorf("without other filters: %v", got)
	}
	gone := filepath.Join(t.TempDir(), "gone.sock")
	c.Clamd.Address, c.Clamd.WhenDown = "unix:"+gone, "defer"
	c.Rspamd.URL = "http://" + l.Addr().String()
	c.Hook.URL, c.Hook.WhenDown = "unix:"+gone+":/check", "accept"
	c.Milters = []config.Milter{{Name: "here", Address: l.Addr().String()}, {Name: "gone", Address: "unix:" + gone, WhenDown: "defer"}}
	c.Hook.SecretFile = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(c.Hook.SecretFile, []byte("abcdefghijklmnop\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := map[string]admin.Level{"hook.secret_file": admin.Warning, "clamd.address": admin.Failed, "milter[0].address": admin.Fine, "milter[1].address": admin.Failed, "rspamd.url": admin.Fine, "hook.url": admin.Failed}
	got := admin.CheckFilters(t.Context(), c)
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for _, f := range got {
		if f.Level != want[f.Key] || f.Area != "filters" {
			t.Errorf("%s: got %s", f.Key, f)
		}
		if f.Level == admin.Failed && !strings.Contains(f.Remedy, "when_down says: ") {
			t.Errorf("%s: the remedy does not say what happens meanwhile: %s", f.Key, f)
		}
	}
}
