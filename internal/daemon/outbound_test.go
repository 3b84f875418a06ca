package daemon_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/daemon"
)

// TestRelayDomainsGoBeforeSmartHosts has routes and relay domains: the latter are not
// caught by a route for everything, and yield to one of their own.
func TestRelayDomainsGoBeforeSmartHosts(t *testing.T) {
	t.Parallel()
	const branch, backup = "[[relay.domain]]\ndomain = \"branch.example\"\nhost = \"192.0.2.5:25\"\n", "[[relay.domain]]\ndomain = \"backup.example\"\n"
	route := func(name, more string) string {
		return "[[relay.route]]\nname = \"" + name + "\"\nhost = \"smtp.provider.example:587\"\n" + more
	}
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"no routes", branch + backup, []string{"relay domain branch.example", "relay domain backup.example"}},
		{"smart host for all", route("all", "") + branch + backup, []string{"relay domain branch.example", "relay domain backup.example", "all"}},
		{"by sender", route("shop", "senders = [\"shop@example.org\"]\n") + branch, []string{"relay domain branch.example", "shop"}},
		{"its own route first", route("own", "domains = [\"branch.example\"]\n") + route("all", "") + branch, []string{"own", "relay domain branch.example", "all"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, _ := parse(t, t.TempDir(), test.text)
			got, err := daemon.RelayRoutes(&c.Relay)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
