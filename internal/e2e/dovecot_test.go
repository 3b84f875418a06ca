package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// migrationConf is a Dovecot that only serves POP3, in a folder of its own.
const migrationConf = `base_dir = @/run
state_dir = @/state
instance_name = migration
protocols = pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
log_path = @/log
mail_location = maildir:@/mail
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
first_valid_gid = 1
pop3_no_flag_updates = yes
passdb {
  driver = passwd-file
  args = scheme=PLAIN @/users
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=@/home
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
    port = #
  }
}
`

// TestMigrateFromDovecot moves a mailbox from a running Dovecot: LIST and UIDL say
// the same afterwards, and flags are kept, so no program fetches anything again.
func TestMigrateFromDovecot(t *testing.T) {
	t.Parallel()
	addr, mail := startDovecot(t)
	first := pop3List(t, addr, "ala", "secret", "UIDL")
	c := dial(t, addr) // a gap in the uids
	c.expect("+OK")
	c.say("USER ala", "+OK")
	c.say("PASS secret", "+OK")
	c.say("DELE 2", "+OK")
	c.say("QUIT", "+OK")
	late := filepath.Join(mail, "new/1800000000.M1P1.host")
	if err := errors.Join(os.WriteFile(late, []byte("Subject: late\n\n.\n"), 0o644), os.Chmod(late, 0o644)); err != nil {
		t.Fatal(err)
	}
	wantIDs, wantSizes := pop3List(t, addr, "ala", "secret", "UIDL"), pop3List(t, addr, "ala", "secret", "LIST")
	if len(first) != 20 || len(wantIDs) != 20 || slices.Equal(first, wantIDs) {
		t.Fatalf("Dovecot tells %v, then %v", first, wantIDs)
	}
	s := setup(t, plaintext)
	login := "ala@" + domain
	s.run("", "mailbox", "import", login, mail)
	s.start()
	if got := pop3List(t, s.addr(110), login, password, "UIDL"); !slices.Equal(got, wantIDs) {
		t.Errorf("UIDL: got %v, Dovecot told %v", got, wantIDs)
	}
	if got := pop3List(t, s.addr(110), login, password, "LIST"); !slices.Equal(got, wantSizes) {
		t.Errorf("LIST: got %v, Dovecot told %v", got, wantSizes)
	}
	out := filepath.Join(t.TempDir(), "out")
	s.run("", "mailbox", "export", login, out, "--format", "maildir")
	flagged, err := filepath.Glob(filepath.Join(out, "cur/*:2,FS"))
	if err != nil || len(flagged) != 5 {
		t.Errorf("%d messages are flagged and seen, want 5 (%v)", len(flagged), err)
	}
	s.stop()
}

// startDovecot starts a Dovecot with a mailbox of 20 messages, every fourth flagged.
func startDovecot(t *testing.T) (addr, mail string) {
	t.Helper()
	bin := "/usr/sbin/dovecot"
	if path, err := exec.LookPath("dovecot"); err == nil {
		bin = path
	}
	nobody, err := user.Lookup("nobody")
	if _, missing := os.Stat("/usr/lib/dovecot/pop3"); missing != nil || err != nil || os.Geteuid() != 0 {
		t.Skip("a Dovecot with POP3, started by root, is needed: apt-get install dovecot-pop3d")
	}
	dir, err := os.MkdirTemp("", "pd") // short: UNIX socket names are limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	mail = filepath.Join(dir, "mail")
	for _, d := range []string{"", "run", "state", "home", "mail", "mail/new", "mail/cur", "mail/tmp"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, d), 0o755), os.Chmod(filepath.Join(dir, d), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		flags := map[bool]string{true: "FS", false: "S"}[i%4 == 0]
		name := filepath.Join(mail, "cur", fmt.Sprintf("%d.M%dP1.host:2,%s", 1700000000+i, i, flags))
		text := fmt.Sprintf("Subject: letter %d\n\n%s\n.\nżółw\n", i, strings.Repeat("line\n", i))
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	for _, pattern := range []string{"home", "mail", "mail/*", "mail/*/*"} {
		for _, name := range glob(t, filepath.Join(dir, pattern)) {
			if err := os.Chown(name, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
	}
	addr = freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(dir, "dovecot.conf")
	text := strings.NewReplacer("@", dir, "#", port).Replace(migrationConf)
	if err := errors.Join(os.WriteFile(conf, []byte(text), 0o644), os.WriteFile(filepath.Join(dir, "users"), []byte("ala:{PLAIN}secret::::::\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-F", "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if log, err := os.ReadFile(filepath.Join(dir, "log")); t.Failed() && err == nil {
			t.Logf("Dovecot's log: %.4000s", log)
		}
	})
	deadline, tick := time.After(10*time.Second*patience), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return addr, mail
		}
		select {
		case <-deadline:
			t.Fatalf("Dovecot does not listen: %v", err)
		case <-tick.C:
		}
	}
}
