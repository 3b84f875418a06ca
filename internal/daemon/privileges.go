package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"runtime/debug"
	"strconv"
)

// Owner returns the user and group that a folder belongs to, and whether it exists.
func Owner(folder string) (uid, gid int, exists bool, err error) {
	info, err := os.Stat(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Geteuid(), os.Getegid(), false, nil
	}
	if err != nil {
		return 0, 0, false, fmt.Errorf("look at data folder: %w", err)
	}
	if !info.IsDir() {
		return 0, 0, false, fmt.Errorf("look at data folder: %s is not a folder", folder)
	}
	uid, gid = ownerOf(info)
	return uid, gid, true, nil
}

// BecomeOwner makes a process of root one of the data folder's owner, for good.
// It does nothing when the process is not root's, or the folder is root's or
// absent. What needs root (ports below 1024, other people's files) is opened before.
func BecomeOwner(folder string) error {
	uid, gid, exists, err := Owner(folder)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		if exists && uid != os.Geteuid() {
			return fmt.Errorf("the data folder %s belongs to %s, and this process is of %s; run it as %s, or as root",
				folder, userName(uid), userName(os.Geteuid()), userName(uid))
		}
		return nil
	}
	if uid == 0 {
		return nil
	}
	groups := []int{gid}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		if names, err := u.GroupIds(); err == nil {
			for _, s := range names {
				if n, err := strconv.Atoi(s); err == nil && n != gid {
					groups = append(groups, n)
				}
			}
		}
	}
	if err := become(uid, gid, groups); err != nil {
		return fmt.Errorf("become %s: %w", userName(uid), err)
	}
	// The kernel forgets the parent's death signal and undumpability is set by the
	// change of user; both are as they should be.
	return nil
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return "user " + u.Username
	}
	return "user " + strconv.Itoa(uid)
}

// raiseLimits raises the number of open files to what the system allows, and
// tells the garbage collector how much memory there is.
func raiseLimits(memory int64) (files uint64, err error) {
	debug.SetMemoryLimit(memory)
	return raiseOpenFiles()
}
