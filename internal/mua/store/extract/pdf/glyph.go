package pdf

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/unicode/norm"
)

// accents are the marks that a glyph's name ends with, as combining characters.
var accents = map[string]string{
	"grave": "\u0300", "acute": "\u0301", "circumflex": "\u0302", "tilde": "\u0303", "macron": "\u0304", "breve": "\u0306", "dotaccent": "\u0307",
	"dieresis": "\u0308", "ring": "\u030a", "hungarumlaut": "\u030b", "caron": "\u030c", "commaaccent": "\u0327", "cedilla": "\u0327", "ogonek": "\u0328", "dot": "\u0307",
}

// glyphs are the names of the Adobe Glyph List that no rule makes.
var glyphs = table(`space ␣ exclam ! quotedbl " numbersign # dollar $ percent % ampersand & quotesingle ' quoteright ’ quoteleft ‘ parenleft ( parenright ) asterisk * plus + comma ,
hyphen - minus − period . slash / zero 0 one 1 two 2 three 3 four 4 five 5 six 6 seven 7 eight 8 nine 9 colon : semicolon ; less < equal = greater > question ? at @
bracketleft [ backslash \ bracketright ] asciicircum ^ underscore _ grave ` + "`" + ` braceleft { bar | braceright } asciitilde ~ nbspace ␣ nonbreakingspace ␣
exclamdown ¡ cent ¢ sterling £ fraction ⁄ yen ¥ florin ƒ section § currency ¤ quotedblleft “ quotedblright ” guillemotleft « guillemotright » guilsinglleft ‹ guilsinglright ›
ff ff fi fi fl fl ffi ffi ffl ffl st st longst st endash – emdash — dagger † daggerdbl ‡ periodcentered · middot · paragraph ¶ bullet • quotesinglbase ‚ quotedblbase „ ellipsis … perthousand ‰
questiondown ¿ acute ´ circumflex ˆ tilde ˜ macron ¯ breve ˘ dotaccent ˙ dieresis ¨ ring ˚ cedilla ¸ hungarumlaut ˝ ogonek ˛ caron ˇ
AE Æ ordfeminine ª Lslash Ł Oslash Ø OE Œ ordmasculine º ae æ dotlessi ı dotlessj ȷ lslash ł oslash ø oe œ germandbls ß Eth Ð eth ð Thorn Þ thorn þ Dcroat Đ dcroat đ dmacron đ
Hbar Ħ hbar ħ IJ IJ ij ij kgreenlandic ĸ Ldot Ŀ ldot ŀ napostrophe ŉ Eng Ŋ eng ŋ Tbar Ŧ tbar ŧ longs ſ schwa ə uhorn ư Uhorn Ư ohorn ơ Ohorn Ơ
logicalnot ¬ registered ® copyright © trademark ™ degree ° plusminus ± twosuperior ² threesuperior ³ onesuperior ¹ mu µ multiply × divide ÷ onequarter ¼ onehalf ½ threequarters ¾ brokenbar ¦
Euro € euro € numero № afii61352 № estimated ℮ infinity ∞ notequal ≠ lessequal ≤ greaterequal ≥ approxequal ≈ summation ∑ product ∏ radical √ integral ∫ partialdiff ∂ lozenge ◊ arrowright → arrowleft ← arrowup ↑ arrowdown ↓
Alpha Α Beta Β Gamma Γ Delta Δ Epsilon Ε Zeta Ζ Eta Η Theta Θ Iota Ι Kappa Κ Lambda Λ Mu Μ Nu Ν Xi Ξ Omicron Ο Pi Π Rho Ρ Sigma Σ Tau Τ Upsilon Υ Phi Φ Chi Χ Psi Ψ Omega Ω
alpha α beta β gamma γ delta δ epsilon ε zeta ζ eta η theta θ iota ι kappa κ lambda λ nu ν xi ξ omicron ο pi π rho ρ sigma1 ς sigma σ tau τ upsilon υ phi φ chi χ psi ψ omega ω
Alphatonos Ά Epsilontonos Έ Etatonos Ή Iotatonos Ί Omicrontonos Ό Upsilontonos Ύ Omegatonos Ώ alphatonos ά epsilontonos έ etatonos ή iotatonos ί omicrontonos ό upsilontonos ύ omegatonos ώ iotadieresis ϊ upsilondieresis ϋ
afii10023 Ё afii10071 ё afii10051 Ђ afii10052 Ѓ afii10053 Є afii10054 Ѕ afii10055 І afii10056 Ї afii10057 Ј afii10058 Љ afii10059 Њ afii10060 Ћ afii10061 Ќ afii10062 Ў afii10145 Џ
afii10099 ђ afii10100 ѓ afii10101 є afii10102 ѕ afii10103 і afii10104 ї afii10105 ј afii10106 љ afii10107 њ afii10108 ћ afii10109 ќ afii10110 ў afii10193 џ afii10050 Ґ afii10098 ґ`)

// table makes a map of pairs; ␣ is a blank.
func table(s string) map[string]string {
	words := strings.Fields(s)
	m := make(map[string]string, len(words)/2)
	for i := 0; i+1 < len(words); i += 2 {
		m[words[i]] = strings.ReplaceAll(words[i+1], "␣", " ")
	}
	return m
}

// glyph is what a glyph's name says, after the rules of the Adobe Glyph List Specification, or "".
func glyph(n string) string {
	if i := strings.IndexByte(n, '.'); i > 0 { // a variant: a.sc, f_i.liga
		n = n[:i]
	}
	if strings.IndexByte(n, '_') > 0 && len(n) < 64 {
		var b strings.Builder
		for part := range strings.SplitSeq(n, "_") {
			b.WriteString(glyph(part))
		}
		return b.String()
	}
	if len(n) == 1 && (n[0]|0x20 >= 'a' && n[0]|0x20 <= 'z') {
		return n
	}
	if s, ok := glyphs[n]; ok {
		return s
	}
	if s := coded(n); s != "" {
		return s
	}
	return accented(n)
}

// coded is a glyph whose name is a number: uni0142, u1F600, afii10065.
func coded(n string) string {
	if hex, ok := strings.CutPrefix(n, "uni"); ok && len(hex) >= 4 {
		var b strings.Builder
		for ; len(hex) >= 4 && b.Len() < 32; hex = hex[4:] {
			v, err := strconv.ParseUint(hex[:4], 16, 16)
			if err != nil {
				return ""
			}
			b.WriteRune(rune(v))
		}
		return b.String()
	}
	if hex, ok := strings.CutPrefix(n, "u"); ok && len(hex) >= 4 && len(hex) <= 6 {
		if v, err := strconv.ParseUint(hex, 16, 21); err == nil && utf8.ValidRune(rune(v)) {
			return string(rune(v))
		}
	}
	if dec, ok := strings.CutPrefix(n, "afii"); ok {
		v, err := strconv.Atoi(dec)
		switch {
		case err != nil:
		case v >= 10017 && v <= 10022:
			return string(rune('А' + v - 10017))
		case v >= 10024 && v <= 10049:
			return string(rune('Ж' + v - 10024))
		case v >= 10065 && v <= 10070:
			return string(rune('а' + v - 10065))
		case v >= 10072 && v <= 10097:
			return string(rune('ж' + v - 10072))
		}
	}
	return ""
}

// accented is a letter with a mark: aogonek, Zdotaccent.
func accented(n string) string {
	base, mark := "", ""
	for l := 1; l <= 2 && l < len(n); l++ {
		if m, ok := accents[n[l:]]; ok {
			base, mark = n[:l], m
		}
	}
	switch {
	case mark == "":
		return ""
	case len(base) == 2:
		if base = glyphs[base]; base == "" {
			return ""
		}
	case base[0]|0x20 < 'a' || base[0]|0x20 > 'z':
		return ""
	}
	return norm.NFC.String(base + mark)
}

// standardHigh are the characters from 0xA1 on of StandardEncoding (ISO 32000-2 annex D), · where there is none.
const standardHigh = "¡¢£⁄¥ƒ§¤'“«‹›\ufb01\ufb02\x00–†‡•\x00¶•‚„”»…‰\x00¿\x00`´ˆ˜¯˘˙¨\x00˚¸\x00˝˛ˇ—" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00Æ\x00ª\x00\x00\x00\x00ŁØŒº\x00\x00\x00\x00\x00æ\x00\x00\x00ı\x00\x00łøœß"

// encoding is a table of the standard encodings by name.
func encoding(n name) (t [256]string) {
	for i := 32; i < 127; i++ {
		t[i] = string(rune(i))
	}
	page := charmap.Windows1252
	switch n {
	case "MacRomanEncoding":
		page = charmap.Macintosh
	case "WinAnsiEncoding":
	case "MacExpertEncoding":
		return t
	default: // StandardEncoding
		t['\''], t['`'] = "’", "‘"
		i := 0xa1
		for _, r := range standardHigh {
			if r != 0 {
				t[i] = plain(r)
			}
			i++
		}
		return t
	}
	for i := 128; i < 256; i++ {
		if r := page.DecodeByte(byte(i)); r != utf8.RuneError {
			t[i] = string(r)
		}
	}
	return t
}

// plain takes ligatures apart.
func plain(r rune) string {
	switch r {
	case 0xfb00:
		return "ff"
	case 0xfb01:
		return "fi"
	case 0xfb02:
		return "fl"
	case 0xfb03:
		return "ffi"
	case 0xfb04:
		return "ffl"
	case 0xfb05, 0xfb06:
		return "st"
	case 0xa0:
		return " "
	}
	return string(r)
}
