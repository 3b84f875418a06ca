package store

// ParseHeader is parseHeader for fuzzing: what it keeps, packed and unpacked again.
func ParseHeader(raw []byte) (subject string, people, again []Address, ids []string) {
	h := parseHeader(raw)
	all := append(h.from[:len(h.from):len(h.from)], h.all...)
	return h.subject, all, unpackPeople(packPeople(all)), append(h.references, h.messageID)
}

// BaseSubject is baseSubject.
func BaseSubject(s string) (string, bool) { return baseSubject(s) }
