package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one that we started, with the processes it has started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// start runs a command in its own process group with its output in a log file.
func (b *bench) start(ctx context.Context, log string, name string, args ...string) (*process, error) {
	f, err := os.OpenFile(filepath.Join(b.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait()
	}()
	return p, nil
}

// stop asks the process to end and waits; after ten seconds it is killed.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// tree is the process and all its descendants that live.
func tree(root int) []int {
	children := map[int][]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, d := range dirs {
		pid, ppid, _, ok := stat(d)
		if ok {
			children[ppid] = append(children[ppid], pid)
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

const ticks = 100 // USER_HZ of Linux on every platform of ours

// stat reads pid, parent and CPU time (own and of children waited for).
func stat(path string) (pid, ppid int, cpu time.Duration, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, 0, false
	}
	head, rest, _ := strings.Cut(string(text), " (")
	f := strings.Fields(rest[strings.LastIndexByte(rest, ')')+1:])
	if len(f) < 15 {
		return 0, 0, 0, false
	}
	pid, _ = strconv.Atoi(head)
	ppid, _ = strconv.Atoi(f[1])
	sum := 0
	for _, i := range []int{11, 12, 13, 14} {
		n, _ := strconv.Atoi(f[i])
		sum += n
	}
	return pid, ppid, time.Duration(sum) * time.Second / ticks, true
}

// cpuOf sums the CPU time of process trees, children that have ended included.
func cpuOf(roots ...int) time.Duration {
	var sum time.Duration
	for _, root := range roots {
		for _, pid := range tree(root) {
			if _, _, c, ok := stat(fmt.Sprintf("/proc/%d/stat", pid)); ok {
				sum += c
			}
		}
	}
	return sum
}

// busyCores is how many cores other work keeps busy at this moment: ratios taken
// beside it say little.
func busyCores() float64 {
	const look = time.Second
	before := busyTime()
	<-time.After(look)
	return float64(busyTime()-before) / float64(look)
}

// busyTime is the time that all processors together were not idle.
func busyTime() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	sum := 0
	for i, f := range strings.Fields(line) {
		if n, err := strconv.Atoi(f); err == nil && i != 4 && i != 5 && i < 9 { // not idle, not waiting for a disk
			sum += n
		}
	}
	return time.Duration(sum) * time.Second / ticks
}

// rss is a process's resident memory in MiB.
func rss(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(v)[0])
			return float64(kib) / 1024, err
		}
	}
	return 0, errors.New("no VmRSS in the process status")
}

// freePort asks the kernel for a loopback port nobody uses.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// waitPort waits until something listens.
func waitPort(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nothing listens on %s: %w", addr, err)
		case <-tick.C:
		}
	}
}
