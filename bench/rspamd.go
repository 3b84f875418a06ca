package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// startRspamd starts Rspamd with the configuration of its package as a milter that scans by
// itself, one process a core. It asks the name server, and has neither Redis nor fuzzy storage.
func (b *bench) startRspamd(ctx context.Context, mail *signedMail) (milters []string, err error) {
	bin, err := exec.LookPath("rspamd")
	if err != nil {
		return nil, fmt.Errorf("rspamd: %w", errMissing)
	}
	if _, err := os.Stat("/etc/rspamd/rspamd.conf"); err != nil {
		return nil, fmt.Errorf("rspamd's configuration: %w", errMissing)
	}
	dir, err := os.MkdirTemp(b.dir, "rspamd-")
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"local.d", "override.d", "state"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	var ports [3]int
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	milter := loopback(ports[0])
	if err := writeAll(map[string]string{
		dir + "/override.d/options.inc":           fmt.Sprintf("dns { nameserver = [%q]; timeout = 1s; }\ncontrol_socket = \"%s/state/control mode=0600\";\n", mail.dns, dir),
		dir + "/override.d/logging.inc":           fmt.Sprintf("type = \"file\"; filename = \"%s/state/rspamd.log\"; level = \"warning\";\n", dir),
		dir + "/override.d/worker-normal.inc":     fmt.Sprintf("bind_socket = %q; count = 1;\n", loopback(ports[1])),
		dir + "/override.d/worker-controller.inc": fmt.Sprintf("bind_socket = %q; count = 1;\n", loopback(ports[2])),
		dir + "/override.d/worker-proxy.inc":      fmt.Sprintf("bind_socket = %q; milter = yes; count = 2; upstream \"local\" { default = yes; self_scan = yes; }\n", milter),
		dir + "/local.d/fuzzy_check.conf":         "enabled = false;\n",
		dir + "/local.d/milter_headers.conf":      "use = [\"authentication-results\", \"x-spamd-result\"];\n",
	}); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	if err := run1(ctx, "chown", "-R", "_rspamd:_rspamd", dir+"/state"); err != nil {
		return nil, err
	}
	args := []string{"-f", "-u", "_rspamd", "-g", "_rspamd", "-c", "/etc/rspamd/rspamd.conf"}
	for _, v := range []string{"LOCAL_CONFDIR=" + dir, "DBDIR=" + dir + "/state", "RUNDIR=" + dir + "/state", "LOGDIR=" + dir + "/state"} {
		args = append(args, "--var="+v)
	}
	p, err := b.start(ctx, "rspamd.log", bin, args...)
	if err != nil {
		return nil, err
	}
	b.onStop(p.stop)
	return []string{milter}, waitPort(ctx, milter)
}

// filterBy has Postfix ask milters about each message, one after another, and believe the PROXY header
// of the load.
func (p *pair) filterBy(ctx context.Context, milters ...string) error {
	main, err := os.ReadFile(p.postfixEt + "/main.cf")
	if err != nil {
		return err
	}
	// names of hosts are the filter's to ask for: Postfix would ask another name server
	more := "smtpd_milters = inet:" + strings.Join(milters, " inet:") + "\nmilter_default_action = tempfail\nsmtpd_upstream_proxy_protocol = haproxy\nsmtpd_peername_lookup = no\nsmtpd_client_connection_count_limit = 0\n"
	if err := os.WriteFile(p.postfixEt+"/main.cf", append(main, more...), 0o644); err != nil {
		return err
	}
	return run1(ctx, "postfix", "-c", p.postfixEt, "reload")
}

// judged counts what was delivered with a mark of the peer's filters in its header, and of it what has
// all of some words there.
func (p *pair) judged(mark string, all ...string) (string, error) {
	judged, passed := 0, 0
	err := filepath.WalkDir(p.mail, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(path, "/new/") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		header, _, _ := bytes.Cut(text, []byte("\n\n"))
		if !bytes.Contains(header, []byte(mark)) {
			return nil
		}
		judged++
		if !slices.ContainsFunc(all, func(word string) bool { return !bytes.Contains(header, []byte(word)) }) {
			passed++
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if judged == 0 {
		return "", fmt.Errorf("the peer's filters have left no %s on what was delivered", mark)
	}
	return fmt.Sprintf("of %d delivered by the peer at last %d have %s", judged, passed, strings.Join(all, ", ")), nil
}
