package poptest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/smtp"
	"strings"
	"time"
)

// Message is a message whose octets the checks know.
type Message struct {
	Name   string // what is special about it
	ID     string // its Message-ID, found again in the mailbox
	Octets []byte // CRLF lines, not byte-stuffed
}

// body returns what must come back unchanged: all after the header section.
func (m Message) body() []byte {
	if _, body, ok := bytes.Cut(m.Octets, []byte("\r\n\r\n")); ok {
		return body
	}
	return nil
}

// Messages makes the messages of one run, from and to the given addresses.
func Messages(from, to string) []Message {
	run := strings.ToLower(rand.Text()[:10])
	bodies := []struct{ name, body string }{
		{"dots", ".\r\n..\r\n.a\r\n. \r\na.\r\n...\r\n.\r\nend\r\n"},
		{"a dot at the end", "text\r\n.\r\n"},
		{"empty body", ""},
		{"blank lines", "\r\n\r\n\r\n"},
		{"one line", "x\r\n"},
		{"long lines", strings.Repeat(strings.Repeat("y", 900)+"\r\n", 30)},
		{"large", strings.Repeat(strings.Repeat("z", 70)+"\r\n.\r\n", 8000)},
	}
	var all []Message
	for i, b := range bodies {
		id := fmt.Sprintf("<%s.%d@poptest.invalid>", run, i+1)
		head := fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: poptest: %s\r\nDate: %s\r\nMessage-ID: %s\r\n\r\n", from, to, b.name, time.Now().Format(time.RFC1123Z), id)
		all = append(all, Message{Name: b.name, ID: id, Octets: []byte(head + b.body)})
	}
	return all
}

// Send sends messages by SMTP, without authentication, to one recipient.
func Send(ctx context.Context, addr, from, to string, messages []Message) error {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("connect to SMTP server: %w", err)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("read address: %w", err)
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("greet SMTP server: %w", err)
	}
	defer c.Close()
	for _, m := range messages {
		if err := sendOne(c, from, to, m); err != nil {
			return fmt.Errorf("send %q: %w", m.Name, err)
		}
	}
	return c.Quit()
}

func sendOne(c *smtp.Client, from, to string, m Message) error {
	if err := c.Mail(from); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(m.Octets); err != nil {
		return err
	}
	return w.Close()
}

// AwaitMessages logs in until the mailbox holds at least n messages.
func (s *Suite) AwaitMessages(ctx context.Context, n int) error {
	var have int64
	for tries := 0; ; tries++ {
		err := s.with(ctx, (*Suite).login, func(c *client) (err error) {
			if have, _, err = c.stat(); err != nil {
				return err
			}
			return c.ok("QUIT")
		})
		s.closeAll()
		if err != nil {
			return fmt.Errorf("count messages: %w", err)
		}
		if have >= int64(n) {
			return nil
		}
		if tries >= 30 || !wait(ctx, time.Second) {
			return fmt.Errorf("the mailbox holds %d messages, %d are needed: fill it, or use -send", have, n)
		}
	}
}

// wait waits; it reports false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
