package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// syncFolder does nothing: NTFS journals names, and folders cannot be flushed.
func syncFolder(*os.File) error { return nil }

// freeSpace is what this user may still write below folder.
func freeSpace(folder string) (int64, error) {
	name, err := windows.UTF16PtrFromString(folder)
	if err != nil {
		return 0, &os.PathError{Op: "free space", Path: folder, Err: err}
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return 0, &os.PathError{Op: "free space", Path: folder, Err: err}
	}
	return int64(min(free, Unlimited)), nil
}

// unlockFile does nothing: closing f gives its lock back, and no child has f.
func unlockFile(*os.File) error { return nil }

// lockFile takes the exclusive lock of f or returns ErrLocked at once.
func lockFile(f *os.File) error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		err = ErrLocked
	}
	if err != nil {
		return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return nil
}
