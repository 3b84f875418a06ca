package rspamd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/envelope"
)

// Message is what Rspamd is told beside the message itself.
type Message struct {
	Origin   envelope.Origin
	Envelope envelope.Envelope
	QueueID  string
	Size     int64 // octets that the reader has
}

// fields are the header fields of a request (Rspamd: "protocol").
func (c *Client) fields(m Message) http.Header {
	h := http.Header{}
	set := func(name, value string) {
		if value = headerValue(value); value != "" {
			h.Add(name, value)
		}
	}
	set("User-Agent", "poczta")
	set("Password", c.cfg.Password)
	set("MTA-Name", c.cfg.Hostname)
	set("Queue-Id", m.QueueID)
	if m.Origin.Peer.IsValid() {
		set("IP", m.Origin.Peer.Addr().Unmap().WithZone("").String())
	}
	set("Helo", m.Origin.Helo)
	set("Hostname", m.Origin.PeerName)
	set("User", m.Origin.Login)
	set("From", strings.Trim(m.Envelope.ReversePath.String(), "<>"))
	for _, r := range m.Envelope.Recipients {
		set("Rcpt", strings.Trim(r.ForwardPath.String(), "<>"))
	}
	if version, cipher, ok := strings.Cut(m.Origin.TLS, " "); ok {
		set("TLS-Version", version)
		set("TLS-Cipher", cipher)
	}
	if c.cfg.AllFilters {
		set("Pass", "all")
	}
	return h
}

// headerValue takes out what can't stand in an HTTP header field.
func headerValue(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// Check asks about a message, which r has from its first octet on: header section, empty line,
// body. It takes no longer than Config.Timeout and ctx. When r is an io.Seeker, a kept
// connection that turns out to be closed is made good by another one. The error wraps one of
// those above, the cause of ctx, or an error of r.
func (c *Client) Check(ctx context.Context, m Message, r io.Reader) (Result, error) {
	began := time.Now()
	result, err := c.ask(ctx, m, r)
	outcome := string(result.Action)
	if err != nil {
		outcome = outcomeOf(err)
	}
	c.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "rspamd asked", slog.String("queue_id", m.QueueID), slog.String("outcome", outcome))
	if c.cfg.Hooks.Asked != nil {
		c.cfg.Hooks.Asked(outcome, time.Since(began))
	}
	return result, err
}

func (c *Client) ask(ctx context.Context, m Message, r io.Reader) (Result, error) {
	status, text, err := c.post(ctx, c.check, "/checkv2", c.fields(m), r, m.Size)
	if err != nil {
		return Result{}, err
	}
	if status != http.StatusOK {
		return Result{}, refused(status, text)
	}
	result, err := parseResult(text)
	result.obey = c.cfg.Obey
	return result, err
}

// refused is the error of an answer with another status than 200.
func refused(status int, text []byte) error {
	var said struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(text, &said)
	if said.Error == "" {
		said.Error = http.StatusText(status)
	}
	hint := ""
	if status == http.StatusForbidden || status == http.StatusUnauthorized {
		hint = "; is the password right?"
	}
	return fmt.Errorf("%w: it refuses with %d %s%s", ErrReply, status, clip(said.Error, 100), hint)
}

// Learn teaches Rspamd a message as spam or as ham; Config.Controller must be set. A message that
// it has learned already is no error. Errors are those of Check.
func (c *Client) Learn(ctx context.Context, r io.Reader, size int64, spam bool) error {
	began := time.Now()
	err := c.learn(ctx, r, size, spam)
	if c.cfg.Hooks.Learned != nil {
		outcome := "learned"
		if err != nil {
			outcome = outcomeOf(err)
		}
		c.cfg.Hooks.Learned(outcome, time.Since(began))
	}
	return err
}

func (c *Client) learn(ctx context.Context, r io.Reader, size int64, spam bool) error {
	if c.controller.transport == nil {
		return fmt.Errorf("%w: no controller is configured that could learn", ErrUnavailable)
	}
	path := "/learnham"
	if spam {
		path = "/learnspam"
	}
	h := http.Header{"User-Agent": {"poczta"}}
	if c.cfg.Password != "" {
		h.Set("Password", headerValue(c.cfg.Password))
	}
	status, text, err := c.post(ctx, c.controller, path, h, r, size)
	switch {
	case err != nil:
		return err
	case status == http.StatusAlreadyReported, status == http.StatusNotFound && bytes.Contains(text, []byte("already learned")): // 208, or 404 as of 3.4
		return nil
	case status < 200 || status > 299:
		return refused(status, text)
	}
	var said struct {
		Success bool   `json:"success"`
		Error   string `json:"error"`
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return fmt.Errorf("%w: %w", ErrReply, err)
	}
	if !said.Success && said.Error != "" {
		return fmt.Errorf("%w: it did not learn: %s", ErrReply, clip(said.Error, 100))
	}
	return nil
}

// formatScore prints points as people read them.
func formatScore(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
