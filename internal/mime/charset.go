package mime

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode/utf32"
)

// aliases are charsets that the WHATWG's table lacks, or knows by other labels.
var aliases = map[string]string{
	"iso-8859-1-windows-3.1-latin-1": "windows-1252", "iso8859_1": "windows-1252", "latin-1": "windows-1252", "ansi": "windows-1252",
	"iso-8859-8-i": "iso-8859-8-i", "win-1250": "windows-1250", "win-1251": "windows-1251", "win1251": "windows-1251", "windows1251": "windows-1251",
	"windows1252": "windows-1252", "windows-936": "gbk", "cp936": "gbk", "ms936": "gbk", "cp949": "euc-kr", "ms949": "euc-kr", "uhc": "euc-kr",
	"cp950": "big5", "ms950": "big5", "cp932": "shift_jis", "shift-jis": "shift_jis", "sjis": "shift_jis", "x-mac-roman": "macintosh",
	"macroman": "macintosh", "tis620": "windows-874", "cp874": "windows-874", "utf8": "utf-8", "utf_8": "utf-8", "utf-8mb4": "utf-8", "unicode": "utf-16le",
	"unicode-1-1-utf-8": "utf-8", "cp1250": "windows-1250", "cp1251": "windows-1251", "cp1252": "windows-1252", "cp1254": "windows-1254", "gb2312-80": "gbk", "iso-2022-jp-1": "iso-2022-jp",
	"iso-2022-jp-2": "iso-2022-jp", "iso-2022-jp-ms": "iso-2022-jp", "koi8u": "koi8-u", "koi8r": "koi8-r", "iso-10646-ucs-2": "utf-16be", "ucs-2": "utf-16be",
	"646": "us-ascii", "ascii-us": "us-ascii", "usascii": "us-ascii", "us_ascii": "us-ascii", "iso-646-us": "us-ascii",
}

// pages are charsets that htmlindex lacks.
var pages = map[string]encoding.Encoding{
	"hz-gb-2312": simplifiedchinese.HZGB2312, "cp437": charmap.CodePage437, "ibm437": charmap.CodePage437, "cp850": charmap.CodePage850, "ibm850": charmap.CodePage850,
	"cp852": charmap.CodePage852, "ibm852": charmap.CodePage852, "cp855": charmap.CodePage855, "cp858": charmap.CodePage858, "cp860": charmap.CodePage860,
	"cp862": charmap.CodePage862, "cp863": charmap.CodePage863, "cp865": charmap.CodePage865, "cp037": charmap.CodePage037, "cp1047": charmap.CodePage1047,
	"utf-32": utf32.UTF32(utf32.BigEndian, utf32.UseBOM), "utf-32be": utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM), "utf-32le": utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM),
	"utf-7": utf7{}, "unicode-1-1-utf-7": utf7{}, "x-unicode-2-0-utf-7": utf7{},
}

// guessed are charsets that say nothing true of octets over 127.
func guessed(charset string) bool {
	switch charset {
	case "", "us-ascii", "ascii", "unknown-8bit", "x-unknown", "unknown", "default", "default_charset", "binary", "8bit", "7bit":
		return true
	}
	return false
}

// lookup finds a charset by its label, in lower case; nil with ok for UTF-8 and for those that
// are guessed.
func lookup(label string) (e encoding.Encoding, ok bool) {
	switch label {
	case "utf-8", "utf8":
		return nil, true
	case "iso-8859-1", "windows-1252":
		return charmap.Windows1252, true // as browsers and programs of mail read it
	}
	label = strings.ToLower(strings.Trim(label, " \t\r\n\"'"))
	if guessed(label) {
		return nil, true
	}
	if a, ok := aliases[label]; ok {
		label = a
	}
	if e, ok := pages[label]; ok {
		return e, true
	}
	if label == "us-ascii" {
		return nil, true
	}
	e, err := htmlindex.Get(label)
	if err != nil || e == encoding.Replacement {
		return nil, false
	}
	if name, _ := htmlindex.Name(e); name == "utf-8" {
		return nil, true
	}
	return e, true
}

// known reports whether a declared charset can be decoded.
func known(label string) bool {
	_, ok := lookup(label)
	return ok
}

// decode makes octets of a charset UTF-8; of an unknown one, as well as can be.
func decode(charset string, b []byte) string {
	e, _ := lookup(charset)
	if e == nil {
		return guess(b)
	}
	out, err := e.NewDecoder().Bytes(b)
	if err != nil {
		return guess(b)
	}
	return string(out)
}

// guess reads octets as UTF-8, or else in the charset that legacy finds.
func guess(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	if mostlyUTF8(b) {
		return string(bytes.ToValidUTF8(b, []byte("\uFFFD")))
	}
	out, err := legacy(b).NewDecoder().Bytes(b)
	if err != nil {
		return string(bytes.ToValidUTF8(b, []byte("\uFFFD")))
	}
	return string(out)
}

// legacy tells by their octets which charset a text that declares none is in: where most
// letters are over 127, Cyrillic (the small letters of KOI8-R are the capitals of
// Windows-1251) or Chinese; else Windows-1252. A library that tells more charsets apart costs
// twenty times of what all else costs that is done with a message.
func legacy(b []byte) encoding.Encoding {
	var letters, high, low, upper, pairs int // low: 0xc0–0xdf, upper: 0xe0–0xff
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z' && c < 0x80:
			letters++
			continue
		case c < 0x80:
			continue
		case c >= 0xe0:
			upper++
		case c >= 0xc0:
			low++
		}
		high++
		if c >= 0xa1 && i+1 < len(b) && b[i+1] >= 0xa1 {
			pairs++
		}
	}
	switch {
	case high <= letters:
		return charmap.Windows1252
	case 10*(low+upper) > 9*high && low > upper:
		return charmap.KOI8R
	case 10*(low+upper) > 9*high:
		return charmap.Windows1251
	case 3*pairs > high:
		return simplifiedchinese.GBK
	}
	return charmap.Windows1252
}

// mostlyUTF8 reports whether more characters over 127 are well-formed UTF-8 than not.
func mostlyUTF8(b []byte) bool {
	good, bad := 0, 0
	for i := 0; i < len(b); {
		if b[i] < utf8.RuneSelf {
			i++
			continue
		}
		if r, n := utf8.DecodeRune(b[i:]); r == utf8.RuneError && n == 1 {
			bad++
			i++
		} else {
			good++
			i += n
		}
	}
	return good > bad
}

// toUTF8 is s if it is UTF-8, and s read as Windows-1252 if it is not.
func toUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return guess([]byte(s))
}
