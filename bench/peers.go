package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// pair is Postfix that hands to Dovecot by LMTP, with their durable defaults.
type pair struct {
	dir       string
	smtp      string // addresses
	pop3      string
	mail      string // maildirs, one folder a user
	roots     []int  // the two masters
	doveconf  string
	postfixEt string
}

const peerUsers = 20

// startPair starts the two. fast gives Dovecot the login settings its manual
// names for busy servers.
func (b *bench) startPair(ctx context.Context, fast, onlyPOP3 bool) (*pair, error) {
	for _, c := range []string{"/usr/sbin/postfix", "/usr/sbin/dovecot", "/usr/lib/dovecot/lmtp", "/usr/lib/dovecot/pop3"} {
		if _, err := os.Stat(c); err != nil {
			return nil, fmt.Errorf("%s: %w", c, errMissing)
		}
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("postfix must be started by root: %w", errMissing)
	}
	dir, err := os.MkdirTemp(b.dir, "pair-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	p := &pair{dir: dir, mail: dir + "/mail", doveconf: dir + "/dovecot.conf", postfixEt: dir + "/postfix/etc"}
	if err := p.startDovecot(ctx, b, fast); err != nil {
		return nil, err
	}
	if onlyPOP3 {
		return p, nil
	}
	return p, p.startPostfix(ctx, b)
}

func (p *pair) startDovecot(ctx context.Context, b *bench, fast bool) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	p.pop3 = "127.0.0.1:" + strconv.Itoa(port)
	for _, d := range []string{p.mail, p.dir + "/run", p.dir + "/state", p.dir + "/home"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	var users strings.Builder
	for _, u := range allUsers() {
		fmt.Fprintf(&users, "%s:{PLAIN}%s::::::\n", u, password)
	}
	login, session := "", ""
	if fast {
		login = "service_count = 0\n  process_min_avail = 2\n  client_limit = 1000"
		session = "service pop3 {\n  service_count = 100\n  process_min_avail = 2\n}\nauth_cache_size = 1M\n"
	}
	conf := fmt.Sprintf(dovecotConf, p.dir, p.mail, port, login) + session
	if err := writeAll(map[string]string{p.dir + "/users": users.String(), p.doveconf: conf}); err != nil {
		return err
	}
	if err := run1(ctx, "chown", "-R", "mail:mail", p.mail, p.dir+"/home"); err != nil {
		return err
	}
	proc, err := b.start(ctx, "dovecot.log", "/usr/sbin/dovecot", "-F", "-c", p.doveconf)
	if err != nil {
		return err
	}
	b.onStop(proc.stop)
	p.roots = append(p.roots, proc.cmd.Process.Pid)
	return waitPort(ctx, p.pop3)
}

const dovecotConf = `base_dir = %[1]s/run
state_dir = %[1]s/state
protocols = pop3 lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
log_path = %[1]s/dovecot.log
mail_location = maildir:%[2]s/%%n
mail_uid = mail
mail_gid = mail
first_valid_uid = 1
auth_username_format = %%Ln
passdb {
  driver = passwd-file
  args = scheme=PLAIN %[1]s/users
}
userdb {
  driver = passwd-file
  args = username_format=%%n %[1]s/users
  default_fields = uid=mail gid=mail home=%[1]s/home/%%n
}
namespace inbox {
  inbox = yes
  separator = /
}
service pop3-login {
  inet_listener pop3 {
    address = 127.0.0.1
    port = %[3]d
  }
  inet_listener pop3s {
    port = 0
  }
  %[4]s
}
service lmtp {
  unix_listener lmtp {
    mode = 0600
    user = postfix
    group = postfix
  }
}
`

func (p *pair) startPostfix(ctx context.Context, b *bench) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	p.smtp = "127.0.0.1:" + strconv.Itoa(port)
	for _, d := range []string{p.postfixEt, p.dir + "/postfix/spool", p.dir + "/postfix/data"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := run1(ctx, "chown", "postfix", p.dir+"/postfix/data"); err != nil {
		return err
	}
	var boxes strings.Builder
	for _, u := range allUsers() {
		fmt.Fprintf(&boxes, "%s@%s x\n", u, domain)
	}
	master, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if err != nil {
		return err
	}
	files := postfixFiles(p.postfixEt, fmt.Sprintf(mainCf, p.dir, domain))
	files[p.postfixEt+"/vmailbox"] = boxes.String()
	files[p.postfixEt+"/master.cf"] = masterCf(string(master), p.smtp)
	if err := writeAll(files); err != nil {
		return err
	}
	if err := run1(ctx, "postmap", "-c", p.postfixEt, "hash:"+p.postfixEt+"/vmailbox"); err != nil {
		return err
	}
	pid, err := startMaster(ctx, p.postfixEt, p.dir+"/postfix/spool")
	if err != nil {
		return err
	}
	b.onStop(func() { _ = run1(context.WithoutCancel(ctx), "postfix", "-c", p.postfixEt, "stop") })
	p.roots = append(p.roots, pid)
	return waitPort(ctx, p.smtp)
}

const mainCf = `compatibility_level = 3.6
queue_directory = %[1]s/postfix/spool
data_directory = %[1]s/postfix/data
maillog_file = /var/log/poczta-bench-postfix.log
myhostname = mx.%[2]s
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
virtual_mailbox_domains = %[2]s
virtual_mailbox_maps = hash:%[1]s/postfix/etc/vmailbox
virtual_transport = lmtp:unix:%[1]s/run/lmtp
default_transport = error:no outgoing mail in the benchmark
relay_transport = error:no outgoing mail in the benchmark
alias_maps =
smtputf8_enable = no
biff = no
`

// masterCf moves smtpd to our port and runs every service outside a chroot.
func masterCf(dist, addr string) string {
	var out strings.Builder
	for line := range strings.Lines(dist) {
		f := strings.Fields(line)
		switch {
		case len(f) > 7 && f[0] == "smtp" && f[1] == "inet":
			line = addr + " inet n - n - - smtpd\n"
		case len(f) > 7 && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, " "):
			f[4] = "n"
			line = strings.Join(f, " ") + "\n"
		}
		out.WriteString(line)
	}
	return out.String()
}

// delivered counts the messages in the maildirs.
func (p *pair) delivered() int {
	n := 0
	for i := range peerUsers {
		for _, sub := range []string{"new", "cur"} {
			d, err := os.ReadDir(filepath.Join(p.mail, user(i), sub))
			if err == nil {
				n += len(d)
			}
		}
	}
	return n
}

func (p *pair) clean() error {
	boxes, err := filepath.Glob(p.mail + "/*")
	if err != nil {
		return err
	}
	for _, m := range boxes {
		if err := os.RemoveAll(m); err != nil {
			return err
		}
	}
	return nil
}

// startSink starts smtp-sink, which takes mail and throws it away.
func (b *bench) startSink(ctx context.Context) (string, int, error) {
	sink, err := exec.LookPath("smtp-sink")
	if err != nil {
		if _, err := os.Stat("/usr/sbin/smtp-sink"); err != nil {
			return "", 0, fmt.Errorf("smtp-sink: %w", errMissing)
		}
		sink = "/usr/sbin/smtp-sink"
	}
	port, err := freePort()
	if err != nil {
		return "", 0, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	p, err := b.start(ctx, "smtp-sink.log", sink, "-u", "nobody", "inet:"+addr, "1000")
	if err != nil {
		return "", 0, err
	}
	b.onStop(p.stop)
	return addr, p.cmd.Process.Pid, waitPort(ctx, addr)
}

func run1(ctx context.Context, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func writeAll(files map[string]string) error {
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
