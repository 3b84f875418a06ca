package hook_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/hook"
	"poczta.example/poczta/internal/mailtest/ports"
	"poczta.example/poczta/internal/verdict"
)

// TestExamples runs the programs of docs/hook.md, as they stand there.
func TestExamples(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "hook.md"))
	if err != nil {
		t.Fatal(err)
	}
	program := func(language string) string {
		_, rest, _ := strings.Cut(string(doc), "```"+language+"\n")
		text, _, found := strings.Cut(rest, "\n```")
		if !found {
			t.Fatalf("docs/hook.md has no program in %s", language)
		}
		return text + "\n"
	}
	for language, command := range map[string]func(t *testing.T, dir string) *exec.Cmd{
		"python": func(t *testing.T, dir string) *exec.Cmd {
			t.Helper()
			return exec.Command(need(t, "python3"), write(t, filepath.Join(dir, "hook.py"), program("python")))
		},
		"go": func(t *testing.T, dir string) *exec.Cmd {
			t.Helper()
			source, binary := write(t, filepath.Join(dir, "main.go"), program("go")), filepath.Join(dir, "hook")
			if out, err := exec.Command(need(t, "go"), "build", "-o", binary, source).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return exec.Command(binary)
		},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			url := run(t, command(t, t.TempDir()))
			now := func(c *hook.Config) { c.Now = time.Now }
			for from, want := range map[string]verdict.Action{"x@spam.example": verdict.Junk, "x@other.example": verdict.Deliver} {
				r, err := newClient(t, url, now).Ask(t.Context(), sample(t, from))
				if err != nil || r.Action != want {
					t.Errorf("%s: %+v, %v", from, r, err)
				}
			}
			for name, change := range map[string]func(*hook.Config){
				"wrong secret": func(c *hook.Config) { c.Now, c.Secret = time.Now, []byte("fedcba9876543210") },
				"old":          func(c *hook.Config) { c.Now = func() time.Time { return time.Now().Add(-time.Hour) } },
			} {
				if r, err := newClient(t, url, change).Ask(t.Context(), sample(t, "x@spam.example")); err == nil {
					t.Errorf("%s: it is believed: %+v", name, r)
				}
			}
		})
	}
}

func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("POCZTA_REQUIRE_SERVICES") != "" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
	return ""
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// run starts a program that serves a hook and returns its address when it listens.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	port := strconv.Itoa(ports.Free(t))
	address := "127.0.0.1:" + port
	cmd.Env = append(os.Environ(), "HOOK_SECRET="+secret, "HOOK_PORT="+port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	late := time.After(2 * time.Minute)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return "http://" + address
		}
		select {
		case <-late:
			t.Fatal("the program does not listen")
		case <-tick.C:
		}
	}
}
