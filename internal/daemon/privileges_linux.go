package daemon

import "syscall"

// setGroup and setUser set the real, effective and saved one.
func setGroup(gid int) error { return syscall.Setresgid(gid, gid, gid) }
func setUser(uid int) error  { return syscall.Setresuid(uid, uid, uid) }
