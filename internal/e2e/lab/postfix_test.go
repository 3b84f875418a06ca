package lab_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const postfixConf = `compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
maillog_file = %[1]s/mail.log
maillog_file_prefixes = %[1]s
myhostname = mx.postfix.test
myorigin = postfix.test
mydestination =
mynetworks = %[5]s
inet_interfaces = %[6]s
inet_protocols = all
%[7]s
virtual_mailbox_domains = %[2]s
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = texthash:%[1]s/boxes
virtual_uid_maps = static:%[3]s
virtual_gid_maps = static:%[4]s
virtual_minimum_uid = 1
smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_chain_files = %[1]s/pair.pem
smtpd_tls_received_header = yes
smtpd_tls_loglevel = 1
smtp_tls_loglevel = 1
smtp_tls_CAfile = %[1]s/ca.pem
minimal_backoff_time = 5s
maximal_backoff_time = 10s
queue_run_delay = 5s
alias_maps =
biff = no
`

// startPostfix starts Postfix on h for domains. Mail for anybody@ of them lies in a
// Maildir by the local-part, if boxes has the address.
func startPostfix(t *testing.T, h *host, cert tls.Certificate, domains, boxes []string) *process {
	t.Helper()
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, b := range boxes {
		local, _, _ := strings.Cut(b, "@")
		fmt.Fprintf(&table, "%s %s/\n", b, local)
	}
	keep(t, h.dir, "boxes", table.String())
	keep(t, h.dir, "pair.pem", keyPEM(t, cert)+certPEM(cert))
	conf := filepath.Join(h.dir, "postfix")
	keep(t, conf, "main.cf", fmt.Sprintf(postfixConf, h.dir, strings.Join(domains, " "), nobody.Uid, nobody.Gid, h.w.net4+clientHost, postfixListens(h), postfixExtra(h)))
	master, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if err != nil {
		t.Fatal(err)
	}
	keep(t, conf, "master.cf", unchrooted(h, string(master)))
	for _, f := range []string{"postfix-files", "postfix-script", "post-install"} {
		if text, err := os.ReadFile("/etc/postfix/" + f); err == nil {
			keep(t, conf, f, string(text))
		}
	}
	for _, d := range []string{"spool", "data", "mail"} {
		if err := os.MkdirAll(filepath.Join(h.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	postfix, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(chown(filepath.Join(h.dir, "data"), postfix), chown(filepath.Join(h.dir, "mail"), nobody)); err != nil {
		t.Fatal(err)
	}
	h.run("postfix", "-c", conf, "check")
	p := h.start("postfix", nil, "/usr/lib/postfix/sbin/master", "-c", conf, "-d")
	p.listens(h.addr, 25)
	return p
}

func chown(path string, u *user.User) error {
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return errors.Join(err1, err2, os.Chown(path, uid, gid))
}

// postfixListens says which addresses Postfix takes for its own.
func postfixListens(h *host) string {
	if h.pid == 0 {
		return "loopback-only" // Postfix takes only addresses of interfaces; master.cf has ours
	}
	return "all"
}

// postfixExtra sends mail to our server without DNS: on loopback Postfix has the
// system's resolver, which knows nothing of the laboratory.
func postfixExtra(h *host) string {
	if h.pid == 0 {
		return "transport_maps = inline:{ours.test=smtp:[" + h.w.net4 + oursHost + "]}\nsmtpd_peername_lookup = no\nsmtp_bind_address = " + h.addr + "\nsmtp_tls_security_level = encrypt\nsmtp_dns_support_level = disabled\n"
	}
	return "smtp_tls_security_level = dane\nsmtp_dns_support_level = dnssec\n"
}

// unchrooted lets every service of a master.cf run outside a chroot, and SMTP on the host.
func unchrooted(h *host, dist string) string {
	var out strings.Builder
	for line := range strings.Lines(dist) {
		if f := strings.Fields(line); len(f) > 7 && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, " ") {
			f[4] = "n"
			if f[0] == "smtp" && f[1] == "inet" && h.pid == 0 {
				f[0] = h.addr + ":25"
			}
			line = strings.Join(f, " ") + "\n"
		}
		out.WriteString(line)
	}
	return out.String()
}
