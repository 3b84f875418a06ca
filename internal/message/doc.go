// Package message holds what can be said of a message as octets: its id, its
// header fields and its edits. Values only; no files, network or clock.
package message
