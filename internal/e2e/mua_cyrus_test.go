package e2e_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mailtest/ports"
)

// cyrusConf is Cyrus' configuration: @ the folder.
const cyrusConf = `configdirectory: @/cyrus
proc_path: @/cyrus/proc
mboxname_lockpath: @/cyrus/lock
defaultpartition: default
partition-default: @/spool
unixhierarchysep: yes
virtdomains: off
autocreate_quota: 0
allowplaintext: yes
cyrus_user: nobody
cyrus_group: nogroup
sasl_pwcheck_method: saslauthd
sasl_saslauthd_path: @/mux
sasl_mech_list: PLAIN
lmtpsocket: @/lmtp
popminpoll: 0
tls_server_cert: @/cert.pem
tls_server_key: @/key.pem
`

// cyrusServices are what its master runs: #0 the programs' folder, #1 and #2 the ports.
const cyrusServices = `START {
  recover cmd="#0/ctl_cyrusdb -C @/imapd.conf -r"
}
SERVICES {
  pop3 cmd="#0/pop3d -C @/imapd.conf" listen="127.0.0.1:#1" prefork=0
  pop3s cmd="#0/pop3d -s -C @/imapd.conf" listen="127.0.0.1:#2" prefork=0
  lmtp cmd="#0/lmtpd -a -C @/imapd.conf" listen="127.0.0.1:#3" prefork=0
}
EVENTS {
}
`

// cyrus is a Cyrus POP3 server with the account ala, in the provider's house: the certificate
// and the passwords are the provider's.
type cyrus struct {
	t           *testing.T
	pop3, pop3s int
	lmtp        int
}

// newCyrus starts Cyrus, whose Debian packages cyrus-common and cyrus-pop3d, with libraries, are
// unpacked in the folder that POCZTA_CYRUS names, and not installed: they want Dovecot's place.
func newCyrus(t *testing.T, p *provider) *cyrus {
	t.Helper()
	root := os.Getenv("POCZTA_CYRUS")
	if cache, err := os.UserCacheDir(); root == "" && err == nil {
		root = filepath.Join(cache, "poczta-cyrus")
	}
	if _, err := os.Stat(filepath.Join(root, "usr/lib/cyrus/bin/pop3d")); err != nil {
		absent(t, "Cyrus is not unpacked in "+root+": make test does so, or set POCZTA_CYRUS to another folder")
	}
	dir, err := os.MkdirTemp("", "pc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	programs, libraries := cyrusFiles(t, root, dir)
	c := &cyrus{t: t, pop3: ports.Free(t), pop3s: ports.Free(t), lmtp: ports.Free(t)}
	fill := strings.NewReplacer("@", dir, "#0", programs, "#1", strconv.Itoa(c.pop3), "#2", strconv.Itoa(c.pop3s), "#3", strconv.Itoa(c.lmtp))
	house := &provider{t: t, dir: dir}
	for name, text := range map[string]string{"imapd.conf": fill.Replace(cyrusConf), "cyrus.conf": fill.Replace(cyrusServices),
		"cert.pem": readFile(t, filepath.Join(p.dir, "cert.pem")), "key.pem": readFile(t, filepath.Join(p.dir, "key.pem")), "cyrus/log/.keep": "", "spool/.keep": ""} {
		keep(t, dir, name, text)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	house.owned("")
	passwords(t, filepath.Join(dir, "mux"))
	log := filepath.Join(dir, "master.log")
	cmd := exec.Command(filepath.Join(programs, "master"), "-C", filepath.Join(dir, "imapd.conf"), "-M", filepath.Join(dir, "cyrus.conf"), "-p", filepath.Join(dir, "master.pid"), "-L", log)
	cmd.Env = []string{"LD_LIBRARY_PATH=" + libraries, "PATH=/usr/bin:/bin"}
	runs(t, cmd, log, c.pop3, c.pop3s, c.lmtp)
	// A login makes the mailbox.
	first := dial(t, loopback(c.pop3))
	first.expect("+OK")
	first.say("USER ala", "+OK")
	first.say("PASS "+secret, "+OK")
	first.say("QUIT", "+OK")
	return c
}

// cyrusFiles copies what runs to where Cyrus' own user may look.
func cyrusFiles(t *testing.T, root, dir string) (programs, libraries string) {
	t.Helper()
	programs, libraries = filepath.Join(dir, "bin"), filepath.Join(dir, "lib")
	for _, pattern := range []string{"usr/lib/*-linux-gnu", "lib/*-linux-gnu"} {
		for _, from := range glob(t, filepath.Join(root, pattern)) {
			if err := os.CopyFS(libraries, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"master", "pop3d", "lmtpd", "ctl_cyrusdb"} {
		text := readFile(t, filepath.Join(root, "usr/lib/cyrus/bin", name))
		if err := os.Chmod(keep(t, programs, name, text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return programs, libraries
}

// drop hands letters to Cyrus by LMTP (RFC 2033).
func (c *cyrus) drop(letters ...string) {
	c.t.Helper()
	conn, err := net.Dial("tcp", loopback(c.lmtp))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	s := clientOn(c.t, conn)
	s.expect("220")
	s.say("LHLO client.test", "250")
	for _, text := range letters {
		s.message("ola@provider.test", "ala", strings.ReplaceAll(text, "\n", "\r\n"))
	}
	s.say("QUIT", "221")
}

// passwords answers Cyrus' questions in saslauthd's place: four strings, each after its length, and
// back OK or NO.
func passwords(t *testing.T, socket string) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o777); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = answerPassword(conn) // Cyrus says what it did not like
			_ = conn.Close()
		}
	}()
}

func answerPassword(conn net.Conn) error {
	var asked [4]string
	for i := range asked {
		var n [2]byte
		if _, err := io.ReadFull(conn, n[:]); err != nil {
			return err
		}
		b := make([]byte, int(n[0])<<8|int(n[1]))
		if _, err := io.ReadFull(conn, b); err != nil {
			return err
		}
		asked[i] = string(b)
	}
	word := "\x00\x02NO"
	if asked[0] == "ala" && asked[1] == secret {
		word = "\x00\x02OK"
	}
	_, err := io.WriteString(conn, word)
	return err
}
