package dkim

import "poczta.example/poczta/internal/message"

// care says how a field is signed.
type care uint8

const (
	// always: named once more than it is there, even when it is not: a second From
	// or a Subject put in later breaks the signature (RFC 6376 §5.4.2, §8.15).
	always care = 1 + iota
	// whenThere: the same, unless it is absent. Mailing lists add these to messages
	// that they leave alone otherwise.
	whenThere
	// asIs: as often as it is there. Those who resend a message put a block of
	// their own on top of the old one (RFC 5322 §3.6.6).
	asIs
)

// signedField is a field that signatures cover.
type signedField struct {
	name string
	care care
}

// signedFields are those that a person sees or a program acts on (RFC 6376
// §5.4.1). Trace fields and Return-Path change on the way and stay out.
var signedFields = [...]signedField{
	{"From", always}, {"To", always}, {"Cc", always}, {"Reply-To", always}, {"Subject", always}, {"Date", always}, {"Message-ID", always},
	{"MIME-Version", always}, {"Content-Type", always}, {"Content-Transfer-Encoding", always}, {"In-Reply-To", always}, {"References", always},
	{"Sender", whenThere}, {"Content-ID", whenThere}, {"Content-Description", whenThere}, {"Content-Disposition", whenThere}, {"Content-Language", whenThere},
	{"Disposition-Notification-To", whenThere}, {"Auto-Submitted", whenThere}, {"Autocrypt", whenThere}, {"TLS-Required", whenThere},
	{"Resent-Date", asIs}, {"Resent-From", asIs}, {"Resent-Sender", asIs}, {"Resent-To", asIs}, {"Resent-Cc", asIs}, {"Resent-Message-ID", asIs},
	{"List-ID", whenThere}, {"List-Help", whenThere}, {"List-Unsubscribe", whenThere}, {"List-Unsubscribe-Post", whenThere},
	{"List-Subscribe", whenThere}, {"List-Post", whenThere}, {"List-Owner", whenThere}, {"List-Archive", whenThere},
}

// maxTimes bounds how often one name stands in h=, so that a message with
// thousands of fields does not make a signature of the same size. A field beyond
// it makes the message unusual anyway; the last ones, which count from the
// bottom, are signed.
const maxTimes = 20

// maxFields bounds the fields that are looked at.
const maxFields = 10_000

// signedNames is h= for a header section.
func signedNames(fields []message.Field) []string {
	var counts [len(signedFields)]int
	for _, f := range fields {
		if i := signedIndex(f); i >= 0 {
			counts[i]++
		}
	}
	var names []string
	for i, s := range signedFields {
		n := counts[i]
		if s.care == always || s.care == whenThere && n > 0 {
			n++
		}
		for range min(n, maxTimes) {
			names = append(names, s.name)
		}
	}
	return names
}

// chosen are the fields of a header section that a signature covers, at most the
// last maxFields or some more.
func chosen(header []byte) []message.Field {
	var fields []message.Field
	for f := range message.Fields(header) {
		if signedIndex(f) < 0 {
			continue
		}
		if fields = append(fields, f); len(fields) == 2*maxFields {
			fields = append(fields[:0], fields[maxFields:]...)
		}
	}
	return fields
}

// signedIndex is a field's place in signedFields, -1 when signatures leave it out.
func signedIndex(f message.Field) int {
	for i, s := range signedFields {
		if f.Is(s.name) {
			return i
		}
	}
	return -1
}
