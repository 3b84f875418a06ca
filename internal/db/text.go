package db

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Text makes s fit for a {text} column: what is not valid UTF-8 becomes U+FFFD
// (one for a run of bad octets) and NUL becomes U+FFFD as well. Text that is fit already is
// returned as it is, without a copy. Octets that must survive unchanged belong
// into a {blob} column.
func Text(s string) string {
	if validText(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// validText reports whether s may stand in a {text} column.
func validText(s string) bool {
	return strings.IndexByte(s, 0) < 0 && utf8.ValidString(s)
}

// Micros is t as stored: microseconds since 1970-01-01 00:00 UTC. The zero Time
// becomes 0.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// FromMicros is the Time of a stored value, in UTC; 0 becomes the zero Time.
func FromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
