// Package power tests what is left of the whole store after a power cut, on a full
// disk and after a failed fsync: segments on a disk that forgets, and real SQLite files.
package power
