package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"poczta.example/poczta/internal/mailtest/poppeer"
)

// TestPersonAtOnce starts many commands on one folder at one time, some of which have it and some of
// which run inside those: each does its work or says that another is at it, each letter is here once and
// is sent once.
func TestPersonAtOnce(t *testing.T) {
	t.Parallel()
	mail := poppeer.Letters(150, 2000)
	s := newSiege(t, "", mail, "--keep", "fetched")
	var box strings.Builder
	const imported, sent = 120, 6
	for i := range imported {
		fmt.Fprintf(&box, "From x Mon Nov 23 10:00:00 2026\nFrom: ola@peer.example\nSubject: imported %d\nMessage-ID: <imported-%d@peer.example>\n\ntext %d\n\n", i, i, i)
	}
	file := s.write("box", box.String())
	page, address := s.pages("open", "--no-browser")
	var wg sync.WaitGroup
	run := func(args ...string) {
		wg.Go(func() {
			r := s.tries(args...)
			if r.code != 0 && !strings.Contains(r.out, "fetched already") && !strings.Contains(r.out, "see above") {
				t.Errorf("%s: exit %d\n%s", r.commands, r.code, r.out)
			}
		})
	}
	for range 3 {
		run("sync")
		run("import", file)
	}
	for i := range sent {
		run("send", "ola@peer.example", "-s", fmt.Sprintf("sent %d", i), "--text", "text", "--unchecked")
	}
	run("list")
	run("search", "text")
	wg.Wait()
	if err := page.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := page.Wait(); err != nil || !strings.HasPrefix(address, "http://127.") {
		t.Errorf("open ended with %v; it was %s", err, address)
	}
	for range 2 {
		run("sync")
		run("import", file)
		run("send", "ola@peer.example", "-s", "sent last", "--text", "text", "--unchecked")
	}
	wg.Wait()
	s.does("", "sync")
	if here := s.kept("in the end", mail); here != len(mail) || len(s.pop.Messages()) != 0 {
		t.Errorf("%d of %d letters are here, %d on the server", here, len(mail), len(s.pop.Messages()))
	}
	if n := len(s.lists("search", "subject:imported", "-n", "1000")); n != imported {
		t.Errorf("%d letters were imported, want %d", n, imported)
	}
	ids := map[string]int{}
	for _, m := range s.smtp.Messages() {
		if ids[m.ID]++; ids[m.ID] > 1 {
			t.Errorf("%s was sent %d times", m.ID, ids[m.ID])
		}
	}
	if len(ids) != sent+2 {
		t.Errorf("%d letters were sent, want %d", len(ids), sent+2)
	}
}

// tries runs a command, for several goroutines at once.
func (s *siege) tries(args ...string) ran {
	cmd := exec.CommandContext(s.t.Context(), s.bin, append([]string{"mail", "--secrets-file"}, args...)...)
	cmd.Dir, cmd.Env = s.dir, s.env
	out, _ := cmd.CombinedOutput() // the exit code tells
	return ran{code: cmd.ProcessState.ExitCode(), out: string(out), commands: strings.Join(args, " ")}
}

// pages starts a command that serves the page, and returns the address that it prints first.
func (s *siege) pages(args ...string) (cmd *exec.Cmd, address string) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	s.t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, s.bin, append([]string{"mail", "--secrets-file"}, args...)...)
	cmd.Dir, cmd.Env = s.dir, s.env
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	in := bufio.NewReader(out)
	address, err = in.ReadString('\n')
	if err != nil {
		s.t.Fatalf("%s says nothing: %v", filepath.Base(s.bin), err)
	}
	go func() { _, _ = in.WriteTo(nothing{}) }() // ends with the process
	return cmd, address
}

type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }
