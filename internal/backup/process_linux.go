package backup

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// machine names this machine since its start, and which processes can be seen: the kernel's
// boot id and the namespace of process ids. "" when that can't be told.
func machine() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + space
}

// started is when a process of this machine began, by the kernel's count; "" when that
// can't be told.
func started(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	behind := strings.LastIndexByte(string(text), ')') // the program's name, which may hold anything
	fields := strings.Fields(string(text[behind+1:]))
	if len(fields) < 20 {
		return ""
	}
	return fields[19] // the 22nd of all, proc_pid_stat(5)
}

// gone reports whether a process of this machine that began then has ended. What can't be
// told is not gone.
func gone(pid int, since string) bool {
	if pid <= 0 || since == "" {
		return false
	}
	if err := unix.Kill(pid, 0); errors.Is(err, unix.ESRCH) {
		return true
	}
	now := started(pid)
	return now != "" && now != since
}
