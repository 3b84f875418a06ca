package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// popClient is the least POP3 client a load needs.
type popClient struct {
	conn net.Conn
	r    *bufio.Reader
}

func dialPOP3(addr string, conf *tls.Config) (*popClient, error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return nil, err
	}
	if conf != nil {
		conn = tls.Client(conn, conf)
	}
	c := &popClient{conn, bufio.NewReaderSize(conn, 64<<10)}
	_, err = c.status()
	return c, err
}

// status reads one status line.
func (c *popClient) status() (string, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	if !bytes.HasPrefix(line, []byte("+OK")) {
		return "", errors.New("server said " + strings.TrimSpace(string(line)))
	}
	return string(line), nil
}

func (c *popClient) command(format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(c.conn, format+"\r\n", args...); err != nil {
		return "", err
	}
	return c.status()
}

// lines reads a multi-line reply's body and returns how many lines it had.
func (c *popClient) lines() (int, error) {
	for n, begin := 0, true; ; {
		line, err := c.r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			begin = false
			continue
		}
		if err != nil {
			return n, err
		}
		if begin && len(line) == 3 && line[0] == '.' {
			return n, nil
		}
		begin = true
		n++
	}
}

// text reads past the end of a message. It looks for the end in all that has
// come instead of line by line, so that the load costs less than the server.
func (c *popClient) text() error {
	end := []byte("\r\n.\r\n")
	for {
		if _, err := c.r.Peek(len(end)); err != nil {
			return err
		}
		b, _ := c.r.Peek(c.r.Buffered())
		if i := bytes.Index(b, end); i >= 0 {
			_, err := c.r.Discard(i + len(end))
			return err
		}
		keep := len(end) - 1 // the end may have come in part
		if _, err := c.r.Discard(len(b) - keep); err != nil {
			return err
		}
	}
}

// login logs in and returns the number of messages.
func (c *popClient) login(name string) (int, error) {
	if _, err := c.command("USER %s", name); err != nil {
		return 0, err
	}
	if _, err := c.command("PASS %s", password); err != nil {
		return 0, err
	}
	line, err := c.command("STAT")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.Fields(line)[1])
}

// popLoad is a piece of POP3 work: sessions run side by side, each logging in
// again and again until the time is over, once at least.
type popLoad struct {
	sessions int
	user     string // pattern
	users    int
	messages int // what STAT must say; -1 for any
	listing  bool
	retrieve bool
	pipeline bool
	tls      *tls.Config
	addr     string
}

// totals is what a load did.
type totals struct {
	logins   float64 // a second
	messages float64 // retrieved a second
	took     time.Duration
}

func (l popLoad) run(ctx context.Context, lasting time.Duration) (totals, error) {
	if l.retrieve {
		return l.retrieveAll(ctx, lasting)
	}
	var logins atomic.Int64
	errs := make([]error, l.sessions)
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range l.sessions {
		wg.Go(func() {
			name := fmt.Sprintf(l.user, i%l.users+1)
			for first := true; first || time.Since(begin) < lasting && ctx.Err() == nil && errs[i] == nil; first = false {
				errs[i] = l.session(name)
				logins.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	if err := errors.Join(errs...); err != nil {
		return totals{}, err
	}
	return totals{float64(logins.Load()) / took.Seconds(), 0, took}, nil
}

// session is one login with its listings.
func (l popLoad) session(name string) error {
	c, err := dialPOP3(l.addr, l.tls)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	n, err := c.login(name)
	if err != nil {
		return err
	}
	if l.messages >= 0 && n != l.messages {
		return fmt.Errorf("mailbox %s holds %d messages, not %d", name, n, l.messages)
	}
	if l.listing {
		for _, verb := range []string{"UIDL", "LIST"} {
			if _, err := c.command(verb); err != nil {
				return err
			}
			if k, err := c.lines(); err != nil || k != n {
				return fmt.Errorf("%s listed %d of %d messages: %w", verb, k, n, err)
			}
		}
	}
	_, err = c.command("QUIT")
	return err
}

// retrieveEach retrieves messages 1 to n one by one.
func (c *popClient) retrieveEach(n int) error {
	for i := range n {
		if _, err := c.command("RETR %d", i+1); err != nil {
			return err
		}
		if err := c.text(); err != nil {
			return err
		}
	}
	return nil
}
