package mime_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"testing"

	"poczta.example/poczta/internal/mime"
)

// eachInTar calls f with every file of a .tar.gz.
func eachInTar(t testing.TB, path string, f func(name string, b []byte)) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		f(h.Name, b)
	}
}

// TestSeeds reads what other programs' fuzzers have found.
func TestSeeds(t *testing.T) {
	t.Parallel()
	n := 0
	eachInTar(t, foreign(t, "mime/gofuzz-seeds.tar.gz"), func(_ string, b []byte) {
		n++
		check(t, b, parse(t, b), defaults)
		mime.DecodeWords(string(b))
		msg := append([]byte("Content-Type: multipart/mixed; boundary=foo\n\n"), b...)
		check(t, msg, parse(t, msg), defaults)
	})
	if n == 0 {
		t.Error("no seeds")
	}
	t.Logf("%d seeds read", n)
}

// failing is a reader that breaks.
type failing struct{ after int64 }

func (f failing) ReadAt(b []byte, off int64) (int, error) {
	if off >= f.after {
		return 0, os.ErrClosed
	}
	return copy(b, bytes.Repeat([]byte("a: b\n"), len(b)/5+1)), nil
}

// TestReaderErrors: errors are the reader's own, and none is lost.
func TestReaderErrors(t *testing.T) {
	t.Parallel()
	if _, err := mime.Parse(failing{100}, 1<<20, mime.Limits{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	msg := []byte("Content-Transfer-Encoding: base64\n\nAAAA")
	if _, err := io.ReadAll(parse(t, msg).Text(failing{0})); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := mime.Parse(bytes.NewReader(msg), 1000, mime.Limits{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a message that is shorter than said: got %v", err)
	}
}
