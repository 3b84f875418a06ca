package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/control"
	"poczta.example/poczta/internal/daemon"
)

// How long a command waits for the data folder while another process starts,
// stops, or runs a command.
const (
	busyWait  = 20 * time.Second
	busyPause = 50 * time.Millisecond
)

// asker is a desk command with something to read: a password, a file, messages.
// Input runs on the caller's side and gives what becomes the command's input. An
// error of its Close fails a command that did its work.
type asker interface {
	Input(ctx context.Context, p *process) (io.ReadCloser, error)
}

// printer is a desk command whose output is not for the terminal but for files.
// Output runs on the caller's side; it returns where the command writes to, and
// what is called when the command is done.
type printer interface {
	Output(p *process) (w io.Writer, done func(error) error, err error)
}

// finisher is a desk command that an interrupt does not break off: its input ends
// early instead, and what was read is finished. A second interrupt ends the process.
type finisher interface{ finishes() }

// workContext is the context of a command's work.
func workContext(ctx context.Context, cmd desk) context.Context {
	if _, ok := cmd.(finisher); ok {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// migrator is a desk command that brings PostgreSQL's schema up to date.
type migrator interface{ migrates() }

// runDesk runs a command inside the running server if there is one, otherwise here.
func runDesk(ctx context.Context, p *process, c *cli, cmd desk) error {
	conf, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, p.release)()
	in := io.NopCloser(io.Reader(eof{}))
	if a, ok := cmd.(asker); ok {
		if in, err = a.Input(ctx, p); err != nil {
			return err
		}
	}
	out, done := p.stdout, func(err error) error { return err }
	if w, ok := cmd.(printer); ok {
		if out, done, err = w.Output(p); err != nil {
			return errors.Join(err, in.Close())
		}
	}
	err = done(runSomewhere(ctx, p, c, conf, cmd, control.Streams{In: in, Out: out, Err: p.stderr}))
	if closed := in.Close(); err == nil { // what an input found wanting, though the command did its work
		err = closed
	}
	return err
}

func runSomewhere(ctx context.Context, p *process, c *cli, conf *config.Config, cmd desk, s control.Streams) error {
	work := workContext(ctx, cmd)
	here := func() error {
		if needsInside(conf, cmd) {
			return runInside(work, p, c, s)
		}
		return runHere(work, c.Config, conf, cmd, s)
	}
	if _, ok := cmd.(migrator); ok || conf.Store.Engine == "postgresql" && !conf.BodiesInSegments() {
		return here()
	}
	deadline := time.Now().Add(busyWait)
	for {
		err := runInServer(work, p, conf, s)
		if !errors.Is(err, control.ErrNoServer) {
			return err
		}
		err = here()
		if !errors.Is(err, daemon.ErrBusy) || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		select { // a server that starts or stops, or another command
		case <-ctx.Done():
		case <-time.After(busyPause):
		}
	}
}

// runInServer runs the command line in the server; control.ErrNoServer when none runs.
func runInServer(ctx context.Context, p *process, conf *config.Config, s control.Streams) error {
	uid, _, exists, err := daemon.Owner(conf.Data)
	if err != nil {
		return err
	}
	if !exists {
		return control.ErrNoServer
	}
	conn, err := control.Dial(ctx, conf.ControlSocket(), uid)
	if err != nil {
		return err
	}
	code, err := control.Run(ctx, conn, version, p.args, s)
	if err != nil {
		return err
	}
	if code != exitDone {
		return exitCode(code)
	}
	return nil
}

// runHere opens the rooms in this process, as the data folder's owner. file is the configuration's.
func runHere(ctx context.Context, file string, conf *config.Config, cmd desk, s control.Streams) (err error) {
	if err := daemon.BecomeOwner(conf.Data); err != nil {
		return err
	}
	_, migrate := cmd.(migrator)
	if _, _, exists, _ := daemon.Owner(conf.Data); !exists {
		return fmt.Errorf("the data folder %s does not exist; make it with: poczta setup", conf.Data)
	}
	r, err := daemon.OpenRooms(ctx, conf, daemon.RoomOptions{File: file, Migrate: migrate, Beside: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return work(ctx, r, cmd, s)
}

// work runs a command over open rooms. A command whose output could not be
// written has failed.
func work(ctx context.Context, r *daemon.Rooms, cmd desk, s control.Streams) error {
	out := &failing{w: s.Out}
	s.Out = out
	err := cmd.Work(ctx, newDesk(r, s))
	if err == nil && out.err != nil {
		err = fmt.Errorf("write output: %w; what the command had to do is done", out.err)
	}
	return err
}

// failing remembers that something could not be written.
type failing struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (f *failing) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if f.err == nil {
		f.err = err
	}
	return n, err
}

func newDesk(r *daemon.Rooms, s control.Streams) *admin.Desk {
	return &admin.Desk{Rooms: r, In: s.In, Out: s.Out, Err: s.Err, Now: time.Now}
}

// commands runs a command line inside the server, for the control socket.
func commands(ctx context.Context, r *daemon.Rooms, args []string, s control.Streams) int {
	_, cmd, err := parse(args, s.Out, s.Err)
	if err != nil {
		return report(s.Err, err)
	}
	w, ok := cmd.(desk)
	if !ok {
		return report(s.Err, fmt.Errorf("%w: this command does not run inside the server", admin.ErrUsage))
	}
	return report(s.Err, work(ctx, r, w, s))
}

// eof is an empty input.
type eof struct{}

// Read implements io.Reader.
func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// open opens a file of the caller, or the standard input for "-".
func (p *process) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(p.stdin), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open file: %w", err)
	}
	return f, nil
}
