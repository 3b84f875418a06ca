// Package message holds what can be said of a message as octets: its id, its
// header fields and its edits. Values only; no files, network or clock.
//
// A header section is the octets in front of the empty line, each line with its
// line end. Parsing is tolerant: what is no field is reported as such and kept;
// bodies are never copied.
package message
