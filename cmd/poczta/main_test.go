package main

import (
	"io"
	"testing"
)

// TestConfigurationFile: an empty POCZTA_CONFIG counts as none.
func TestConfigurationFile(t *testing.T) {
	for env, want := range map[string]string{"": defaultConfig, "/srv/poczta.toml": "/srv/poczta.toml"} {
		t.Setenv("POCZTA_CONFIG", env)
		c, _, err := parse([]string{"account", "list"}, io.Discard, io.Discard)
		if err != nil || c.Config != want {
			t.Errorf("POCZTA_CONFIG=%q: got %q, %v; want %q", env, c.Config, err, want)
		}
	}
	t.Setenv("POCZTA_CONFIG", "/srv/poczta.toml")
	if c, _, err := parse([]string{"account", "list", "-c", "here.toml"}, io.Discard, io.Discard); err != nil || c.Config != "here.toml" {
		t.Errorf("-c here.toml: got %q, %v", c.Config, err)
	}
}
