package db

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// logBuffer is how many octets of the write-ahead log are gathered before they are
// written: a commit of some thirty pages leaves in one write. SQLite's file system
// takes less than 128 KiB in one call.
const logBuffer = 124 << 10

// logFile stands before the methods of an open write-ahead log. SQLite writes each
// frame of a commit in two calls and then syncs; here they are gathered, written
// together before the sync, and synced without the file's times. Whatever else
// is asked of the file sees what was gathered: it is written first. Until the
// sync returned SQLite shows a frame to no other connection, and it trusts
// checksums alone after a crash, so that nothing is lost by writing late.
//
// It lies in C memory, because its address passes through SQLite.
type logFile struct {
	methods sqlite3.Tsqlite3_io_methods // what SQLite sees
	under   uintptr                     // the methods of the file system
	start   int64                       // where the gathered octets belong in the file
	n       int32                       // how many there are
	buf     [logBuffer]byte
}

// method turns an address in a table of methods into a function.
func method[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&p)) }

// logOf returns the logFile of an open file.
func logOf(file uintptr) *logFile {
	return (*logFile)(pointer((*sqlite3.Tsqlite3_file)(pointer(file)).FpMethods))
}

// below returns the methods of the file system.
func (l *logFile) below() *sqlite3.Tsqlite3_io_methods {
	return (*sqlite3.Tsqlite3_io_methods)(pointer(l.under))
}

// gatherLog puts a logFile before the connection's write-ahead log, which must be
// in use. The connection frees it.
func (c *conn) gatherLog() error {
	out := libc.Xmalloc(c.tls, 8)
	c.log = libc.Xmalloc(c.tls, libc.Tsize_t(unsafe.Sizeof(logFile{})))
	if out == 0 || c.log == 0 {
		return errors.New("open write-ahead log: out of memory")
	}
	defer libc.Xfree(c.tls, out)
	// No name stands for the main database.
	if rc := sqlite3.Xsqlite3_file_control(c.tls, c.db, 0, sqlite3.SQLITE_FCNTL_JOURNAL_POINTER, out); rc != sqlite3.SQLITE_OK {
		return fmt.Errorf("open write-ahead log: %w", c.error(rc, ""))
	}
	c.opened = *(*uintptr)(pointer(out))
	file := (*sqlite3.Tsqlite3_file)(pointer(c.opened))
	if file.FpMethods == 0 {
		return errors.New("open write-ahead log: it is not in use")
	}
	l := (*logFile)(pointer(c.log))
	l.under, l.start, l.n = file.FpMethods, 0, 0
	l.methods = *l.below()
	l.methods.FxRead, l.methods.FxWrite = callback(logRead), callback(logWrite)
	l.methods.FxTruncate, l.methods.FxSync = callback(logTruncate), callback(logSync)
	l.methods.FxFileSize, l.methods.FxClose = callback(logSize), callback(logClose)
	file.FpMethods = c.log
	return nil
}

// flush writes what is gathered. After an error it is gone, as what a failed write
// would have written.
func (l *logFile) flush(tls *libc.TLS, file uintptr) int32 {
	if l.n == 0 {
		return sqlite3.SQLITE_OK
	}
	n := l.n
	l.n = 0
	write := method[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](l.below().FxWrite)
	return write(tls, file, uintptr(unsafe.Pointer(&l.buf)), n, l.start)
}

func logWrite(tls *libc.TLS, file, from uintptr, n int32, at int64) int32 {
	l := logOf(file)
	if l.n > 0 && (at != l.start+int64(l.n) || l.n+n > logBuffer) {
		if rc := l.flush(tls, file); rc != sqlite3.SQLITE_OK {
			return rc
		}
	}
	if n > logBuffer {
		return method[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](l.below().FxWrite)(tls, file, from, n, at)
	}
	if l.n == 0 {
		l.start = at
	}
	copy(l.buf[l.n:], unsafe.Slice((*byte)(pointer(from)), n))
	l.n += n
	return sqlite3.SQLITE_OK
}

func logRead(tls *libc.TLS, file, to uintptr, n int32, at int64) int32 {
	l := logOf(file)
	if rc := l.flush(tls, file); rc != sqlite3.SQLITE_OK {
		return rc
	}
	return method[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](l.below().FxRead)(tls, file, to, n, at)
}

func logTruncate(tls *libc.TLS, file uintptr, size int64) int32 {
	l := logOf(file)
	if rc := l.flush(tls, file); rc != sqlite3.SQLITE_OK {
		return rc
	}
	return method[func(*libc.TLS, uintptr, int64) int32](l.below().FxTruncate)(tls, file, size)
}

func logSize(tls *libc.TLS, file, to uintptr) int32 {
	l := logOf(file)
	if rc := l.flush(tls, file); rc != sqlite3.SQLITE_OK {
		return rc
	}
	return method[func(*libc.TLS, uintptr, uintptr) int32](l.below().FxFileSize)(tls, file, to)
}

// dirSync is UNIXFILE_DIRSYNC: the file is new, its folder must be synced with it.
const dirSync = 0x08

func logSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	l := logOf(file)
	if rc := l.flush(tls, file); rc != sqlite3.SQLITE_OK {
		return rc
	}
	f := (*sqlite3.TunixFile)(pointer(file))
	if f.FctrlFlags&dirSync != 0 {
		return method[func(*libc.TLS, uintptr, int32) int32](l.below().FxSync)(tls, file, flags)
	}
	err := unix.Fdatasync(int(f.Fh))
	for errors.Is(err, unix.EINTR) {
		err = unix.Fdatasync(int(f.Fh))
	}
	if errno, failed := errors.AsType[unix.Errno](err); failed {
		f.FlastErrno = int32(errno)
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	return sqlite3.SQLITE_OK
}

// logClose writes what is left, as SQLite would have done by now.
func logClose(tls *libc.TLS, file uintptr) int32 {
	l := logOf(file)
	rc := l.flush(tls, file)
	(*sqlite3.Tsqlite3_file)(pointer(file)).FpMethods = l.under
	if closed := method[func(*libc.TLS, uintptr) int32](l.below().FxClose)(tls, file); closed != sqlite3.SQLITE_OK {
		return closed
	}
	return rc
}
