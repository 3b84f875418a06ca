package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// sink is smtp-sink, which takes mail, throws it away and counts it.
type sink struct {
	addr string
	pid  int
	log  string // its counters, the newest last
}

// startCounting starts a sink with options of smtp-sink(1).
func (b *bench) startCounting(ctx context.Context, options ...string) (*sink, error) {
	bin, err := exec.LookPath("smtp-sink")
	if err != nil {
		bin = "/usr/sbin/smtp-sink"
		if _, err := os.Stat(bin); err != nil {
			return nil, fmt.Errorf("smtp-sink: %w", errMissing)
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &sink{addr: loopback(port), log: filepath.Join(b.dir, fmt.Sprintf("sink-%d.log", port))}
	p, err := b.start(ctx, filepath.Base(s.log), bin, append(options, "-c", "-m", "1000", "-u", "nobody", "inet:"+s.addr, "1000")...)
	if err != nil {
		return nil, err
	}
	b.onStop(p.stop)
	s.pid = p.cmd.Process.Pid
	return s, waitPort(ctx, s.addr)
}

// messages is how many messages the sink has taken.
func (s *sink) messages() int {
	f, err := os.Open(s.log)
	if err != nil {
		return 0
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		return 0
	}
	tail := make([]byte, min(size, 200))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return 0
	}
	tail = tail[:max(0, bytes.LastIndexByte(tail, '\r'))] // whole records only
	i := bytes.LastIndex(tail, []byte("mesg="))
	if i < 0 {
		return 0
	}
	n, _ := strconv.Atoi(string(tail[i+len("mesg="):]))
	return n
}

// passage is how messages passed a sink.
type passage struct {
	perSecond float64
	cpu       time.Duration // of the processes that sent them, a message
}

// passing waits until the sink has taken want messages beyond before, and measures from the
// first of them: what a server needs to start is left out. roots are the processes whose
// CPU time counts.
func (s *sink) passing(ctx context.Context, before, want int, roots ...int) (passage, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	first, begin, cpu := 0, time.Time{}, time.Duration(0)
	for {
		n := s.messages() - before
		switch {
		case first == 0 && n > 0:
			first, begin, cpu = n, time.Now(), cpuOf(roots...)
		case n >= want && n > first:
			took := time.Since(begin)
			rest := float64(n - first)
			return passage{rest / took.Seconds(), time.Duration(float64(cpuOf(roots...)-cpu) / rest)}, nil
		case n >= want:
			return passage{}, errors.New("the sink took all messages at once: more are needed")
		}
		select {
		case <-ctx.Done():
			return passage{}, fmt.Errorf("%d of %d messages are in the sink: %w", n, want, ctx.Err())
		case <-tick.C:
		}
	}
}
