package db

import sqlite3 "modernc.org/sqlite/lib"

// LogFD is the descriptor of the write-ahead log that the writer has open.
func (d *SQLite) LogFD() (fd int) {
	d.OnWriter(func(func(string) error) {
		fd = int((*sqlite3.TunixFile)(pointer(d.w.c.opened)).Fh)
	})
	return fd
}
