package poptest_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
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

	"poczta.example/poczta/internal/mailfile"
	"poczta.example/poczta/internal/mailtest/ports"
	"poczta.example/poczta/internal/pop3server/droptest"
	"poczta.example/poczta/internal/poptest"
)

// dovecotFails are the checks that Dovecot is known to fail; docs/poptest.md says
// why. Another version may do better.
var dovecotFails = map[int]bool{9: true, 32: true}

// TestDovecot runs the suite against a real Dovecot. It shows that the checks
// ask for what servers do, and finds what only ours does.
func TestDovecot(t *testing.T) {
	t.Parallel()
	seeds := poptest.Messages("a@example.org", "ala@example.org")
	plain, secure, _ := dovecot(t, seeds)
	for name, c := range map[string]poptest.Config{
		"plain": {Addr: plain, Destructive: true},
		"STLS":  {Addr: plain, StartTLS: true},
		"TLS":   {Addr: secure, TLS: true},
	} {
		t.Run(name, func(t *testing.T) {
			c.User, c.Password, c.Seeds = "ala", "secret", seeds
			c.TLSConfig = &tls.Config{InsecureSkipVerify: true}
			for _, r := range runSuite(t, c) {
				if r.Outcome != poptest.Pass || r.Millis > 1000 {
					t.Logf("%5d ms %-4s %3d %s (%s) %s %s", r.Millis, r.Outcome, r.Number, r.Name, r.Source, r.Expected, r.Got)
				}
				if r.Outcome == poptest.Fail && !dovecotFails[r.Number] {
					t.Errorf("%d %s (%s): expected %s, got %s", r.Number, r.Name, r.Source, r.Expected, r.Got)
				}
			}
		})
	}
}

// TestDovecotUniqueIDs compares the unique-ids that Dovecot tells by UIDL with
// those that an import reads from its Maildir: programs must not see a difference
// after a move.
func TestDovecotUniqueIDs(t *testing.T) {
	t.Parallel()
	addr, _, mail := dovecot(t, poptest.Messages("a@example.org", "ala@example.org"))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	fmt.Fprint(c, "USER ala\r\nPASS secret\r\nUIDL\r\nQUIT\r\n")
	told, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := mailfile.Open(mail, mailfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := 0
	for m, err := range s.Messages() {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if line := fmt.Sprintf("\r\n%d %s\r\n", n, m.UniqueID); m.UniqueID == "" || !strings.Contains(string(told), line) {
			t.Errorf("message %d: read unique-id %q, Dovecot told %q", n, m.UniqueID, told)
		}
	}
	if n < 5 {
		t.Errorf("read %d messages", n)
	}
}

const dovecotConf = `base_dir = @/run
state_dir = @/state
instance_name = poptest
protocols = pop3
listen = 127.0.0.1
ssl = yes
ssl_cert = <@/cert.pem
ssl_key = <@/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-1 scram-sha-256
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

// dovecot starts a Dovecot of its own on loopback, and stops it by its process id.
func dovecot(t *testing.T, seeds []poptest.Message) (plain, secure, mail string) {
	t.Helper()
	bin, err := exec.LookPath("dovecot")
	if err != nil {
		if bin = "/usr/sbin/dovecot"; !exists(bin) {
			t.Skip("Dovecot is not installed: apt-get install dovecot-pop3d")
		}
	}
	nobody, err := user.Lookup("nobody")
	if err != nil || os.Geteuid() != 0 || !exists("/usr/lib/dovecot/pop3") {
		t.Skip("Dovecot with pop3 is started by root only")
	}
	if testing.Short() {
		t.Skip("takes a while")
	}
	dir, err := os.MkdirTemp("", "pd") // short: UNIX socket names are limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	for _, d := range []string{"", "run", "state", "home", "mail", "mail/ala", "mail/ala/new", "mail/ala/cur", "mail/ala/tmp"} {
		d = filepath.Join(dir, d)
		if err := errors.Join(os.MkdirAll(d, 0o755), os.Chmod(d, 0o755)); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(d, "mail") || strings.HasSuffix(d, "home") {
			if err := os.Chown(d, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
	}
	port := [2]string{strconv.Itoa(ports.Free(t)), strconv.Itoa(ports.Free(t))}
	conf := strings.NewReplacer("@", dir, "#1", port[0], "#2", port[1]).Replace(dovecotConf)
	write(t, filepath.Join(dir, "dovecot.conf"), conf, -1)
	write(t, filepath.Join(dir, "users"), "ala:{PLAIN}secret::::::\n", -1)
	certificate(t, dir)
	for i, m := range seeds {
		text := strings.ReplaceAll(string(m.Octets), "\r\n", "\n")
		write(t, filepath.Join(dir, "mail/ala/new", fmt.Sprintf("%d.M%dP1.poptest", 1700000000+i, i)), text, uid)
	}
	cmd := exec.Command(bin, "-F", "-c", filepath.Join(dir, "dovecot.conf"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("Dovecot's log: %.4000s", log)
		}
	})
	plain, secure = "127.0.0.1:"+port[0], "127.0.0.1:"+port[1]
	for deadline := time.Now().Add(time.Minute); ; <-time.After(50 * time.Millisecond) {
		c, err := net.Dial("tcp", plain)
		if err == nil {
			_ = c.Close()
			return plain, secure, filepath.Join(dir, "mail/ala")
		}
		if time.Now().After(deadline) {
			t.Fatalf("Dovecot does not listen: %v", err)
		}
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func write(t *testing.T, name, text string, uid int) {
	t.Helper()
	err := os.WriteFile(name, []byte(text), 0o644)
	if err == nil && uid >= 0 {
		err = os.Chown(name, uid, -1)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func certificate(t *testing.T, dir string) {
	t.Helper()
	cert, _, err := droptest.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})), -1)
	write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})), -1)
}
