package lab_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wire is the network between the hosts: a bridge in a namespace of its own.
// Namespaces have no names: they end with the processes that hold them, and those
// end with the test, however it ends; with them ends whatever runs inside. Without a bridge the hosts are addresses of
// loopback.
type wire struct {
	t        *testing.T
	dir      string
	pid      int    // of the process that holds the bridge's namespace; 0: loopback
	net4     string // the addresses' beginning
	net4Mask string
}

// host is one machine of the laboratory.
type host struct {
	t    *testing.T
	w    *wire
	name string // its full name
	addr string // its IPv4 address
	dir  string // its files
	pid  int    // of the process that holds its namespaces; 0: it has none
}

// The hosts' networks, and the machine that every packet for elsewhere goes to and
// that forwards none: as behind a provider who drops what he does not like.
const (
	network4 = "10.77.0."
	network6 = "fd00:77::"
	nowhere  = network4 + "1"
)

// holder is a shell that sets up namespaces and then holds them.
const holder = `set -e
mount --make-rprivate /
hostname "$1"
for f in "$2"/etc/*; do mount --bind "$f" "/etc/${f##*/}"; done
ip link set lo up
echo held
exec sleep infinity`

// newWire makes the network. The error says that namespaces are not allowed here.
func newWire(t *testing.T, dir string) (*wire, error) {
	t.Helper()
	w := &wire{t: t, dir: dir, net4: network4, net4Mask: network4 + "0/24"}
	var err error
	if w.pid, err = hold(t, "wire", keep(t, dir, "wire/etc/hosts", "127.0.0.1 localhost\n")); err != nil {
		return nil, err
	}
	for _, c := range []string{"ip link add br0 type bridge", "ip addr add " + nowhere + "/24 dev br0", "ip addr add " + network6 + "1/64 dev br0 nodad", "ip link set br0 up"} {
		if err := w.inside(c); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// hold starts a process with namespaces of its own; etc is one of the files that it
// sees in /etc.
func hold(t *testing.T, name, etc string) (int, error) {
	t.Helper()
	cmd := exec.Command("unshare", "-n", "-m", "-u", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c", holder, "sh", name, filepath.Dir(filepath.Dir(etc)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if said, err := io.ReadAll(io.LimitReader(out, 5)); err != nil || string(said) != "held\n" {
		_ = cmd.Wait()
		return 0, fmt.Errorf("namespaces for %s: %s", name, strings.TrimSpace(stderr.String()))
	}
	pid := childOf(cmd.Process.Pid)
	if pid == 0 {
		return 0, fmt.Errorf("namespaces for %s: /proc does not name the processes in them", name)
	}
	return pid, nil
}

// childOf is the process that another has begun; 0 when there is none.
func childOf(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pid))
	if err != nil {
		return 0
	}
	child, _, _ := strings.Cut(string(text), " ")
	n, err := strconv.Atoi(child)
	if err != nil {
		return 0
	}
	return n
}

// inside runs a command in the bridge's namespace.
func (w *wire) inside(command string) error {
	args := append([]string{"-t", strconv.Itoa(w.pid), "-n", "--"}, strings.Fields(command)...)
	if out, err := exec.Command("nsenter", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, out)
	}
	return nil
}

// host adds a machine whose addresses end with n.
func (w *wire) host(name string, n int) *host {
	t := w.t
	t.Helper()
	h := &host{t: t, w: w, name: name, addr: w.net4 + strconv.Itoa(n), dir: filepath.Join(w.dir, name)}
	if w.pid == 0 {
		if err := os.MkdirAll(h.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return h
	}
	// trust-ad: the C library hands on the resolver's word that DNSSEC holds.
	keep(t, h.dir, "etc/resolv.conf", "nameserver "+network4+resolverHost+"\noptions edns0 trust-ad timeout:2\n")
	keep(t, h.dir, "etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"+h.addr+" "+name+"\n")
	for _, f := range []string{"passwd", "group"} {
		text, err := os.ReadFile("/etc/" + f)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte("Debian-exim:")) {
			text = append(text, map[string]string{"passwd": "Debian-exim:x:61025:61025::/nonexistent:/usr/sbin/nologin\n", "group": "Debian-exim:x:61025:\n"}[f]...)
		}
		keep(t, h.dir, "etc/"+f, string(text))
	}
	var err error
	if h.pid, err = hold(t, name, filepath.Join(h.dir, "etc/hosts")); err != nil {
		t.Fatal(err)
	}
	link := "v" + strconv.Itoa(n)
	if err := errors.Join(w.inside(fmt.Sprintf("ip link add %s type veth peer name eth0 netns %d", link, h.pid)), w.inside("ip link set "+link+" master br0 up")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"ip addr add " + h.addr + "/24 dev eth0", "ip addr add " + h.addr6() + "/64 dev eth0 nodad", "ip link set eth0 up",
		"ip route add default via " + nowhere} {
		h.run(strings.Fields(c)...)
	}
	t.Logf("%-16s %-11s nsenter -t %d -n -m -u -p", name, h.addr, h.pid)
	return h
}

// number is the last of the host's addresses' numbers.
func (h *host) number() string { return strings.TrimPrefix(h.addr, h.w.net4) }

// addr6 is the host's IPv6 address; hosts on loopback have none.
func (h *host) addr6() string { return network6 + h.number() }

// local is where the host's own services for itself listen.
func (h *host) local() string {
	if h.pid == 0 {
		return h.addr
	}
	return "127.0.0.1"
}

// cable pulls the host's cable, or puts it back.
func (h *host) cable(state string) {
	h.t.Helper()
	if err := h.w.inside("ip link set v" + h.number() + " " + state); err != nil {
		h.t.Fatal(err)
	}
}

// command is a command in the host's namespaces.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	if h.pid == 0 {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(h.pid), "-n", "-m", "-u", "-p", "--"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run runs a command that must succeed, for some minutes at most.
func (h *host) run(args ...string) string {
	h.t.Helper()
	return h.feed("", args...)
}

// feed is run with standard input.
func (h *host) feed(stdin string, args ...string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute*patience)
	defer cancel()
	cmd := h.command(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: %s: %v\n%s", h.name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// process is a server that runs on a host.
type process struct {
	h    *host
	name string
	log  string // file of its standard output and error
	cmd  *exec.Cmd
	pid  int // of the server itself
	done chan struct{}
}

// start starts a server; it is killed when the test ends.
func (h *host) start(name string, env []string, args ...string) *process {
	h.t.Helper()
	p := &process{h: h, name: name, log: filepath.Join(h.dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	p.cmd = h.command(context.Background(), args...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = log, log, append(os.Environ(), env...)
	if err := p.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	p.pid = p.cmd.Process.Pid
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	if h.pid != 0 { // nsenter, whose child is the server
		p.pid = 0
		await(h.t, name+" begins", 10*time.Second, func() bool {
			p.pid = childOf(p.cmd.Process.Pid)
			return p.pid != 0
		})
	}
	h.t.Cleanup(func() {
		if h.pid == 0 { // its children end with it only when it is asked; elsewhere all end with the namespace
			p.signal(syscall.SIGTERM, 5*time.Second)
		}
		p.signal(syscall.SIGKILL, 5*time.Second)
	})
	return p
}

// signal signals the process by its id and waits until it has ended.
func (p *process) signal(s syscall.Signal, limit time.Duration) {
	select {
	case <-p.done:
		return
	default:
		_ = syscall.Kill(p.pid, s)
	}
	select {
	case <-p.done:
	case <-time.After(limit * patience):
	}
}

// text is what the server has written to standard output and error.
func (p *process) text() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// listens waits until the process takes connections.
func (p *process) listens(addr string, port int) {
	p.h.t.Helper()
	await(p.h.t, p.name+" listens", 30*time.Second, func() bool {
		select {
		case <-p.done:
			p.h.t.Fatalf("%s ended:\n%s", p.name, p.text())
		default:
		}
		c, err := p.h.dial(addr, port)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// within runs f on a thread in the host's network. Sockets made by f stay there.
func (h *host) within(f func() error) error {
	if h.pid == 0 {
		return f()
	}
	runtime.LockOSThread()
	own, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer own.Close()
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.pid))
	if err == nil {
		defer there.Close()
		err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET)
	}
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	result := f()
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		return errors.Join(result, err) // the thread stays locked and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return result
}

// dial connects from this host.
func (h *host) dial(addr string, port int) (net.Conn, error) {
	var c net.Conn
	d := net.Dialer{Timeout: 5 * time.Second * patience}
	if h.pid == 0 {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(h.addr)}
	}
	err := h.within(func() (err error) {
		c, err = d.Dial("tcp", net.JoinHostPort(addr, strconv.Itoa(port)))
		return err
	})
	return c, err
}

// listen listens on this host.
func (h *host) listen(port int) net.Listener {
	h.t.Helper()
	var l net.Listener
	if err := h.within(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(h.addr, strconv.Itoa(port)))
		return err
	}); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = l.Close() })
	return l
}

// patience is how many times longer than on a quiet machine the laboratory waits for what must
// come: nobody waits longer when all is well.
const patience = 3

// await polls until f holds.
func await(t *testing.T, what string, limit time.Duration, f func() bool) {
	t.Helper()
	limit *= patience
	deadline, tick := time.After(limit), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-deadline:
			t.Fatalf("waited %s in vain until %s", limit, what)
		case <-tick.C:
		}
	}
}

// keep writes a file of the laboratory.
func keep(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
	return path
}
