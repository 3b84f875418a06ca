package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// sender is Postfix that relays all mail to one host, with its defaults otherwise: up to
// 20 connections to it, connections reused on demand.
type sender struct {
	b        *bench
	dir, etc string
	smtp     string
	master   string // master.cf
	pid      int    // of the master, while it runs
}

const senderCf = `compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
maillog_file = /var/log/poczta-bench-postfix.log
myhostname = out.%[2]s
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:%[3]s
alias_maps =
smtputf8_enable = no
biff = no
in_flow_delay = 0
`

// newSender sets a Postfix up that relays to the sink.
func (b *bench) newSender(ctx context.Context, s *sink) (*sender, error) {
	if _, err := os.Stat("/usr/sbin/postfix"); err != nil {
		return nil, fmt.Errorf("postfix: %w", errMissing)
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("postfix must be started by root: %w", errMissing)
	}
	dir, err := os.MkdirTemp(b.dir, "sender-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := &sender{b: b, dir: dir, etc: dir + "/etc", smtp: loopback(port)}
	for _, d := range []string{dir, p.etc, dir + "/spool", dir + "/data"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
		if err := os.Chmod(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := run1(ctx, "chown", "postfix", dir+"/data"); err != nil {
		return nil, err
	}
	dist, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if err != nil {
		return nil, err
	}
	p.master = masterCf(string(dist), p.smtp)
	_, sinkPort, _ := strings.Cut(s.addr, ":")
	return p, writeAll(postfixFiles(p.etc, fmt.Sprintf(senderCf, dir, domain, sinkPort)))
}

// start starts it; idle leaves the queue alone, which is how it is filled.
func (p *sender) start(ctx context.Context, idle bool) error {
	text := p.master
	if idle {
		text = strings.Replace(text, "\nqmgr ", "\n#qmgr ", 1)
	}
	if err := writeAll(map[string]string{p.etc + "/master.cf": text}); err != nil {
		return err
	}
	pid, err := startMaster(ctx, p.etc, p.dir+"/spool")
	if err != nil {
		return err
	}
	p.pid = pid
	p.b.onStop(func() { p.stop(context.WithoutCancel(ctx)) })
	return waitPort(ctx, p.smtp)
}

func (p *sender) stop(ctx context.Context) {
	if p.pid != 0 {
		_ = run1(ctx, "postfix", "-c", p.etc, "stop")
		p.pid = 0
	}
}

// postfixFiles are the files of a configuration folder without master.cf.
func postfixFiles(etc, main string) map[string]string {
	files := map[string]string{etc + "/main.cf": main}
	for _, f := range []string{"postfix-files", "postfix-script", "post-install"} {
		if text, err := os.ReadFile("/etc/postfix/" + f); err == nil {
			files[etc+"/"+f] = string(text)
		}
	}
	return files
}

// startMaster starts Postfix and returns the master's process.
func startMaster(ctx context.Context, etc, spool string) (pid int, err error) {
	if err := run1(ctx, "postfix", "-c", etc, "start"); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(spool + "/pid/master.pid")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
