//go:build !linux

package db

// gatherLog does nothing on this system: SQLite writes its log by itself.
func (c *conn) gatherLog() error { return nil }
