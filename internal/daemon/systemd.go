package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Environment is what a service manager tells a process it starts.
type Environment struct {
	NotifySocket string        // $NOTIFY_SOCKET (sd_notify)
	Watchdog     time.Duration // $WATCHDOG_USEC, 0 for none
	Sockets      []Inherited   // $LISTEN_FDS, $LISTEN_FDNAMES
}

// Inherited is a listening socket that the service manager opened.
type Inherited struct {
	Name string // FileDescriptorName= of the socket unit: a key of [listen], as in "smtp"
	FD   int
}

// firstInherited is SD_LISTEN_FDS_START.
const firstInherited = 3

// ReadEnvironment reads the process's environment, and takes the variables out of it so
// that no child believes they are meant for it.
func ReadEnvironment() Environment {
	e := Environment{NotifySocket: os.Getenv("NOTIFY_SOCKET")}
	pid := strconv.Itoa(os.Getpid())
	if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
		if p := os.Getenv("WATCHDOG_PID"); p == "" || p == pid {
			e.Watchdog = time.Duration(usec) * time.Microsecond
		}
	}
	if n, err := strconv.Atoi(os.Getenv("LISTEN_FDS")); err == nil && os.Getenv("LISTEN_PID") == pid && n > 0 && n < 1000 {
		names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
		for i := range n {
			s := Inherited{FD: firstInherited + i}
			if i < len(names) {
				s.Name = names[i]
			}
			closeOnExec(s.FD)
			e.Sockets = append(e.Sockets, s)
		}
	}
	for _, v := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(v)
	}
	return e
}

// listener turns an inherited socket into a net.Listener.
func (s Inherited) listener() (net.Listener, error) {
	f := os.NewFile(uintptr(s.FD), s.Name)
	if f == nil {
		return nil, fmt.Errorf("use inherited socket %d: it is not open", s.FD)
	}
	defer f.Close() // FileListener has a copy
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("use inherited socket %d (%s): %w", s.FD, s.Name, err)
	}
	return l, nil
}

// notifier tells the service manager what the server does (sd_notify(3)). With
// an empty address it does nothing.
type notifier struct {
	addr string
	log  *slog.Logger
}

// tell sends lines such as "READY=1". Nothing depends on it, so failures are only logged.
func (n notifier) tell(lines ...string) {
	if n.addr == "" {
		return
	}
	addr := n.addr
	if strings.HasPrefix(addr, "@") {
		addr = "\x00" + addr[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(strings.Join(lines, "\n")))
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		n.log.Warn("notify service manager", "error", err)
	}
}

// reloading begins a reload; READY=1 ends it (Type=notify-reload wants the monotonic time).
func (n notifier) reloading() {
	if ns, ok := monotonic(); ok {
		n.tell("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(ns/1000, 10))
	}
}

// watch says twice in every interval that the server is alive, as long as alive
// returns nil; when it stops, the service manager restarts the server.
func (n notifier) watch(ctx context.Context, interval time.Duration, alive func(context.Context) error) {
	if n.addr == "" || interval <= 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := alive(ctx); err != nil {
				n.log.Error("watchdog", "error", err)
				continue
			}
			n.tell("WATCHDOG=1")
		}
	}
}
