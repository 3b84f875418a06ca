package clamd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"
)

// The buffer of a scan: the command, a chunk with its length before it, and the empty chunk that ends.
const (
	command      = "zINSTREAM\x00"
	bufferOctets = len(command) + 4 + ChunkOctets + 4
)

// Scan sends what r gives and waits for clamd's verdict. A nil error means that clamd has seen
// every octet. The error is an *Error, unless ctx ended: then it wraps the cause of that. r is
// not closed; its Read must not block for long, since no time limit can reach into it.
func (c *Client) Scan(ctx context.Context, r io.Reader) (Result, error) {
	start := time.Now()
	var res Result
	err := c.admit(ctx)
	if err == nil {
		err = c.exchange(ctx, c.rest.wait(), func(conn net.Conn) error {
			var err error
			res, err = c.stream(conn, r)
			return err
		})
		c.doubt(ctx, err)
	}
	took := time.Since(start)
	hooks := c.config.Hooks
	if err != nil {
		if hooks.Failed != nil {
			hooks.Failed(err, took)
		}
		return Result{}, err
	}
	if res.Infected && hooks.Infected != nil {
		hooks.Infected(res)
	}
	if hooks.Scanned != nil {
		hooks.Scanned(res, took)
	}
	return res, nil
}

// Ping asks whether clamd is there and ready. The error is as Scan's.
func (c *Client) Ping(ctx context.Context) error {
	return c.exchange(ctx, nil, c.ping)
}

// ping asks for PONG.
func (c *Client) ping(conn net.Conn) error {
	s, err := c.ask(conn, "zPING\x00")
	if err == nil && s != "PONG" {
		err = &Error{Kind: ErrReply, Reply: printable(s, 200)}
	}
	return err
}

// Version asks clamd for its version and that of its signatures. The error is as Scan's.
func (c *Client) Version(ctx context.Context) (Version, error) {
	var v Version
	err := c.exchange(ctx, nil, func(conn net.Conn) error {
		s, err := c.ask(conn, "zVERSION\x00")
		if err != nil {
			return err
		}
		if v, err = parseVersion(s); err != nil {
			return &Error{Kind: ErrReply, Reply: printable(s, 200), Err: err}
		}
		return nil
	})
	return v, err
}

// exchange runs work on a connection, in its turn and within the time limits, and says in
// err what happened. It does not wait for its turn any longer once rests is closed.
func (c *Client) exchange(parent context.Context, rests <-chan struct{}, work func(net.Conn) error) error {
	ctx, cancel := context.WithTimeout(parent, c.config.Timeout)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
	case <-rests:
		return c.resting()
	case <-ctx.Done():
		return c.failure(parent, ctx, &Error{Kind: ErrBusy})
	}
	c.count(1)
	defer func() { c.count(-1); <-c.slots }()
	return c.connected(parent, ctx, work)
}

// connected runs work on a new connection while ctx lasts, which is parent with a time limit.
func (c *Client) connected(parent, ctx context.Context, work func(net.Conn) error) error {
	dialCtx, cancelDial := context.WithTimeout(ctx, c.config.ConnectTimeout)
	conn, err := c.config.Dial(dialCtx, c.config.Network, c.config.Address)
	cancelDial()
	if err != nil {
		return c.failure(parent, ctx, &Error{Kind: ErrConnect, Err: err})
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { expire(conn) })
	defer stop()
	if err := work(conn); err != nil {
		return c.failure(parent, ctx, err)
	}
	return nil
}

// expire makes every read and write of conn fail at once.
func expire(conn net.Conn) { _ = conn.SetDeadline(time.Unix(1, 0)) }

func (c *Client) count(n int64) {
	if now := c.running.Add(n); c.config.Hooks.Running != nil {
		c.config.Hooks.Running(int(now))
	}
}

// failure completes an error: whose time ended, and at which address.
func (c *Client) failure(parent, ctx context.Context, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Kind: ErrCut, Err: err}
	}
	e.Address = c.config.Address
	connectionBroke := e.Kind == ErrCut || e.Kind == ErrConnect
	switch {
	case parent.Err() != nil && (connectionBroke || e.Kind == ErrBusy):
		e.Kind, e.Err = ErrTimeout, context.Cause(parent)
	case ctx.Err() != nil && connectionBroke:
		e.Kind, e.Err = ErrTimeout, nil
	}
	return e
}

type answer struct {
	text string
	err  error
}

// stream sends r and reads the reply, which may come early: then sending ends.
func (c *Client) stream(conn net.Conn, r io.Reader) (Result, error) {
	got := make(chan answer, 1)
	go func() {
		text, err := readReply(conn)
		_ = conn.SetWriteDeadline(time.Unix(1, 0))
		got <- answer{text, err}
	}()
	octets, err := c.send(conn, r)
	if e, ours := errors.AsType[*Error](err); ours {
		expire(conn)
		<-got
		return Result{}, e
	}
	a := <-got
	if a.err != nil {
		return Result{}, replyError(a)
	}
	res, kind := parseReply(a.text)
	if kind == nil && err != nil && !res.Infected {
		kind = ErrReply // OK before the message was whole
	}
	if kind != nil {
		return Result{}, &Error{Kind: kind, Reply: printable(a.text, 200)}
	}
	res.Octets = octets
	return res, nil
}

// replyError is the failure of a reply that did not come whole.
func replyError(a answer) error {
	if e, ours := errors.AsType[*Error](a.err); ours {
		return e
	}
	return &Error{Kind: ErrCut, Reply: printable(a.text, 200), Err: a.err}
}

// send writes the command and r in chunks. An *Error is about r; others are of the connection.
func (c *Client) send(conn net.Conn, r io.Reader) (octets int64, err error) {
	buffer := c.buffers.Get().(*[]byte)
	defer c.buffers.Put(buffer)
	b := append((*buffer)[:0], command...)
	for {
		head := len(b)
		b = b[:head+4+ChunkOctets]
		n, err := io.ReadFull(r, b[head+4:])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return octets, &Error{Kind: ErrSource, Err: err}
		}
		octets += int64(n)
		if limit := c.config.MaxOctets; limit > 0 && octets > limit {
			return octets, &Error{Kind: ErrTooLarge}
		}
		binary.BigEndian.PutUint32(b[head:], uint32(n))
		b = b[:head+4+n]
		if err != nil && n > 0 {
			b = append(b, 0, 0, 0, 0) // an empty chunk ends the stream; n == 0 was one
		}
		if _, werr := conn.Write(b); werr != nil {
			return octets, werr
		}
		if err != nil {
			return octets, nil
		}
		b = (*buffer)[:0]
	}
}

// ask sends a command and reads its reply.
func (c *Client) ask(conn net.Conn, command string) (string, error) {
	if _, err := io.WriteString(conn, command); err != nil {
		return "", err
	}
	s, err := readReply(conn)
	if err != nil {
		return "", replyError(answer{s, err})
	}
	if bytes.HasSuffix([]byte(s), []byte("ERROR")) {
		return "", &Error{Kind: ErrRefused, Reply: printable(s, 200)}
	}
	return s, nil
}

// readReply reads up to the NUL that ends a reply. On error it returns what came.
func readReply(r io.Reader) (string, error) {
	var b [MaxReplyOctets]byte
	for n := 0; ; {
		m, err := r.Read(b[n:])
		if i := bytes.IndexByte(b[n:n+m], 0); i >= 0 {
			return string(bytes.TrimSpace(b[:n+i])), nil
		}
		if n += m; n == len(b) {
			return string(b[:n]), &Error{Kind: ErrReply, Reply: printable(string(b[:n]), 80)}
		}
		if err != nil {
			return string(b[:n]), err
		}
	}
}
