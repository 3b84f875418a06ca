package attachment

import (
	"io"
	"strings"

	"poczta.example/poczta/internal/compound"
)

// UnpackXZ unpacks a whole .xz file.
func UnpackXZ(s string, window int) (string, error) {
	var b strings.Builder
	_, err := io.Copy(&b, newXZ(strings.NewReader(s), window))
	return b.String(), err
}

// List reads the headers of an archive by its format's own reader, and gives the names.
func List(format, s string, limit int) (names []string) {
	r, size := strings.NewReader(s), int64(len(s))
	var l listing
	switch format {
	case "rar":
		l = readRAR(r, size, limit)
	case "7z":
		l = read7z(r, size, limit)
	case "iso":
		l = readISO(r, size, limit)
	case "tnef":
		l = readTNEF(r, size, limit)
	case "zip":
		for _, e := range readZip(r, size, limit).entries {
			names = append(names, e.names[0])
		}
	case "ole":
		if c, ok := compound.Read(r, size, compound.Limits{}); ok {
			for _, s := range c.Streams[:min(limit, len(c.Streams))] {
				c.Content(s, 0)
				names = append(names, s.Name)
			}
		}
	}
	for _, f := range l.files {
		names = append(names, f.name)
	}
	return names
}
