package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// outgoing is mail for other hosts: so many messages over so many sessions.
type outgoing struct {
	messages, sessions, octets int
	to                         func(i int) []string // recipients of message i
}

// one is a recipient at a domain for each message.
func one(domain string) func(int) []string {
	return func(i int) []string { return []string{fmt.Sprintf("u%06d@%s", i, domain)} }
}

// send sends the messages to a server that takes them for relay.
func (g outgoing) send(ctx context.Context, addr string) error {
	var next atomic.Int64
	errs := make([]error, g.sessions)
	text := []byte(letter(1, g.octets))
	var wg sync.WaitGroup
	for k := range g.sessions {
		wg.Go(func() {
			for errs[k] == nil && ctx.Err() == nil && int(next.Load()) < g.messages {
				errs[k] = g.session(addr, &next, text)
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// session sends messages over one connection.
func (g outgoing) session(addr string, next *atomic.Int64, text []byte) error {
	c, err := dialSMTP(addr)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	for range messagesPerConnection {
		i := int(next.Add(1)) - 1
		if i >= g.messages {
			return nil
		}
		if err := c.relay(user(0)+"@"+domain, g.to(i), text); err != nil {
			return err
		}
	}
	return c.command("2", "QUIT")
}

// relay sends one message with its commands in one flight.
func (c *smtpClient) relay(from string, to []string, text []byte) error {
	fmt.Fprintf(c.w, "MAIL FROM:<%s>\r\n", from)
	for _, r := range to {
		fmt.Fprintf(c.w, "RCPT TO:<%s>\r\n", r)
	}
	if _, err := io.WriteString(c.w, "DATA\r\n"); err != nil {
		return err
	}
	if err := c.w.Flush(); err != nil {
		return err
	}
	for range len(to) + 1 {
		if err := c.reply("2"); err != nil {
			return err
		}
	}
	if err := c.reply("3"); err != nil {
		return err
	}
	fmt.Fprintf(c.w, "From: <%s>\r\nTo: <%s>\r\nSubject: load\r\n\r\n", from, to[0])
	if _, err := c.w.Write(text); err != nil {
		return err
	}
	return c.command("2", ".")
}
