package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	domain   = "bench.test"
	password = "secret-of-the-bench"
)

// user is the name of the i-th mailbox that SMTP loads deliver to.
func user(i int) string { return fmt.Sprintf("u%03d", i+1) }

// allUsers are the mailboxes of every load: u deliveries, big 10,000 messages,
// r 100 messages, m 20 messages of 1 MiB.
func allUsers() []string {
	var all []string
	for _, k := range []struct {
		prefix string
		n      int
	}{{"u", 100}, {"big", 4}, {"r", 20}, {"m", 4}} {
		for i := range k.n {
			all = append(all, fmt.Sprintf("%s%03d", k.prefix, i+1))
		}
	}
	return all
}

// load is a piece of SMTP work.
type load struct {
	sessions int
	octets   int
	reuse    bool // connections carry many messages
}

// generate drives count messages into addr with one smtp-source a session, each
// to a mailbox of its own, and returns how long it took.
func generate(ctx context.Context, addr string, l load, count int) (time.Duration, error) {
	bin, err := exec.LookPath("smtp-source")
	if err != nil {
		bin = "/usr/sbin/smtp-source"
	}
	ctx, cancel := context.WithTimeout(ctx, 120*time.Second)
	defer cancel()
	errs := make([]error, l.sessions)
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range l.sessions {
		wg.Go(func() {
			args := []string{"-4", "-s", "1", "-l", strconv.Itoa(l.octets), "-m", strconv.Itoa(count / l.sessions),
				"-M", "client.test", "-f", "load@client.test", "-t", user(i%peerUsers) + "@" + domain}
			if l.reuse {
				args = append(args, "-d")
			}
			out, err := exec.CommandContext(ctx, bin, append(args, "inet:"+addr)...).CombinedOutput()
			if err != nil {
				errs[i] = fmt.Errorf("smtp-source: %w: %s", err, strings.TrimSpace(string(out)))
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return took, nil
}

// rate measures messages a second into addr, in a run of about b.seconds. done
// waits until count messages are delivered.
func (b *bench) rate(ctx context.Context, addr string, l load, done func(count int) error) (perSecond float64, count int, err error) {
	warm := 10 * l.sessions
	took, err := generate(ctx, addr, l, warm)
	if err != nil {
		return 0, 0, err
	}
	if err := done(warm); err != nil {
		return 0, 0, err
	}
	count = int(float64(warm) / took.Seconds() * b.seconds.Seconds())
	count = max(count-count%l.sessions, 5*l.sessions)
	begin := time.Now()
	if _, err := generate(ctx, addr, l, count); err != nil {
		return 0, 0, err
	}
	if err := done(warm + count); err != nil {
		return 0, 0, err
	}
	return float64(count) / time.Since(begin).Seconds(), count, nil
}
