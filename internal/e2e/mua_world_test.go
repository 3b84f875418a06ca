package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/certtest"
)

// island is a network of its own with our server on the usual ports and BIND with the lines that
// domain dns prints: there a mail program finds everything as it would in the world.
type island struct {
	*server
	ca  *certtest.CA
	pid string // of the process that holds the namespaces
}

// islandHolder has a loopback and its own files in /etc, until its input ends.
const islandHolder = `set -e
mount --make-rprivate /
for f in resolv.conf hosts; do mount --bind "$1/$f" "/etc/$f"; done
ip link set lo up
echo held
exec cat`

// islandNames is BIND's configuration, of a zone that @ is the folder of.
const islandNames = `options { directory "@"; listen-on { 127.0.0.1; }; listen-on-v6 { none; }; recursion no; pid-file none; session-keyfile none; dnssec-validation no; };
controls { };
zone "` + domain + `" { type primary; file "zone"; };
zone "second.example" { type primary; file "second"; };
`

const islandZone = `$TTL 60
@ SOA ns.` + domain + `. hostmaster.` + domain + `. 1 3600 600 86400 1
@ NS ns.` + domain + `.
`

// newIsland needs root.
func newIsland(t *testing.T) *island {
	t.Helper()
	named := tool(t, "named")
	if os.Geteuid() != 0 {
		absent(t, "root is needed, for a network of its own")
	}
	dir := t.TempDir()
	i := &island{server: &server{t: t, dir: dir, conf: filepath.Join(dir, "poczta.toml")}, ca: certtest.New(t)}
	i.hold()
	keep(t, dir, "secret", password+"\n")
	i.run("", "setup", "--data", filepath.Join(dir, "data"), "--hostname", "mx."+domain, "--domain", domain, "--account", "ala@"+domain,
		"--password-file", filepath.Join(dir, "secret"), "--listen-host", "127.0.0.1", "--port-base", "0", "--tls", "self-signed", "--yes")
	cert, key := pems(t, filepath.Join(dir, "server"), i.ca.Leaf("mx."+domain, domain, "autoconfig."+domain, "autodiscover."+domain))
	for _, name := range []string{dir, filepath.Dir(cert), filepath.Dir(dir)} { // the server gives up root
		if err := os.Chmod(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{cert, key} {
		if err := os.Chmod(name, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	i.rewrite(`mode = "self-signed"`, `mode = "files"`)
	i.configure(fmt.Sprintf("[[tls.certificate]]\ncert = %q\nkey = %q", cert, key), "[autoconfig]\nmode = \"on\"\nname = \"Our post\"")
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	i.log = &lockedBuffer{}
	i.background(i.log, bin, "serve", "--config", i.conf)
	i.await("the server is ready", 20*time.Second, func() bool { return strings.Contains(i.log.String(), "msg=ready") })
	i.run("", "domain", "add", "second.example")
	i.run(password+"\n", "account", "add", "ola@second.example")
	names := filepath.Join(dir, "names")
	for file, d := range map[string]string{"zone": domain, "second": "second.example"} {
		zone := islandZone
		if d == domain {
			zone += "ns A 127.0.0.1\nmx A 127.0.0.1\n"
		}
		for line := range strings.Lines(i.run("", "domain", "dns", d)) {
			if !strings.HasPrefix(line, ";") {
				zone += line
			}
		}
		keep(t, names, file, zone)
	}
	said := &lockedBuffer{}
	i.background(said, named, "-g", "-c", keep(t, names, "named.conf", strings.ReplaceAll(islandNames, "@", names)))
	i.await("BIND answers", 20*time.Second, func() bool {
		return strings.Contains(said.String(), "all zones loaded") && strings.Contains(said.String(), "running")
	})
	if strings.Contains(said.String(), "not loaded due to errors") {
		t.Fatalf("BIND does not take what domain dns prints: %s", said)
	}
	return i
}

// hold makes the namespaces.
func (i *island) hold() {
	i.t.Helper()
	etc := filepath.Join(i.dir, "etc")
	keep(i.t, etc, "resolv.conf", "nameserver 127.0.0.1\n")
	keep(i.t, etc, "hosts", "127.0.0.1 localhost\n")
	for _, name := range []string{"resolv.conf", "hosts"} {
		if err := os.Chmod(filepath.Join(etc, name), 0o644); err != nil {
			i.t.Fatal(err)
		}
	}
	cmd := exec.Command("unshare", "-n", "-m", "sh", "-c", islandHolder, "sh", etc)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var why bytes.Buffer
	cmd.Stderr = &why
	in, err := cmd.StdinPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if said, err := io.ReadAll(io.LimitReader(out, 5)); err != nil || string(said) != "held\n" {
		i.t.Skipf("skipped, network namespaces are not allowed here: %s", &why)
	}
	i.pid = strconv.Itoa(cmd.Process.Pid)
}

// on is a command line that runs on the island.
func (i *island) on(args ...string) []string {
	return slices.Concat([]string{"nsenter", "-t", i.pid, "-n", "-m", "--"}, args)
}

// background runs a program until the test ends.
func (i *island) background(out io.Writer, args ...string) {
	i.t.Helper()
	args = i.on(args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// TestMailFindsAll sets up accounts with nothing but the address and the password: names are asked
// of the system's server, settings of autoconfig over HTTPS, or of SRV lines.
func TestMailFindsAll(t *testing.T) {
	t.Parallel()
	dig := tool(t, "dig")
	i := newIsland(t)
	l := newLaptop(t)
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	l.env = append(l.env, "SSL_CERT_FILE="+l.write("ca.pem", authorityPEM(i.ca.Cert.Raw)))
	command := func(want string, args ...string) string {
		t.Helper()
		args = i.on(slices.Concat([]string{bin, "mail", "--secrets-file"}, args)...)
		out := l.works("", args[0], args[1:]...)
		if !strings.Contains(out, want) {
			t.Errorf("%q: want %q in\n%s", args, want, out)
		}
		return out
	}
	command("ala@"+domain+" is set up", "add", "ala@"+domain, "--password-file", filepath.Join(l.dir, "password"))
	// The host is outside of this domain, so it is asked about.
	args := i.on(bin, "mail", "--secrets-file", "add", "ola@second.example", "--password-file", filepath.Join(l.dir, "password"))
	if out, code := l.program("", args[0], args[1:]...); code != 2 || !strings.Contains(out, "mx."+domain) || !strings.Contains(out, "--yes") {
		t.Errorf("a host outside the domain: exit %d %s", code, out)
	}
	command("ola@second.example is set up", "add", "ola@second.example", "--yes", "--password-file", filepath.Join(l.dir, "password"))
	command("Sent.", "send", "ola@second.example", "--from", "ala@"+domain, "-s", "across", "--text", "found", "--receipt")
	l.await("it has come, and the report", func() bool {
		return strings.Count(command("", "sync", "ola@second.example")+command("", "sync", "ala@"+domain), "1 new letter") > 0
	})
	if found := l.works("", bin, "mail", "list", "--account", "ola@second.example"); !strings.Contains(found, "across") {
		t.Errorf("list: %s", found)
	}
	for _, c := range []struct{ kind, name, want string }{
		{"SRV", "_pop3s._tcp." + domain, "995 mx." + domain + "."},
		{"SRV", "_submissions._tcp." + domain, "465 mx." + domain + "."},
		{"SRV", "_submission._tcp." + domain, "587 mx." + domain + "."},
		{"SRV", "_pop3._tcp." + domain, "110 mx." + domain + "."},
		{"SRV", "_autodiscover._tcp.second.example", "443 mx." + domain + "."},
		{"MX", "second.example", "mx." + domain + "."},
	} {
		args := i.on(dig, "+short", "+tries=1", "@127.0.0.1", c.name, c.kind)
		if out := strings.TrimSpace(l.works("", args[0], args[1:]...)); !strings.HasSuffix(out, c.want) {
			t.Errorf("dig %s %s: got %q, want %q", c.name, c.kind, out, c.want)
		}
	}
}
