package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// TestStopped interrupts commands: they say so in a sentence, not what fell over inside.
func TestStopped(t *testing.T) {
	t.Parallel()
	over, stop := context.WithCancel(t.Context())
	stop()
	inside := fmt.Errorf("list mailboxes of account 2: %w", context.Canceled)
	general := "poczta: stopped before the end; run it again to do the rest\n"
	for name, tt := range map[string]struct {
		ctx  context.Context
		err  error
		want string
	}{
		"bare":                {over, context.Canceled, general},
		"deep inside":         {over, inside, general},
		"twice":               {over, errors.Join(inside, inside), general},
		"in the middle":       {over, fmt.Errorf("TLS with 127.0.0.1: %w; nothing is saved", context.Canceled), general},
		"and a failure":       {over, errors.Join(inside, errors.New("close: the disk is full")), general + "close: the disk is full\n"},
		"the command's words": {over, fmt.Errorf("stopped; what was fetched is here: %w", context.Canceled), "poczta: stopped; what was fetched is here\n"},
		"another failure":     {over, errors.New("no such account"), "poczta: no such account\n"},
		"nobody interrupted":  {t.Context(), inside, "poczta: list mailboxes of account 2: context canceled\n"},
		"told already":        {over, errors.Join(exitCode(1), inside), ""},
		"done all the same":   {over, nil, ""},
	} {
		var out bytes.Buffer
		code := report(&out, stopped(tt.ctx, tt.err))
		if out.String() != tt.want || (code == exitDone) != (tt.err == nil) {
			t.Errorf("%s: %d, %q, want %q", name, code, out.String(), tt.want)
		}
	}
}
