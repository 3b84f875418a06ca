package poppeer

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Courier serves the messages by Courier's POP3 server on loopback until the test's end.
// Courier's own login needs its daemons installed, so the login is done here and Courier
// has the connection from then on. The Debian packages courier-pop, courier-authlib and
// libcourier-unicode4 are unpacked in the folder that POCZTA_COURIER names, else in
// poczta-courier of the user's cache; make test does so. Without it the test is skipped, or fails where POCZTA_REQUIRE_SERVICES is set.
func Courier(t testing.TB, messages []Message) *Real {
	t.Helper()
	root := os.Getenv("POCZTA_COURIER")
	if root == "" {
		cache, _ := os.UserCacheDir() // "" finds nothing
		root = filepath.Join(cache, "poczta-courier")
	}
	bin := filepath.Join(root, "usr/lib/courier/courier/courierpop3d")
	if !exists(bin) {
		missing(t, "Courier is not unpacked in "+root+": make test does so, or set POCZTA_COURIER to another folder")
	}
	libraries := filepath.Join(root, "usr/lib")
	if found, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu")); len(found) > 0 {
		libraries += ":" + found[0]
	}
	dir := folder(t)
	r := &Real{Folder: filepath.Join(dir, "Maildir")}
	fillMaildir(t, r.Folder, messages)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	try(t, err)
	r.Plain = l.Addr().String()
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				if !doorman(conn) {
					return
				}
				f, err := conn.(*net.TCPConn).File()
				if err != nil {
					return
				}
				defer f.Close()
				cmd := exec.Command(bin, "Maildir")
				cmd.Dir, cmd.Stdin, cmd.Stdout = dir, f, f
				cmd.Env = []string{"LD_LIBRARY_PATH=" + libraries, "HOME=" + dir, "AUTHENTICATED=ala", "AUTHADDR=ala"}
				_ = cmd.Run() // how it ended the client sees
			})
		}
	})
	return r
}

// doorman greets and takes the login; what follows is Courier's, its word on the login too.
func doorman(conn net.Conn) bool {
	r := bufio.NewReaderSize(conn, 16) // a client that waits for replies leaves nothing in it
	reply := "+OK Hello there."
	for user := ""; ; {
		if _, err := conn.Write([]byte(reply + "\r\n")); err != nil {
			return false
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		switch verb, arg, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " "); {
		case verb == "USER":
			user, reply = arg, "+OK Password required."
		case verb == "PASS" && user == "ala" && arg == "secret":
			return r.Buffered() == 0
		case verb == "PASS":
			reply = "-ERR Login failed."
		case verb == "CAPA":
			reply = "+OK Here's what I can do:\r\nTOP\r\nUSER\r\nLOGIN-DELAY 10\r\nPIPELINING\r\nUIDL\r\nIMPLEMENTATION Courier Mail Server\r\n."
		default:
			reply = "-ERR Invalid command."
		}
	}
}
