package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// smtpClient is the least SMTP client that can time the reply to DATA.
type smtpClient struct {
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
}

func dialSMTP(addr string) (*smtpClient, error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return nil, err
	}
	c := &smtpClient{conn, bufio.NewReader(conn), bufio.NewWriterSize(conn, 64<<10)}
	if err := c.reply("2"); err != nil {
		return nil, err
	}
	return c, c.command("2", "EHLO client.test")
}

func (c *smtpClient) reply(class string) error {
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, class) {
			return errors.New("server said " + strings.TrimSpace(line))
		}
		return nil
	}
}

func (c *smtpClient) command(class, line string) error {
	if _, err := c.w.WriteString(line + "\r\n"); err != nil {
		return err
	}
	if err := c.w.Flush(); err != nil {
		return err
	}
	return c.reply(class)
}

// send sends one message and returns how long the reply to its final dot took.
func (c *smtpClient) send(to string, text func(io.Writer) error) (time.Duration, error) {
	for _, s := range []struct{ class, line string }{{"2", "MAIL FROM:<load@client.test>"}, {"2", "RCPT TO:<" + to + ">"}, {"3", "DATA"}} {
		if err := c.command(s.class, s.line); err != nil {
			return 0, err
		}
	}
	if _, err := c.w.WriteString("From: <load@client.test>\r\nTo: <" + to + ">\r\nSubject: load\r\n\r\n"); err != nil {
		return 0, err
	}
	if err := text(c.w); err != nil {
		return 0, err
	}
	if _, err := c.w.WriteString(".\r\n"); err != nil {
		return 0, err
	}
	if err := c.w.Flush(); err != nil {
		return 0, err
	}
	begin := time.Now()
	err := c.reply("2")
	return time.Since(begin), err
}

// messagesPerConnection keeps a client below what a server takes in one session.
const messagesPerConnection = 100

// latencies sends 4 KiB messages over ten connections at a moderate pace until
// stop is closed and returns the p99 of the reply to DATA in milliseconds.
func latencies(addr string, stop <-chan struct{}) (float64, int, error) {
	const clients = 10
	all, errs := make([][]time.Duration, clients), make([]error, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for done := false; !done && errs[i] == nil; {
				var some []time.Duration
				some, done, errs[i] = paced(addr, user(i)+"@"+domain, stop)
				all[i] = append(all[i], some...)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, 0, err
	}
	sorted := slices.Sorted(slices.Values(slices.Concat(all...)))
	if len(sorted) < 100 {
		return 0, 0, fmt.Errorf("only %d messages sent: too few for a p99", len(sorted))
	}
	return float64(sorted[len(sorted)*99/100].Microseconds()) / 1000, len(sorted), nil
}

// paced sends over one connection, a message every ten milliseconds at most; done
// says that stop is closed.
func paced(addr, to string, stop <-chan struct{}) (took []time.Duration, done bool, err error) {
	c, err := dialSMTP(addr)
	if err != nil {
		return nil, false, err
	}
	defer c.conn.Close()
	text := []byte(letter(1, 4096))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range messagesPerConnection {
		select {
		case <-stop:
			return took, true, nil
		case <-tick.C:
		}
		d, err := c.send(to, func(w io.Writer) error {
			_, err := io.Copy(w, bytes.NewReader(text))
			return err
		})
		if err != nil {
			return took, false, err
		}
		took = append(took, d)
	}
	return took, false, nil
}

// quietLatency is the p99 with nothing else going on.
func (b *bench) quietLatency(o *ours) (float64, error) {
	stop := make(chan struct{})
	time.AfterFunc(b.seconds, func() { close(stop) })
	p99, _, err := latencies(o.smtp, stop)
	return p99, err
}

// latencyDuring is the p99 while work runs.
func latencyDuring(o *ours, work func() error) (float64, error) {
	stop := make(chan struct{})
	var workErr error
	go func() {
		defer close(stop)
		workErr = work()
	}()
	p99, _, err := latencies(o.smtp, stop)
	return p99, errors.Join(err, workErr)
}

func latencyWhilePurging(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "ms", peerOf: "quiet", less: true}
	o, err := b.hugeStore(ctx)
	if err != nil {
		return res, err
	}
	if err := o.start(ctx); err != nil {
		return res, err
	}
	quiet, err := b.quietLatency(o)
	if err != nil {
		return res, err
	}
	b.huge = nil // it is emptied here
	if err := deleteAll(o.pop3, "big001@"+domain); err != nil {
		return res, fmt.Errorf("delete a million messages by POP3: %w", err)
	}
	busy, err := latencyDuring(o, func() error {
		_, err := o.command(ctx, nil, "mailbox", "purge", "big001@"+domain, "--yes")
		return err
	})
	res.ours, res.peer = []float64{busy}, []float64{quiet}
	res.note = "one run"
	return res, err
}

// deleteAll marks every message and quits.
func deleteAll(addr, name string) error {
	c, err := dialPOP3(addr, nil)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	n, err := c.login(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(c.conn, 64<<10)
	go func() {
		for i := range n {
			fmt.Fprintf(w, "DELE %d\r\n", i+1)
		}
		_ = w.Flush()
	}()
	for range n {
		if _, err := c.status(); err != nil {
			return err
		}
	}
	_, err = c.command("QUIT")
	return err
}

func latencyWhileImporting(ctx context.Context, b *bench) (result, error) {
	res := result{unit: "ms", peerOf: "quiet", less: true}
	o, err := b.startOurs(ctx, "")
	if err != nil {
		return res, err
	}
	file := filepath.Join(o.dir, "import.mbox")
	if err := writeMbox(file, 100000, 4096); err != nil {
		return res, err
	}
	for i := range b.runs {
		quiet, err := b.quietLatency(o)
		if err != nil {
			return res, err
		}
		busy, err := latencyDuring(o, func() error {
			_, err := o.command(ctx, nil, "mailbox", "import", fmt.Sprintf("r%03d@%s", i+1, domain), file)
			return err
		})
		if err != nil {
			return res, err
		}
		res.ours, res.peer = append(res.ours, busy), append(res.peer, quiet)
	}
	return res, nil
}
