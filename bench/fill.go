package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// boxes says how the mailboxes of a pattern are filled: how many users, how many
// messages each, of how many octets.
var boxes = map[string]struct{ users, messages, octets int }{
	"big%03d": {4, 10000, 4096},
	"r%03d":   {20, 100, 4096},
	"m%03d":   {4, 20, 1 << 20},
}

// letter makes a message of about octets octets with CRLF line ends.
func letter(n, octets int) string {
	head := fmt.Sprintf("Return-Path: <load@client.test>\r\nReceived: from client.test (client.test [127.0.0.1])\r\n\tby mx.bench.test with ESMTP id %08d;\r\n"+
		"\tMon, 23 Nov 2026 01:00:00 +0000\r\nFrom: <load@client.test>\r\nTo: <user@bench.test>\r\nDate: Mon, 23 Nov 2026 01:00:00 +0000\r\n"+
		"Message-ID: <%08d@client.test>\r\nSubject: load %d\r\n\r\n", n, n, n)
	line := strings.Repeat("X", 76) + "\r\n"
	return head + strings.Repeat(line, max(0, octets-len(head))/len(line)+1)
}

// fill imports the pattern's messages into our mailboxes.
func (o *ours) fill(ctx context.Context, pattern string) error {
	box, ok := boxes[pattern]
	if !ok {
		return nil
	}
	file := filepath.Join(o.dir, "fill.mbox")
	if err := writeMbox(file, box.messages, box.octets); err != nil {
		return err
	}
	for i := range box.users {
		if _, err := o.command(ctx, nil, "mailbox", "import", fmt.Sprintf(pattern, i+1)+"@"+domain, file); err != nil {
			return err
		}
	}
	return os.Remove(file)
}

func writeMbox(file string, messages, octets int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for n := range messages {
		fmt.Fprintf(w, "From load@client.test Mon Nov 23 01:00:00 2026\n%s\n", strings.ReplaceAll(letter(n, octets), "\r\n", "\n"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// fill writes the pattern's messages as maildirs, with the sizes in the names as
// Dovecot's own deliveries have them.
func (p *pair) fill(ctx context.Context, pattern string) error {
	box, ok := boxes[pattern]
	if !ok {
		return nil
	}
	for i := range box.users {
		dir := filepath.Join(p.mail, fmt.Sprintf(pattern, i+1))
		for _, sub := range []string{"new", "cur", "tmp"} {
			if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
				return err
			}
		}
		for n := range box.messages {
			crlf := letter(n, box.octets)
			lf := strings.ReplaceAll(crlf, "\r\n", "\n")
			name := fmt.Sprintf("17638%05d.M%06dP1.bench,S=%d,W=%d", n, n, len(lf), len(crlf))
			if err := os.WriteFile(filepath.Join(dir, "new", name), []byte(lf), 0o644); err != nil {
				return err
			}
		}
	}
	return run1(ctx, "chown", "-R", "mail:mail", p.mail)
}

// waitOnce reports whether something listens on addr.
func waitOnce(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
