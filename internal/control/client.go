package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// ErrNoServer is returned by Dial when no server runs.
var ErrNoServer = errors.New("no server is running")

// Dial connects to a running server. The error wraps ErrNoServer when the socket
// is absent or nobody listens on it. The socket must belong to owner, the data
// folder's owner, so that nobody else can pose as the server.
func Dial(ctx context.Context, path string, owner int) (net.Conn, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("connect to %s: %w", path, ErrNoServer)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("look for a running server: %w; run this as the data folder's owner, or as root", err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to server: %w", err)
	}
	if !owned(info, owner) || info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("connect to server: %s is not a socket of the data folder's owner (user %d); remove it", path, owner)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("connect to %s: %w", path, ErrNoServer)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to server: %w", err)
	}
	return conn, nil
}

// Run has the server run args and carries the streams; it closes conn. When ctx
// ends the command is told to stop. The error is for what went wrong between the
// two, not in the command.
func Run(ctx context.Context, conn net.Conn, program string, args []string, s Streams) (code int, err error) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	body, err := json.Marshal(request{Protocol: Version, Program: program, Args: args})
	if err != nil {
		return 1, fmt.Errorf("write request: %w", err)
	}
	if len(body) > maxPayload {
		return 1, fmt.Errorf("the command's arguments have %d octets, the most is %d; give them in several commands", len(body), maxPayload)
	}
	sent := writeFrame(conn, kindRequest, body)
	code, err = follow(conn, s) // a server that refuses says why, though it does not read the request
	if sent != nil && errors.Is(err, io.EOF) {
		err = fmt.Errorf("ask server: %w", sent)
	}
	if ctx.Err() != nil {
		return 1, fmt.Errorf("run command in the server: %w", ctx.Err())
	}
	return code, err
}

func follow(conn net.Conn, s Streams) (int, error) {
	buf := make([]byte, maxPayload)
	in := make([]byte, maxPayload)
	for {
		k, payload, err := readFrame(conn, buf)
		if err != nil {
			return 1, fmt.Errorf("the server ended the connection before the command was done: %w", err)
		}
		switch k {
		case kindOut:
			_, err = s.Out.Write(payload)
		case kindErr:
			_, err = s.Err.Write(payload)
		case kindWant:
			err = feed(conn, s.In, in)
		case kindExit:
			if len(payload) != 1 {
				return 1, errFrame
			}
			return int(payload[0]), nil
		case kindRefused:
			return 1, fmt.Errorf("the server refused: %s", payload)
		default:
			return 1, fmt.Errorf("%w of kind %q", errFrame, byte(k))
		}
		if err != nil {
			return 1, fmt.Errorf("carry streams: %w", err)
		}
	}
}

// feed answers one want frame.
func feed(conn net.Conn, in io.Reader, buf []byte) error {
	n := 0
	if in != nil {
		var err error
		for n == 0 && err == nil {
			n, err = in.Read(buf)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read standard input: %w", err)
		}
	}
	return writeFrame(conn, kindIn, buf[:n])
}
