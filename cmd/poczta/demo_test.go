package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestDemo runs every line that the demo prints for pasting, then interrupts it:
// nothing of it is left.
func TestDemo(t *testing.T) {
	t.Parallel()
	base, release, err := freeBase()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	temp := t.TempDir()
	demo := exec.CommandContext(t.Context(), tool(t, "poczta"), "demo", "--port-base", strconv.Itoa(base))
	demo.Env = append(os.Environ(), "TMPDIR="+temp)
	demo.Stderr = os.Stderr
	demo.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	text := bufio.NewScanner(out)
	for text.Scan() && !strings.HasPrefix(text.Text(), "Ctrl-C") {
		if line, ok := strings.CutPrefix(text.Text(), "  "); ok {
			lines = append(lines, line)
		}
	}
	if len(lines) < 9 {
		t.Errorf("the demo prints %d lines to paste: %q", len(lines), lines)
	}
	for _, line := range lines {
		t.Run("", func(t *testing.T) {
			program := strings.Fields(line)[0]
			if strings.Contains(line, "| curl") {
				program = "curl"
			}
			tool(t, program)
			if out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
		})
	}
	if _, err := exec.LookPath("swaks"); err == nil { // mail to other servers ends in the demo
		for text.Scan() && !strings.HasPrefix(text.Text(), "Mail for <bea@elsewhere.test> has left") {
		}
	}
	if err := demo.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	over := false
	for text.Scan() {
		over = over || strings.HasPrefix(text.Text(), "The demo is over")
	}
	if err := text.Err(); err != nil || !over {
		t.Errorf("the demo's last words are missing, %v", err)
	}
	if err := demo.Wait(); err != nil {
		t.Errorf("the demo ended badly: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(temp, "*")); err != nil || len(left) != 0 {
		t.Errorf("the demo left %q, %v", left, err)
	}
}
