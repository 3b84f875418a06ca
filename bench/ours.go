package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ours is a running Poczta with the accounts of every load.
type ours struct {
	b                 *bench
	dir, conf         string
	smtp, pop3, pop3s string
	submission        string
	proc              *process
}

// build makes the binary once.
func (b *bench) build(ctx context.Context) error {
	b.poczta = filepath.Join(b.dir, "poczta")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.poczta, "./cmd/poczta")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build cmd/poczta (run the benchmark from the repository's root): %w: %s", err, out)
	}
	return nil
}

// startOurs sets a server up, fills the mailboxes of the pattern (see fillOurs)
// and starts it.
func (b *bench) startOurs(ctx context.Context, pattern string) (*ours, error) {
	o, err := b.setUp(ctx)
	if err != nil {
		return nil, err
	}
	if err := o.fill(ctx, pattern); err != nil {
		return nil, err
	}
	return o, o.start(ctx)
}

func (b *bench) setUp(ctx context.Context) (*ours, error) {
	dir, err := os.MkdirTemp(b.dir, "poczta-")
	if err != nil {
		return nil, err
	}
	base, err := freeBase()
	if err != nil {
		return nil, err
	}
	o := &ours{b: b, dir: dir, conf: dir + "/poczta.toml"}
	o.smtp, o.pop3, o.pop3s = loopback(base+25), loopback(base+110), loopback(base+995)
	o.submission = loopback(base + 587)
	secret := dir + "/secret"
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		return nil, err
	}
	if _, err := o.command(ctx, nil, "setup", "--data", dir+"/data", "--hostname", "mx."+domain, "--domain", domain, "--account", "postmaster@"+domain,
		"--password-file", secret, "--listen-host", "127.0.0.1", "--port-base", strconv.Itoa(base), "--tls", "self-signed", "--yes"); err != nil {
		return nil, err
	}
	if err := o.configure(); err != nil {
		return nil, err
	}
	var lines strings.Builder
	for _, u := range allUsers() {
		fmt.Fprintf(&lines, "%s@%s,,{PLAIN}%s\n", u, domain, password)
	}
	_, err = o.command(ctx, strings.NewReader(lines.String()), "account", "import", "-")
	return o, err
}

// configure adds what the loads need: passwords without TLS from loopback, as
// the peers have it.
func (o *ours) configure() error {
	text, err := os.ReadFile(o.conf)
	if err != nil {
		return err
	}
	s := string(text)
	if strings.Contains(s, "[auth]") {
		s = strings.Replace(s, "[auth]", "[auth]\nplaintext_from = [\"127.0.0.0/8\"]", 1)
	} else {
		s += "\n[auth]\nplaintext_from = [\"127.0.0.0/8\"]\n"
	}
	s += "\n[conduct]\nenabled = false\n" // one account writes to more strangers than people do
	if !strings.Contains(s, "[log]") {
		s += "\n[log]\nlevel = \"info\"\n"
	}
	return os.WriteFile(o.conf, []byte(s), 0o644)
}

func (o *ours) start(ctx context.Context) error {
	p, err := o.b.start(ctx, filepath.Base(o.dir)+".log", o.b.poczta, "serve", "--config", o.conf)
	if err != nil {
		return err
	}
	o.proc = p
	o.b.onStop(p.stop)
	if err := waitPort(ctx, o.smtp); err != nil {
		return err
	}
	return waitPort(ctx, o.pop3)
}

func (o *ours) pid() int { return o.proc.cmd.Process.Pid }

// command runs a poczta command and returns what it printed.
func (o *ours) command(ctx context.Context, in *strings.Reader, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, o.b.poczta, append(args, "--config", o.conf)...)
	if in != nil {
		cmd.Stdin = in
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("poczta %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// stored counts the messages in the mailboxes that SMTP loads deliver to.
func (o *ours) stored(ctx context.Context) (int, error) {
	total := 0
	for i := range peerUsers {
		c, err := dialPOP3(o.pop3, nil)
		if err != nil {
			return 0, err
		}
		n, err := c.login(user(i) + "@" + domain)
		_ = c.conn.Close()
		if err != nil {
			return 0, err
		}
		total += n
		if err := ctx.Err(); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// waitStored waits until want messages can be fetched; since a 250 means stored,
// the first count must say so.
func (o *ours) waitStored(ctx context.Context, want int) error {
	n, err := o.stored(ctx)
	if err != nil {
		return err
	}
	if n < want {
		return fmt.Errorf("only %d of %d accepted messages are in the mailboxes", n, want)
	}
	return nil
}

// waitCount polls count until it reaches want.
func waitCount(ctx context.Context, count func() int, want int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if count() >= want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages delivered: %w", count(), want, ctx.Err())
		case <-tick.C:
		}
	}
}

// freeBase finds a number to add to the standard ports such that the sums are free.
func freeBase() (int, error) {
	for base := 10000; base < 22600; base += 505 { // below the range of ephemeral ports
		free := true
		for _, p := range []int{24, 25, 110, 465, 587, 995, 9025} {
			if waitOnce(loopback(base + p)) {
				free = false
			}
		}
		if free {
			return base, nil
		}
	}
	return 0, errors.New("no free range of ports on loopback")
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

var insecure = &tls.Config{InsecureSkipVerify: true} // the bench's own self-signed certificate
