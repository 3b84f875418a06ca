//go:build unix && !linux

package daemon

import "syscall"

// setGroup and setUser set all three: these systems let the saved one follow when
// root sets the real one.
func setGroup(gid int) error { return syscall.Setregid(gid, gid) }
func setUser(uid int) error  { return syscall.Setreuid(uid, uid) }
