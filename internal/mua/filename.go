package mua

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"poczta.example/poczta/internal/mime"
)

// Bounds of a file's name in octets. File systems take 255; a number may be added.
const (
	maxFileName  = 200
	maxExtension = 20
)

// fileName is a name that is safe in a folder of any system: no path, nothing that a shell, a
// terminal or a system takes for something else. i is the number of the file in its letter, from 0.
func fileName(p *mime.Part, i int) string {
	name := p.Filename
	if len(name) > 8*maxFileName { // senders write what they like
		name = name[:4*maxFileName] + name[len(name)-4*maxFileName:]
	}
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) || r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, strings.TrimSpace(strings.ToValidUTF8(name, "_")))
	name = shorten(strings.Trim(name, ". "))
	switch {
	case name == "":
		return fmt.Sprintf("part-%d", i+1)
	case name[0] == '-' || reserved(name): // the one is an option to programs
		return "_" + name
	}
	return name
}

// shorten cuts a name to maxFileName octets, in front of its extension.
func shorten(name string) string {
	if len(name) <= maxFileName {
		return name
	}
	ext := filepath.Ext(name)
	if len(ext) > maxExtension {
		ext = ""
	}
	base := strings.ToValidUTF8(name[:maxFileName-len(ext)], "") // half a character at the end goes
	return strings.TrimRight(base, ". ") + ext
}

// devices are names that Windows takes for devices, whatever extension they have.
var devices = []string{"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}

// reserved reports whether Windows takes a name for a device.
func reserved(name string) bool {
	stem, _, _ := strings.Cut(name, ".")
	stem = strings.ToUpper(strings.TrimRight(stem, " "))
	if slices.Contains(devices, stem) {
		return true
	}
	port, found := strings.CutPrefix(stem, "COM")
	if !found {
		port, found = strings.CutPrefix(stem, "LPT")
	}
	return found && len([]rune(port)) == 1 && strings.ContainsAny(port, "0123456789¹²³")
}

// saver writes files into a folder; none is replaced.
type saver struct {
	root  *os.Root
	tried map[string]int // the last number that a name got
}

// maxNames is how many names are tried for one file beyond those that this saver gave.
const maxNames = 1000

// write writes a file and returns the name that it got. What could not be written whole goes again.
func (s *saver) write(name string, r io.Reader) (string, error) {
	ext := filepath.Ext(name)
	base, want := strings.TrimSuffix(name, ext), strings.ToLower(name) // some systems do not tell case apart
	for range maxNames {
		if n := s.tried[want]; n > 0 {
			name = fmt.Sprintf("%s (%d)%s", base, n, ext)
		}
		s.tried[want]++
		f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return name, err
		}
		_, err = io.Copy(f, r)
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, s.root.Remove(name))
		}
		return name, err
	}
	return name, fmt.Errorf("%s and %d names like it are taken; choose another folder", name, maxNames-1)
}
