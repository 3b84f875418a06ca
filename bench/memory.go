package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// raiseFiles lets this process hold 10,000 connections.
func raiseFiles() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	l.Cur = l.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}

// openAll opens n connections, fifty at a time, and readies each by f.
func openAll(ctx context.Context, n int, addr string, f func(net.Conn) (net.Conn, error)) ([]net.Conn, error) {
	conns := make([]net.Conn, n)
	errs := make([]error, 50)
	var wg sync.WaitGroup
	for k := range errs {
		wg.Go(func() {
			for i := k; i < n && errs[k] == nil && ctx.Err() == nil; i += len(errs) {
				// Loopback has one port range an address: spread over several.
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%100))}, Timeout: 20 * time.Second}
				c, err := d.DialContext(ctx, "tcp", addr)
				if err == nil {
					_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
					c, err = f(c)
				}
				conns[i], errs[k] = c, err
			}
		})
	}
	wg.Wait()
	return conns, errors.Join(append(errs, ctx.Err())...)
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		if c != nil {
			_ = c.Close()
		}
	}
}

// greeted reads the greeting without a buffer of its own that would stay.
func greeted(c net.Conn) (net.Conn, error) {
	var b [512]byte
	_, err := c.Read(b[:])
	return c, err
}

func idleStrangers(service string) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		res := result{unit: "MiB", less: true}
		if err := raiseFiles(); err != nil {
			return res, err
		}
		for range b.runs {
			o, err := b.startOurs(ctx, "")
			if err != nil {
				return res, err
			}
			addr := o.smtp
			if service == "pop3" {
				addr = o.pop3
			}
			conns, err := openAll(ctx, 10000, addr, greeted)
			if err == nil {
				var mib float64
				mib, err = rss(o.pid())
				res.ours = append(res.ours, mib)
			}
			closeAll(conns)
			b.stopAll()
			if err != nil {
				return res, err
			}
		}
		return res, nil
	}
}

func idleSessions(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "MiB", less: true}
	if err := raiseFiles(); err != nil {
		return res, err
	}
	for range b.runs {
		o, err := b.startOurs(ctx, "")
		if err != nil {
			return res, err
		}
		i := make(chan int, 10000)
		for n := range 10000 {
			i <- n
		}
		conns, err := openAll(ctx, 10000, o.pop3s, func(c net.Conn) (net.Conn, error) {
			t := tls.Client(c, insecure)
			p := &popClient{t, bufio.NewReaderSize(t, 512)}
			if _, err := p.status(); err != nil {
				return c, err
			}
			_, err := p.login(user(<-i%20) + "@" + domain)
			return t, err
		})
		if err == nil {
			var mib float64
			mib, err = rss(o.pid())
			res.ours = append(res.ours, mib)
		}
		closeAll(conns)
		b.stopAll()
		if err != nil {
			return res, err
		}
	}
	return res, nil
}

// hugeMessage sends and fetches 100 MiB and watches the server's memory.
func hugeMessage(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "MiB", less: true}
	for range b.runs {
		o, err := b.setUp(ctx)
		if err != nil {
			return res, err
		}
		if err := o.allowHuge(); err != nil {
			return res, err
		}
		if err := o.start(ctx); err != nil {
			return res, err
		}
		if err := sendHuge(o.smtp, 1<<20); err != nil { // one smaller letter first: pools and code are warm
			return res, err
		}
		before, err := rss(o.pid())
		if err != nil {
			return res, err
		}
		peak := watchRSS(o.pid())
		if err := sendHuge(o.smtp, 100<<20); err != nil {
			return res, err
		}
		if err := fetchAll(o.pop3); err != nil {
			return res, err
		}
		res.ours = append(res.ours, max(0, peak()-before))
		b.stopAll()
	}
	return res, nil
}

func (o *ours) allowHuge() error {
	text, err := os.ReadFile(o.conf)
	if err != nil {
		return err
	}
	s := string(text)
	if i := strings.Index(s, "[smtp]"); i >= 0 {
		s = s[:i] + "[smtp]\nmax_size = \"200MiB\"" + s[i+len("[smtp]"):]
	} else {
		s += "\n[smtp]\nmax_size = \"200MiB\"\n"
	}
	return os.WriteFile(o.conf, []byte(s), 0o644)
}

// watchRSS samples a process's memory until the returned function is called,
// which gives the greatest value in MiB.
func watchRSS(pid int) func() float64 {
	stop, out := make(chan struct{}), make(chan float64)
	go func() {
		most := 0.0
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			if v, err := rss(pid); err == nil {
				most = max(most, v)
			}
			select {
			case <-stop:
				out <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() float64 { close(stop); return <-out }
}

func sendHuge(addr string, octets int) error {
	c, err := dialSMTP(addr)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	_, err = c.send(user(0)+"@"+domain, func(w io.Writer) error {
		line := []byte(strings.Repeat("Y", 76) + "\r\n")
		block := []byte(strings.Repeat(string(line), 800))
		for n := 0; n < octets; n += len(block) {
			if _, err := w.Write(block); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

func fetchAll(addr string) error {
	c, err := dialPOP3(addr, nil)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	n, err := c.login(user(0) + "@" + domain)
	if err != nil {
		return err
	}
	return c.retrieveEach(n)
}

// hugeListing measures what LIST and UIDL of a million messages add.
func hugeListing(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "MiB", less: true}
	o, err := b.hugeStore(ctx)
	if err != nil {
		return res, err
	}
	for range b.runs {
		if err := o.start(ctx); err != nil {
			return res, err
		}
		small := popLoad{sessions: 4, user: "u%03d@" + domain, users: 4, messages: -1, listing: true, addr: o.pop3}
		if _, err := small.run(ctx, 500*time.Millisecond); err != nil {
			return res, err
		}
		before, err := rss(o.pid())
		if err != nil {
			return res, err
		}
		peak := watchRSS(o.pid())
		l := popLoad{sessions: 4, user: "big001@" + domain, users: 1, messages: 1000000, listing: true, addr: o.pop3}
		l.user = "big%03d@" + domain
		if _, err := l.run(ctx, time.Millisecond); err != nil {
			return res, err
		}
		res.ours = append(res.ours, max(0, peak()-before))
		b.stopAll()
	}
	return res, nil
}

// startHuge measures the time from exec to the word ready in the log.
func startHuge(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "s", less: true}
	o, err := b.hugeStore(ctx)
	if err != nil {
		return res, err
	}
	log := filepath.Join(b.dir, filepath.Base(o.dir)+".log")
	for range b.runs {
		if err := os.WriteFile(log, nil, 0o644); err != nil {
			return res, err
		}
		begin := time.Now()
		p, err := b.start(ctx, filepath.Base(o.dir)+".log", b.poczta, "serve", "--config", o.conf)
		if err != nil {
			return res, err
		}
		b.onStop(p.stop)
		err = waitCount(ctx, func() int {
			text, _ := os.ReadFile(log)
			return strings.Count(string(text), "ready")
		}, 1)
		if err != nil {
			return res, err
		}
		res.ours = append(res.ours, time.Since(begin).Seconds())
		b.stopAll()
	}
	res.note = "polled every 20 ms"
	return res, nil
}

// hugeStore makes a store whose big001 holds 1,000,000 small messages; it is made
// once and kept for the rows that need it.
func (b *bench) hugeStore(ctx context.Context) (*ours, error) {
	if b.huge != nil {
		return b.huge, nil
	}
	o, err := b.setUp(ctx)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(o.dir, "huge.mbox")
	if err := writeMbox(file, 1000000, 300); err != nil {
		return nil, err
	}
	begin := time.Now()
	if _, err := o.command(ctx, nil, "mailbox", "import", "big001@"+domain, file); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "imported 1,000,000 messages in %s\n", time.Since(begin).Round(time.Second))
	b.huge = o
	return o, os.Remove(file)
}
