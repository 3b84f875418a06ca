package hook_test

import (
	"errors"
	"strings"
	"testing"

	"poczta.example/poczta/internal/hook"
)

// TestNameInErrors: an error names the hook once.
func TestNameInErrors(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"hook": "hook is not available: ", "first": "hook first: hook is not available: "} {
		c, err := hook.New(hook.Config{Name: name, URL: "unix:/nonexistent/hook.sock"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Ask(t.Context(), hook.Message{}); !errors.Is(err, hook.ErrUnavailable) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s…", name, err, want)
		}
	}
}
