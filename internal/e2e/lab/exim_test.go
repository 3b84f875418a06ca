package lab_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// eximPackage is what Exim is taken from: it is unpacked, never installed, because
// Debian allows one MTA only and Postfix is that one.
const eximPackage = "exim4-daemon-light"

// eximConf: DKIM is verified and its verdicts are written into the message; DANE is
// used outward; recipients are verified; %[2]s are our domains.
const eximConf = `exim_path = %[1]s
primary_hostname = mx.exim.test
spool_directory = %[2]s/spool
log_file_path = %[2]s/log/%%slog
pid_file_path = %[2]s/exim.pid
keep_environment =
domainlist local_domains = %[3]s
hostlist relay_from_hosts = %[4]s
local_interfaces = %[5]s
disable_ipv6 = false
daemon_smtp_ports = 25
tls_advertise_hosts = *
tls_certificate = %[2]s/cert.pem
tls_privatekey = %[2]s/key.pem
acl_smtp_rcpt = acl_rcpt
acl_smtp_dkim = acl_dkim
dns_dnssec_ok = 1
dsn_advertise_hosts = *
chunking_advertise_hosts = *
smtputf8_advertise_hosts = *
queue_run_in_order = false
log_selector = +tls_peerdn +received_recipients +dnssec +dkim_verbose
never_users =

begin acl
acl_rcpt:
  deny    hosts = <; 10.77.0.11 ; fd00:77::11
          local_parts = picky
          message = 5.7.1 Service unavailable; Client host [$sender_host_address] blocked using dnsbl.test
  deny    domains = +local_domains
          ! verify = recipient
          message = 5.1.1 $domain knows no $local_part
  accept  domains = +local_domains
  accept  hosts = +relay_from_hosts
  deny    message = relay not permitted
acl_dkim:
  accept  add_header = X-Lab-DKIM: $dkim_cur_signer $dkim_algo $dkim_verify_status

begin routers
local_users:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;%[2]s/boxes
  transport = box
%[6]sremote:
  driver = dnslookup
  domains = ! +local_domains
  dnssec_request_domains = *
  transport = remote_smtp
  no_more

begin transports
box:
  driver = appendfile
  directory = %[2]s/mail/$local_part_data
  maildir_format
  create_directory
  delivery_date_add
  envelope_to_add
  return_path_add
  user = Debian-exim
remote_smtp:
  driver = smtp
  hosts_try_dane = *
  dnssec_request_domains = *

begin retry
* * F,1h,5s

begin rewrite
begin authenticators
`

// eximListens says where Exim listens.
func eximListens(h *host) string {
	if h.pid == 0 {
		return h.addr
	}
	return "<; 0.0.0.0 ; ::0"
}

// eximExtra is postfixExtra for Exim.
func eximExtra(h *host) string {
	if h.pid != 0 {
		return ""
	}
	return "ours:\n  driver = manualroute\n  domains = ours.test\n  route_list = ours.test " + h.w.net4 + oursHost + "\n  self = send\n  transport = remote_smtp\n"
}

// exim is the path of an unpacked Exim.
func exim(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("POCZTA_EXIM")
	if dir, err := os.UserCacheDir(); cache == "" && err == nil {
		cache = filepath.Join(dir, "poczta-exim")
	}
	path := filepath.Join(cache, "usr/sbin/exim4")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	missing(t, fmt.Sprintf("Exim is not unpacked in %s: apt-get download %s, dpkg -x it there (make test does), or set POCZTA_EXIM to another folder", cache, eximPackage))
	return ""
}

// startExim starts Exim on h for domains, with a Maildir for each of boxes.
func startExim(t *testing.T, h *host, cert tls.Certificate, domains, boxes []string) *process {
	t.Helper()
	octets, err := os.ReadFile(exim(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(h.dir, "exim4") // where Exim's own user may look
	if _, err := os.Stat(path); err != nil {
		if err := os.WriteFile(path, octets, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var table strings.Builder
	for _, b := range boxes {
		fmt.Fprintf(&table, "%[1]s: %[1]s\n", b)
	}
	keep(t, h.dir, "boxes", table.String())
	keep(t, h.dir, "cert.pem", certPEM(cert))
	keep(t, h.dir, "key.pem", keyPEM(t, cert))
	for _, d := range []string{"mail", "spool", "log"} {
		if err := os.MkdirAll(filepath.Join(h.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.run("chown", "-R", "Debian-exim:Debian-exim", filepath.Join(h.dir, "spool"), filepath.Join(h.dir, "log"), filepath.Join(h.dir, "key.pem"))
	h.run("chown", "Debian-exim", filepath.Join(h.dir, "mail"))
	conf := keep(t, h.dir, "exim.conf", fmt.Sprintf(eximConf, path, h.dir, strings.Join(domains, " : "), h.w.net4+clientHost, eximListens(h), eximExtra(h)))
	h.run(path, "-C", conf, "-bV")
	p := h.start("exim", nil, path, "-C", conf, "-bdf", "-q5s")
	p.listens(h.addr, 25)
	return p
}

// missing skips the test, or fails it where services are required.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("POCZTA_REQUIRE_SERVICES") != "" {
		t.Fatal(why)
	}
	t.Skip("skipped: " + why)
}

// programs are what the laboratory runs.
func programs(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "root is needed: for network namespaces and port 25")
	}
	for _, p := range []string{"unshare", "nsenter", "ip", "named", "dnssec-signzone", "unbound", "postfix", "mpop", "python3"} {
		if _, err := exec.LookPath(p); err != nil && errors.Is(err, exec.ErrNotFound) {
			missing(t, p+" is not installed; make test installs what the laboratory needs")
		}
	}
	exim(t)
}
