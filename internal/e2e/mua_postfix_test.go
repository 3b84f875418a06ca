package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// providerPostfix takes mail of people who log in, and no other.
const providerPostfix = `compatibility_level = 3.6
queue_directory = @/spool
data_directory = @/data
maillog_file = @/postfix.log
maillog_file_prefixes = @
myhostname = mx.provider.test
myorigin = provider.test
mydestination =
mynetworks =
inet_interfaces = loopback-only
inet_protocols = ipv4
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
transport_maps = inline:{ far.test=smtp:[127.0.0.1]:#3 }
virtual_mailbox_domains = provider.test
virtual_mailbox_base = @/mail
virtual_mailbox_maps = inline:{ala@provider.test=ala/ ola@provider.test=ola/ picky@provider.test=picky/}
virtual_uid_maps = static:#1
virtual_gid_maps = static:#2
virtual_minimum_uid = 1
message_size_limit = 100000
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = @/run/submission
smtpd_recipient_restrictions = check_recipient_access inline:{picky@provider.test=REJECT}, permit_sasl_authenticated, reject
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_tls_security_level = may
smtpd_tls_chain_files = @/key.pem, @/cert.pem
smtpd_tls_loglevel = 1
bounce_queue_lifetime = 1d
alias_maps =
biff = no
`

// postfix starts Postfix as the provider's submission server.
func (p *provider) postfix() *provider {
	p.t.Helper()
	nobody, err := user.Lookup("nobody")
	if err != nil {
		p.t.Fatal(err)
	}
	owner, err := user.Lookup("postfix")
	if _, missing := os.Stat("/usr/lib/postfix/sbin/master"); err != nil || missing != nil {
		absent(p.t, "Postfix is not installed: apt-get install postfix")
	}
	conf := filepath.Join(p.dir, "postfix")
	keep(p.t, conf, "main.cf", strings.NewReplacer("@/", p.dir+"/", "= @\n", "= "+p.dir+"\n", "#1", nobody.Uid, "#2", nobody.Gid, "#3", strconv.Itoa(p.submission)).Replace(providerPostfix))
	dist, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if err != nil {
		p.t.Fatal(err)
	}
	keep(p.t, conf, "master.cf", p.services(string(dist)))
	for _, f := range []string{"postfix-files", "postfix-script", "post-install"} {
		if text, err := os.ReadFile("/etc/postfix/" + f); err == nil {
			keep(p.t, conf, f, string(text))
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(p.dir, "spool"), 0o755), os.Mkdir(filepath.Join(p.dir, "data"), 0o755), os.Chmod(conf, 0o755),
		os.Chmod(filepath.Join(conf, "main.cf"), 0o644), os.Chmod(filepath.Join(conf, "master.cf"), 0o644)); err != nil {
		p.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	if err := os.Chown(filepath.Join(p.dir, "data"), uid, gid); err != nil {
		p.t.Fatal(err)
	}
	if out, err := exec.Command("postfix", "-c", conf, "check").CombinedOutput(); err != nil {
		p.t.Fatalf("postfix check: %v: %s", err, out)
	}
	runs(p.t, exec.Command("/usr/lib/postfix/sbin/master", "-c", conf, "-d"), filepath.Join(p.dir, "postfix.log"), p.submission, p.submissions)
	return p
}

// services is a master.cf whose servers listen on the provider's ports, without chroot.
func (p *provider) services(dist string) string {
	var out strings.Builder
	for line := range strings.Lines(dist) {
		f := strings.Fields(line)
		if len(f) <= 7 || strings.HasPrefix(line, "#") || strings.HasPrefix(line, " ") {
			out.WriteString(line)
			continue
		}
		f[4] = "n"
		if f[0] == "smtp" && f[1] == "inet" {
			rest := strings.Join(f[1:], " ")
			fmt.Fprintf(&out, "127.0.0.1:%d %s\n127.0.0.1:%d %s\n  -o smtpd_tls_wrappermode=yes\n", p.submission, rest, p.submissions, rest)
			continue
		}
		out.WriteString(strings.Join(f, " ") + "\n")
	}
	return out.String()
}

// providerExim is Exim in Postfix's place: @ the folder, #1 Exim's path, #2 and #3 the ports.
const providerExim = `exim_path = #1
primary_hostname = mx.provider.test
qualify_domain = provider.test
spool_directory = @/spool
log_file_path = @/log/%slog
pid_file_path = @/exim.pid
keep_environment =
disable_ipv6 = true
local_interfaces = 127.0.0.1
daemon_smtp_ports = #2 : #3
tls_on_connect_ports = #3
tls_advertise_hosts = *
tls_certificate = @/cert.pem
tls_privatekey = @/exim-key.pem
dsn_advertise_hosts = *
chunking_advertise_hosts = *
smtputf8_advertise_hosts = *
message_size_limit = 100000
acl_smtp_rcpt = acl_rcpt
host_lookup =
never_users =

begin acl
acl_rcpt:
  deny    local_parts = picky
          message = 5.7.1 picky takes no mail
  accept  authenticated = *
  deny    message = log in first

begin routers
returned:
  driver = redirect
  domains = far.test
  allow_fail
  data = :fail: 5.1.1 nobody far away has this name
people:
  driver = accept
  domains = provider.test
  local_parts = lsearch;@/boxes
  transport = box

begin transports
box:
  driver = appendfile
  directory = @/mail/$local_part_data
  maildir_format
  delivery_date_add
  envelope_to_add
  return_path_add
  directory_mode = 0777
  mode = 0666
  user = Debian-exim

begin retry
* * F,1h,5s
begin rewrite
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${if and {{eq{$auth2}{ala}}{eq{$auth3}{secret}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${if and {{eq{$auth1}{ala}}{eq{$auth2}{secret}}}}
  server_set_id = $auth1
`

// eximHolder gives Exim the user that its package would make, in a mount namespace of its own.
const eximHolder = `set -e
mount --make-rprivate /
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
shift
exec "$@"`

// exim starts Exim, which is unpacked and not installed, as the provider's submission server.
func (p *provider) exim() *provider {
	p.t.Helper()
	path := eximPath(p.t)
	octets, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	bin := filepath.Join(p.dir, "exim4") // where Exim's own user may look
	if err := os.WriteFile(bin, octets, 0o755); err != nil {
		p.t.Fatal(err)
	}
	uid, gid := p.eximUser()
	if err := os.Chmod(keep(p.t, p.dir, "boxes", "ala: ala\nola: ola\n"), 0o644); err != nil {
		p.t.Fatal(err)
	}
	key := keep(p.t, p.dir, "exim-key.pem", readFile(p.t, filepath.Join(p.dir, "key.pem")))
	conf := keep(p.t, p.dir, "exim.conf", strings.NewReplacer("@", p.dir, "#1", bin, "#2", strconv.Itoa(p.submission), "#3", strconv.Itoa(p.submissions)).Replace(providerExim))
	if err := errors.Join(os.Chmod(conf, 0o644), os.Chmod(filepath.Join(p.dir, "cert.pem"), 0o644), os.Chown(key, uid, gid)); err != nil {
		p.t.Fatal(err)
	}
	for _, d := range glob(p.t, filepath.Join(p.dir, "mail/*/*")) { // Exim that is not installed gives up root, so it can't become the mail's owner
		if err := os.Chmod(d, 0o777); err != nil {
			p.t.Fatal(err)
		}
	}
	for _, d := range []string{"spool", "log"} {
		if err := errors.Join(os.Mkdir(filepath.Join(p.dir, d), 0o755), os.Chown(filepath.Join(p.dir, d), uid, gid)); err != nil {
			p.t.Fatal(err)
		}
	}
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		p.t.Skipf("skipped, mount namespaces are not allowed here: %v %s", err, out)
	}
	runs(p.t, exec.Command("unshare", "-m", "sh", "-c", eximHolder, "sh", p.dir, bin, "-C", conf, "-bdf", "-q5s"), filepath.Join(p.dir, "log/mainlog"), p.submission, p.submissions)
	return p
}

// eximPath is the program of an unpacked Exim.
func eximPath(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("POCZTA_EXIM")
	if dir, err := os.UserCacheDir(); cache == "" && err == nil {
		cache = filepath.Join(dir, "poczta-exim")
	}
	path := filepath.Join(cache, "usr/sbin/exim4")
	if _, err := os.Stat(path); err != nil {
		absent(t, "Exim is not unpacked in "+cache+": make test does so, or set POCZTA_EXIM to another folder")
	}
	return path
}

// eximUser writes the files that name Exim's user, which this host has, or has not.
func (p *provider) eximUser() (uid, gid int) {
	p.t.Helper()
	uid, gid = 61025, 61025
	if u, err := user.Lookup("Debian-exim"); err == nil {
		uid, _ = strconv.Atoi(u.Uid)
		gid, _ = strconv.Atoi(u.Gid)
	}
	for file, line := range map[string]string{"passwd": "Debian-exim:x:61025:61025::/nonexistent:/usr/sbin/nologin\n", "group": "Debian-exim:x:61025:\n"} {
		text := readFile(p.t, "/etc/"+file)
		if !strings.Contains(text, "\nDebian-exim:") {
			text = strings.TrimRight(text, "\n") + "\n" + line
		}
		if err := os.Chmod(keep(p.t, p.dir, file, text), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	return uid, gid
}
