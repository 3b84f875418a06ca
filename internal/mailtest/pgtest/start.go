package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// guard runs the server until its standard input ends, which happens when the
// process of the tests ends, be it by SIGKILL; then it stops the server by SIGQUIT and removes
// the folder. Arguments: the program, the data, the folder.
const guard = `trap '' INT HUP TERM
"$1" -D "$2" >>"$2/log" 2>&1 </dev/null &
pid=$!
cat >/dev/null
kill -QUIT "$pid" 2>/dev/null
wait "$pid"
rm -rf "$3"`

// settings make a small server. %s are the folder of the socket and on or off.
const settings = `
listen_addresses = ''
unix_socket_directories = '%s'
unix_socket_permissions = 0777
fsync = %[2]s
full_page_writes = on
max_connections = 300
shared_buffers = 16MB
wal_level = minimal
max_wal_senders = 0
max_wal_size = 256MB
jit = off
deadlock_timeout = 100ms
`

// start makes a cluster and starts its server.
func start(o Options) (*Server, error) {
	bin, err := findBin()
	if err != nil {
		return nil, err
	}
	attr, uid, err := identity()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, done: make(chan struct{})}
	err = s.create(bin, attr, uid, o)
	if err == nil {
		err = s.launch(bin, attr)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := s.waitReady(); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// identity is who runs the server: the user postgres if the tests run as root,
// whom PostgreSQL refuses.
func identity() (*syscall.SysProcAttr, int, error) {
	attr := &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for the tests
	if os.Getuid() != 0 {
		return attr, os.Getuid(), nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, 0, fmt.Errorf("tests run as root, PostgreSQL does not: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		return nil, 0, fmt.Errorf("user postgres has the ids %q and %q", u.Uid, u.Gid)
	}
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr, uid, nil
}

// create makes the cluster.
func (s *Server) create(bin string, attr *syscall.SysProcAttr, uid int, o Options) error {
	if os.Getuid() == 0 {
		if err := os.Chown(s.dir, uid, -1); err != nil {
			return err
		}
	}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return err
	}
	data := filepath.Join(s.dir, "data")
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust",
		"--no-sync", "-E", "UTF8", "--locale=C", "--no-instructions")
	cmd.SysProcAttr, cmd.Dir = attr, s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	f, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	sync := "on"
	if o.NoSync {
		sync = "off"
	}
	_, err = fmt.Fprintf(f, settings, s.dir, sync)
	return err
}

// launch starts the guard, which starts the server. Its end is waited for by a
// goroutine that lives as long as the server.
func (s *Server) launch(bin string, attr *syscall.SysProcAttr) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", guard, "pgtest", filepath.Join(bin, "postgres"), filepath.Join(s.dir, "data"), s.dir)
	cmd.Stdin, cmd.SysProcAttr, cmd.Dir = r, attr, "/"
	if err := cmd.Start(); err != nil {
		w.Close()
		return err
	}
	s.alive = w
	go func() {
		cmd.Wait()
		close(s.done)
	}()
	return nil
}
