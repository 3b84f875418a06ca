package mailfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mailfile"
)

func TestCreateMbox(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "box")
	w, discard, err := mailfile.CreateMbox(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Add(mailfile.Message{}, strings.NewReader("Subject: x\r\n\r\nFrom here\r\n")), w.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "\n>From here\n") {
		t.Errorf("%q %v", text, err)
	}
	if _, _, err := mailfile.CreateMbox(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("a file that is there: %v", err)
	}
	if err := discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("discarded: %v", err)
	}
	if _, _, err := mailfile.CreateMbox(filepath.Join(path, "below")); err == nil {
		t.Error("a folder that is not there")
	}
}
