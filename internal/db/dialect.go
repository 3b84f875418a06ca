package db

// The few words of SQL that the engines do not share, for tables that several
// processes work on at once.

// ClockSQL is an expression for the database's own clock, in microseconds since
// 1970: the one clock that all processes on one PostgreSQL agree on. It moves
// within a transaction.
func ClockSQL(d Database) string {
	if d.Engine() == "postgresql" {
		return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
	}
	return "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"
}

// SkipLockedSQL ends a SELECT that takes rows of a table (by its name or alias) for
// this transaction and passes over those that another has taken. SQLite has one
// writer: nothing is needed there.
func SkipLockedSQL(d Database, table string) string {
	if d.Engine() == "postgresql" {
		return " FOR UPDATE OF " + table + " SKIP LOCKED"
	}
	return ""
}
