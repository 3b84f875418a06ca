package content

import (
	"unicode"
	"unicode/utf8"
)

// mixedWord returns the first word of s that mixes letters of Latin, Cyrillic and Greek, which
// look alike; "" when there is none.
func mixedWord(s string) string {
	if isASCII(s) {
		return ""
	}
	const latin, cyrillic, greek = 1, 2, 4
	seen, from, letters := 0, 0, 0
	for i, r := range s + " " {
		if !unicode.IsLetter(r) && !unicode.IsMark(r) {
			if seen&(seen-1) != 0 && letters >= 3 {
				return s[from:i]
			}
			seen, from, letters = 0, i+utf8.RuneLen(r), 0
			continue
		}
		letters++
		switch {
		case r < 0x80 || r >= 0xc0 && r < 0x250:
			seen |= latin
		case r >= 0x400 && r < 0x530:
			seen |= cyrillic
		case r >= 0x370 && r < 0x400:
			seen |= greek
		}
	}
	return ""
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
