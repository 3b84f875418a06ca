package fetch

// DigestOf is digestOf.
func DigestOf(head []byte) [16]byte { return digestOf(head) }

// RepackNote reads a note and writes it again.
func RepackNote(b []byte) ([]byte, error) {
	w, err := parseNote(b)
	if err != nil {
		return nil, err
	}
	return w.note(), nil
}
