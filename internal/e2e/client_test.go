package e2e_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// client is a raw SMTP or POP3 client for tests that need the very octets.
type client struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second*patience)
	if err != nil {
		t.Fatal(err)
	}
	return clientOn(t, conn)
}

// clientOn talks on a connection, for some minutes at most.
func clientOn(t *testing.T, conn net.Conn) *client {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute * patience)); err != nil {
		t.Fatal(err)
	}
	return &client{t, conn, bufio.NewReader(conn)}
}

// reply reads one reply, all its lines.
func (c *client) reply() (string, error) {
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return all.String(), err
		}
		all.WriteString(line)
		if len(line) < 4 || line[3] != '-' || line[0] == '+' || line[0] == '-' {
			return all.String(), nil
		}
	}
}

// expect wants the next reply to begin with prefix.
func (c *client) expect(prefix string) string {
	c.t.Helper()
	r, err := c.reply()
	if err != nil || !strings.HasPrefix(r, prefix) {
		c.t.Fatalf("got reply %q (%v), want %s", r, err, prefix)
	}
	return r
}

func (c *client) say(line, prefix string) string {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.conn, "%s\r\n", line); err != nil {
		c.t.Fatal(err)
	}
	return c.expect(prefix)
}

// message sends one message; text has CRLF line ends and is dot-stuffed here.
func (c *client) message(from, to, text string) {
	c.t.Helper()
	c.say("MAIL FROM:<"+from+">", "250")
	c.say("RCPT TO:<"+to+">", "250")
	c.say("DATA", "354")
	stuffed := strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n..")[2:]
	c.say(stuffed+".", "250")
}

// lines reads the body of a multi-line POP3 reply, un-stuffed.
func (c *client) lines() []string {
	c.t.Helper()
	var all []string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		line = strings.TrimSuffix(line, "\r\n")
		if line == "." {
			return all
		}
		all = append(all, strings.TrimPrefix(line, "."))
	}
}

// plain is the response of SASL PLAIN.
func plain(login, secret string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + login + "\x00" + secret))
}
