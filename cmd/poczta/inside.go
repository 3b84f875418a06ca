package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/control"
	"poczta.example/poczta/internal/daemon"
)

// Root may hand in and take out other people's files, but the rooms are opened as
// the data folder's owner, which can't be undone within a process. So while no
// server runs, a process of its own has the rooms, and the command line talks to
// it as to a server, over a pair of sockets.

// transfer is a desk command that reads or writes people's files while it works.
type transfer interface{ transfers() }

// exitBusy is how a process with the rooms says that another one has them.
const exitBusy = 75

// insideCmd is that process. Its socket is file 3.
type insideCmd struct{}

// Run implements local.
func (*insideCmd) Run(ctx context.Context, _ *process, c *cli) error {
	conf, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	f := os.NewFile(3, "socket")
	conn, err := net.FileConn(f)
	if err != nil {
		return fmt.Errorf("%w: this command is started by others only: %w", admin.ErrUsage, err)
	}
	_ = f.Close()
	s, err := control.New(control.Config{Version: version, Owner: -1, Handler: func(ctx context.Context, args []string, s control.Streams) int {
		_, cmd, err := parse(args, s.Out, s.Err)
		w, ok := cmd.(desk)
		if err == nil && !ok {
			err = fmt.Errorf("%w: this command does not run here", admin.ErrUsage)
		}
		if err == nil {
			err = runHere(ctx, c.Config, conf, w, s)
		}
		if errors.Is(err, daemon.ErrBusy) {
			return exitBusy
		}
		return report(s.Err, err)
	}})
	if err != nil {
		return err
	}
	s.ServeConn(ctx, conn)
	return nil
}

// needsInside reports whether the rooms must be opened by another process than
// the one that has the files.
func needsInside(conf *config.Config, cmd desk) bool {
	if _, ok := cmd.(transfer); !ok || os.Geteuid() != 0 {
		return false
	}
	uid, _, exists, err := daemon.Owner(conf.Data)
	return err == nil && exists && uid != 0
}

// runInside runs the command line in a process of its own that is the data
// folder's owner. The error is daemon.ErrBusy while another process has the folder.
func runInside(ctx context.Context, p *process, c *cli, s control.Streams) error {
	ours, theirs, err := socketPair()
	if err != nil {
		return fmt.Errorf("make sockets: %w", err)
	}
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		_ = theirs.Close()
		return fmt.Errorf("make sockets: %w", err)
	}
	self := "/proc/self/exe" // also when an upgrade has replaced the file
	if runtime.GOOS != "linux" {
		if self, err = os.Executable(); err != nil {
			return errors.Join(fmt.Errorf("find this program: %w", err), conn.Close(), theirs.Close())
		}
	}
	child := exec.Command(self, "inside", "--config", c.Config)
	child.Args[0] = os.Args[0]
	child.ExtraFiles, child.Stderr = []*os.File{theirs}, p.stderr
	child.SysProcAttr = ownGroup() // Ctrl-C is for the command line, which ends it in order
	err = child.Start()
	_ = theirs.Close()
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("start process for the store: %w", err)
	}
	code, err := control.Run(ctx, conn, version, p.args, s)
	_ = child.Wait() // it ends with its connection; what it had to say is said
	switch {
	case err != nil:
		return err
	case code == exitBusy:
		return daemon.ErrBusy
	case code != exitDone:
		return exitCode(code)
	}
	return nil
}
