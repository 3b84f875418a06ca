package mua_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"poczta.example/poczta/internal/mua"
)

// TestNeighbour has another user of this computer open the page by the very address that the browser
// was given: nothing is said to them, and the address still opens it.
func TestNeighbour(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	h := newHouse(t)
	ctx, stop := context.WithCancel(t.Context())
	addresses, done := make(chan string, 1), make(chan error, 1)
	d := &mua.Desk{Mail: h.Mail, In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}
	go func() { done <- d.Open(ctx, 0, func(a string) error { addresses <- a; return nil }) }()
	address := <-addresses
	host, path, _ := strings.Cut(strings.TrimPrefix(address, "http://"), "/")
	name, port, _ := strings.Cut(host, ":")
	ask := func(uid uint32) string {
		cmd := exec.CommandContext(t.Context(), "/bin/bash", "-c", `exec 3<>"/dev/tcp/$1/$2" || exit 1; printf 'GET /%s HTTP/1.0\r\nHost: %s\r\n\r\n' "$3" "$1:$2" >&3; cat <&3`, "-", name, port, path)
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, _ := cmd.CombinedOutput() // a connection that is reset is what is wanted
		return string(out)
	}
	if got := ask(65534); strings.Contains(got, "HTTP/1") {
		t.Errorf("another user got %.300q", got)
	}
	if got := ask(0); !strings.Contains(got, "Set-Cookie") {
		t.Errorf("the owner got %.300q", got)
	}
	stop()
	h.must(<-done)
}
