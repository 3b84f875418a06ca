package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
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

	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mailtest/ports"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/mua/store"
)

// provider is somebody else's mail service on loopback: Dovecot for mail that comes, Postfix or
// Exim for mail that goes, both with the accounts ala and ola, whose password is secret. Mail for
// far.test is taken and returned, mail for picky@provider.test refused, mail above 100,000 octets
// too.
type provider struct {
	t           *testing.T
	dir         string
	ca          *certtest.CA
	clients     string // the file of the authority that signs people's certificates
	client      clientAuthority
	pop3, pop3s int // ports
	submission  int
	submissions int
	introspects string // where Dovecot asks about tokens
	reload      func() // has Dovecot read its files again
}

// secret is the password at foreign servers.
const secret = "secret"

// local is a certificate for this computer, as change adapts it.
func local(ca *certtest.CA, change func(*x509.Certificate)) tls.Certificate {
	return ca.From(func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
		if change != nil {
			change(c)
		}
	})
}

// pems writes a certificate and its key.
func pems(t *testing.T, dir string, c tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return keep(t, dir, "cert.pem", authorityPEM(c.Certificate[0])), keep(t, dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func authorityPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// absent skips a test for which something is not here, or fails it where services are required.
func absent(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("POCZTA_REQUIRE_SERVICES") != "" {
		t.Fatal(why)
	}
	t.Skip("skipped: " + why)
}

// newProvider starts Dovecot. cert makes the servers' certificate, if it is not to be a good one;
// oauth is where Dovecot asks about tokens, if it takes them.
func newProvider(t *testing.T, cert func(*certtest.CA) tls.Certificate, oauth string) *provider {
	t.Helper()
	if _, err := os.Stat("/usr/lib/dovecot/pop3"); err != nil || os.Geteuid() != 0 {
		absent(t, "Dovecot is not installed, or this is not root: apt-get install dovecot-pop3d")
	}
	dir, err := os.MkdirTemp("", "pm") // short: names of UNIX sockets are limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &provider{t: t, dir: dir, ca: certtest.New(t), introspects: oauth,
		pop3: ports.Free(t), pop3s: ports.Free(t), submission: ports.Free(t), submissions: ports.Free(t)}
	p.client, p.clients = newAuthority(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"run", "state", "home", "mail/ala/new", "mail/ala/cur", "mail/ala/tmp", "mail/ola/new", "mail/ola/cur", "mail/ola/tmp"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, d), 0o755), os.Chmod(filepath.Join(dir, d), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	p.owned("mail", "home")
	if cert == nil {
		cert = func(ca *certtest.CA) tls.Certificate { return local(ca, nil) }
	}
	pems(t, dir, cert(p.ca))
	p.dovecot()
	return p
}

// owned gives folders to the user who owns mail.
func (p *provider) owned(names ...string) {
	p.t.Helper()
	nobody, err := user.Lookup("nobody")
	if err != nil {
		p.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	for _, name := range names {
		if err := filepath.Walk(filepath.Join(p.dir, name), func(path string, _ os.FileInfo, err error) error {
			if err == nil {
				err = os.Chown(path, uid, gid)
			}
			if errors.Is(err, fs.ErrNotExist) { // a lock of Dovecot's, or a letter that it moves
				err = nil
			}
			return err
		}); err != nil {
			p.t.Fatal(err)
		}
	}
}

// providerDovecot is its configuration: @ the folder, #1 and #2 the ports, #3 the authority of
// clients, #4 the passdb of tokens.
const providerDovecot = `base_dir = @/run
state_dir = @/state
instance_name = provider
protocols = pop3
listen = 127.0.0.1
ssl = yes
ssl_cert = <@/cert.pem
ssl_key = <@/key.pem
ssl_ca = <#3
ssl_verify_client_cert = yes
ssl_require_crl = no
auth_ssl_username_from_cert = yes
ssl_cert_username_field = commonName
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-256 external#4
auth_failure_delay = 0
log_path = @/dovecot.log
auth_verbose = yes
mail_location = maildir:@/mail/%n
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
first_valid_gid = 1
passdb {
  driver = passwd-file
  args = scheme=PLAIN @/users
  mechanisms = plain login scram-sha-256
}
passdb {
  driver = static
  args = nopassword=y
  mechanisms = external
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
service auth {
  unix_listener submission {
    mode = 0666
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

// providerTokens is Dovecot's way to ask about tokens.
const providerTokens = `passdb {
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = @/oauth.conf
}
`

// dovecot starts Dovecot.
func (p *provider) dovecot() {
	p.t.Helper()
	mechanisms, more := "", ""
	if p.introspects != "" {
		mechanisms, more = " oauthbearer xoauth2", strings.ReplaceAll(providerTokens, "@", p.dir)
		keep(p.t, p.dir, "oauth.conf", "introspection_url = "+p.introspects+"\nintrospection_mode = post\nusername_attribute = username\nactive_attribute = active\nactive_value = true\n")
	}
	keep(p.t, p.dir, "users", "ala:{PLAIN}"+secret+"::::::\nola:{PLAIN}"+secret+"::::::\n")
	if err := os.Chmod(filepath.Join(p.dir, "users"), 0o644); err != nil {
		p.t.Fatal(err)
	}
	conf := keep(p.t, p.dir, "dovecot.conf", strings.NewReplacer("@", p.dir, "#1", strconv.Itoa(p.pop3), "#2", strconv.Itoa(p.pop3s), "#3", p.clients, "#4", mechanisms).Replace(providerDovecot)+more)
	p.reload = runs(p.t, exec.Command("/usr/sbin/dovecot", "-F", "-c", conf), filepath.Join(p.dir, "dovecot.log"), p.pop3, p.pop3s)
}

// runs starts a server, waits until it listens, and ends it by its process id with the test.
// hup tells it to read its files again.
func runs(t *testing.T, cmd *exec.Cmd, log string, listens ...int) (hup func()) {
	t.Helper()
	said := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = time.Second // what it has started may hold its output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
		}
		if text, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("%s: %s%.6000s", filepath.Base(log), said, text)
		}
	})
	deadline, tick := time.After(20*time.Second*patience), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for _, port := range listens {
		for {
			conn, err := net.Dial("tcp", loopback(port))
			if err == nil {
				_ = conn.Close()
				break
			}
			select {
			case err := <-done:
				done <- err
				t.Fatalf("%s ended: %v %s", cmd.Path, err, said)
			case <-deadline:
				t.Fatalf("%s does not listen on port %d: %v %s", cmd.Path, port, err, said)
			case <-tick.C:
			}
		}
	}
	return func() { _ = cmd.Process.Signal(syscall.SIGHUP) }
}

// drop puts letters into a person's Maildir, as files with LF.
func (p *provider) drop(who string, letters ...string) {
	p.t.Helper()
	dropIn(p.t, filepath.Join(p.dir, "mail", who), letters...)
	p.owned("mail/" + who)
}

// dropIn puts letters into a Maildir.
func dropIn(t *testing.T, maildir string, letters ...string) {
	t.Helper()
	for i, text := range letters {
		name := filepath.Join(maildir, "tmp", fmt.Sprintf("%d.M%dP%d.peer", time.Now().UnixNano(), i, os.Getpid()))
		if err := errors.Join(os.WriteFile(name, []byte(text), 0o644), os.Rename(name, filepath.Join(maildir, "new", filepath.Base(name)))); err != nil {
			t.Fatal(err)
		}
	}
}

// servers are the flags of add that name the provider's, with TLS from the start.
func (p *provider) servers() []string {
	return []string{"--incoming", loopback(p.pop3s), "--outgoing", loopback(p.submissions), "--security", "tls", "--login", "ala"}
}

// authority writes the provider's authority for --ca.
func (p *provider) authority(l *laptop) string {
	return l.write("ca.pem", authorityPEM(p.ca.Cert.Raw))
}

// holds counts the letters of a person's Maildir with a subject.
func (p *provider) holds(who, subject string) (n int) {
	p.t.Helper()
	for _, name := range glob(p.t, filepath.Join(p.dir, "mail", who, "[cn][ue][rw]/*")) {
		head, _, _ := strings.Cut(readFile(p.t, name), "\n\n")
		if s, _ := message.Get([]byte(strings.ReplaceAll(head, "\n", "\r\n")+"\r\n"), "Subject"); mime.DecodeWords(strings.TrimSpace(s)) == subject {
			n++
		}
	}
	return n
}

func id(n store.LetterID) string { return strconv.FormatInt(int64(n), 10) }

// executable lets a script be run.
func executable(t *testing.T, path string) {
	t.Helper()
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
}
