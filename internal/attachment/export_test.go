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
