package feedback

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// Errors of reading; test with errors.Is.
var (
	ErrTooLarge = errors.New("the report is larger than we read")
	ErrFormat   = errors.New("not a report that we can read")
)

// maxFiles bounds the files of a zip.
const maxFiles = 16

// Unpack takes a report's file out of its gzip or zip, which it recognises by its content
// whatever its name or type says, and calls read with the plain octets. The reader fails
// with ErrTooLarge beyond l.Unpacked octets. A file that is not packed is passed as it is.
func Unpack(file io.Reader, l Limits, read func(io.Reader) error) error {
	l = l.orDefaults()
	data, err := io.ReadAll(io.LimitReader(file, l.Packed+1))
	if err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	if int64(len(data)) > l.Packed {
		return fmt.Errorf("%w: over %d octets", ErrTooLarge, l.Packed)
	}
	switch {
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		z.Multistream(false) // octets behind the file, as some reporters add, are not looked at
		return read(&capped{r: z, left: l.Unpacked})
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		return unzip(data, l, read)
	}
	return read(&capped{r: bytes.NewReader(data), left: l.Unpacked})
}

// unzip reads the first file that holds something; a gzip within is unpacked too.
func unzip(data []byte, l Limits, read func(io.Reader) error) error {
	if bytes.Count(data, []byte("PK\x01\x02")) > maxFiles { // before anything is made of the directory
		return fmt.Errorf("%w: the zip has more than %d files", ErrTooLarge, maxFiles)
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	for _, f := range z.File {
		if f.FileInfo().IsDir() || f.UncompressedSize64 == 0 {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		defer r.Close()
		limited := &capped{r: r, left: l.Unpacked}
		head := make([]byte, 2)
		n, err := io.ReadFull(limited, head)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		whole := io.MultiReader(bytes.NewReader(head[:n]), limited)
		if !bytes.Equal(head[:n], []byte{0x1f, 0x8b}) {
			return read(whole)
		}
		g, err := gzip.NewReader(whole)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		return read(&capped{r: g, left: l.Unpacked})
	}
	return fmt.Errorf("%w: the zip holds no file", ErrFormat)
}

// capped fails beyond a number of octets.
type capped struct {
	r    io.Reader
	left int64
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left < 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > c.left+1 {
		p = p[:c.left+1]
	}
	n, err := c.r.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return n - 1, ErrTooLarge
	}
	return n, err
}
