package poppeer

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
)

// Real is a server of another house, with the account "ala", password "secret".
type Real struct {
	Plain  string      // address; STLS is offered where TLS is not nil
	Secure string      // address for implicit TLS; "" for none
	TLS    *tls.Config // a client's, which trusts the server
	Folder string      // the Maildir
}

const dovecotConf = `base_dir = @/run
state_dir = @/state
protocols = pop3
listen = 127.0.0.1
ssl = yes
ssl_cert = <@/cert.pem
ssl_key = <@/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-256 oauthbearer xoauth2
auth_failure_delay = 0
log_path = @/log
mail_location = maildir:@/mail/%n
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
first_valid_gid = 1
passdb {
  driver = passwd-file
  args = scheme=PLAIN @/users
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=@/home/%n
}
namespace inbox {
  inbox = yes
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service pop3-login {
  inet_listener pop3 {
    address = 127.0.0.1
    port = #1
  }
  inet_listener pop3s {
    address = 127.0.0.1
    port = #2
  }
}
`

// Dovecot starts a Dovecot of its own on loopback with the messages, and stops it at the
// test's end. Without Dovecot or root the test is skipped, or fails where
// POCZTA_REQUIRE_SERVICES is set.
func Dovecot(t testing.TB, messages []Message) *Real {
	t.Helper()
	bin := "/usr/sbin/dovecot"
	nobody, err := user.Lookup("nobody")
	if err != nil || os.Geteuid() != 0 || !exists(bin) || !exists("/usr/lib/dovecot/pop3") {
		missing(t, "Dovecot is not installed, or this is not root: apt-get install dovecot-pop3d")
	}
	dir := folder(t)
	uid, _ := strconv.Atoi(nobody.Uid)
	for _, d := range []string{"run", "state", "home", "mail"} {
		try(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	r := &Real{Plain: "127.0.0.1:" + freePort(t), Secure: "127.0.0.1:" + freePort(t), Folder: filepath.Join(dir, "mail/ala")}
	fillMaildir(t, r.Folder, messages)
	try(t, filepath.Walk(dir, func(name string, _ os.FileInfo, err error) error {
		if rel, _ := filepath.Rel(dir, name); strings.HasPrefix(rel, "mail") || strings.HasPrefix(rel, "home") {
			err = errors.Join(err, os.Chown(name, uid, -1))
		}
		return err
	}))
	cert, pool := peer.Certificate(t, "dovecot.example")
	r.TLS = &tls.Config{RootCAs: pool, ServerName: "dovecot.example"}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	try(t, err)
	_, plain, _ := net.SplitHostPort(r.Plain)
	_, secure, _ := net.SplitHostPort(r.Secure)
	for name, text := range map[string]string{
		"dovecot.conf": strings.NewReplacer("@", dir, "#1", plain, "#2", secure).Replace(dovecotConf),
		"users":        "ala:{PLAIN}secret::::::\n",
		"cert.pem":     string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})),
		"key.pem":      string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
	} {
		try(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	run(t, exec.Command(bin, "-F", "-c", filepath.Join(dir, "dovecot.conf")), r.Plain, filepath.Join(dir, "log"))
	return r
}

// fillMaildir writes the messages as new ones of a Maildir, with LF as files have it.
func fillMaildir(t testing.TB, dir string, messages []Message) {
	t.Helper()
	for _, d := range []string{"new", "cur", "tmp"} {
		try(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for i, m := range messages {
		text := strings.ReplaceAll(string(m.Data), "\r\n", "\n")
		try(t, os.WriteFile(filepath.Join(dir, "new", fmt.Sprintf("%d.M%dP1.peer", 1700000000+i, i)), []byte(text), 0o644))
	}
}

// run starts a server, waits until it listens, and stops it by its process id at the end.
func run(t testing.TB, cmd *exec.Cmd, addr, log string) {
	t.Helper()
	try(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log)
			t.Logf("the server's log: %.4000s", text)
		}
	})
	for deadline := time.Now().Add(2 * time.Minute); ; <-time.After(50 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %v", cmd.Path, err)
		}
	}
}

// folder makes a folder with a short name, because names of UNIX sockets are limited.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pp")
	try(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	try(t, os.Chmod(dir, 0o755))
	return dir
}

func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("POCZTA_REQUIRE_SERVICES") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func try(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	try(t, err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
