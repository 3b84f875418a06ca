package attachment

import (
	"io"
	"strings"
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
		if c, ok := readCompound(r, size); ok {
			for _, s := range c.streams[:min(limit, len(c.streams))] {
				c.content(s)
				names = append(names, s.name)
			}
		}
	}
	for _, f := range l.files {
		names = append(names, f.name)
	}
	return names
}
