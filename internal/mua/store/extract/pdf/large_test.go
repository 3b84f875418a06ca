package pdf_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// large is a file of about 1 MB: 160 pages of words in pieces, packed, and a picture on some.
func large() []byte {
	r := rand.New(rand.NewPCG(1, 2))
	objects := []string{catalogue, ""}
	var kids strings.Builder
	for p := range 160 {
		var b strings.Builder
		b.WriteString("BT /F 11 Tf 13 TL 72 760 Td ")
		for range 52 {
			b.WriteString("[")
			for range 11 {
				word := make([]byte, 2+r.IntN(7))
				for i := range word {
					word[i] = 'a' + byte(r.IntN(26))
				}
				fmt.Fprintf(&b, "(%s) %d (%s ) ", word[:1], r.IntN(60)-30, word[1:])
			}
			b.WriteString("] TJ T* ")
		}
		b.WriteString("ET")
		n := len(objects) + 1
		fmt.Fprintf(&kids, "%d 0 R ", n)
		objects = append(objects, fmt.Sprintf("<</Type /Page /Parent 2 0 R /Contents %d 0 R /Resources <</Font <</F <<%s>>>>>>>>", n+1, helvetica[2:len(helvetica)-2]), stream("/Filter /FlateDecode", deflate(b.String())))
		if p%40 == 0 {
			picture := make([]byte, 60<<10)
			for i := range picture {
				picture[i] = byte(r.IntN(256))
			}
			objects = append(objects, stream("/Subtype /Image /Filter /DCTDecode", string(picture)))
		}
	}
	objects[1] = "<</Type /Pages /Kids [" + kids.String() + "]>>"
	return file(objects...)
}
