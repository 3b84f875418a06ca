//go:build unix

package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// onFD runs a system call on the descriptor of f again while it is interrupted.
func onFD(f *os.File, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = conn.Control(func(fd uintptr) {
		for {
			result = call(int(fd))
			if !errors.Is(result, unix.EINTR) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return result
}

// syncFolder makes the names in the open folder f durable.
func syncFolder(f *os.File) error { return f.Sync() }

// freeSpace is what an unprivileged user may still write below folder.
func freeSpace(folder string) (int64, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(folder, &st)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, &os.PathError{Op: "statfs", Path: folder, Err: err}
		}
		return int64(st.Bavail) * int64(st.Bsize), nil
	}
}

// unlockFile gives the flock of f back, also where a child process that has not begun its program yet has f open too.
func unlockFile(f *os.File) error {
	return onFD(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_UN) })
}

// lockFile takes the exclusive flock of f or returns ErrLocked at once.
func lockFile(f *os.File) error {
	err := onFD(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return &os.PathError{Op: "lock", Path: f.Name(), Err: ErrLocked}
	}
	if err != nil {
		return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return nil
}
