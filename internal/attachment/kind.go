package attachment

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"unicode/utf8"

	"poczta.example/poczta/internal/verdict"
)

// kind is a true type, written as its usual extension; "" is unknown.
type kind string

// magic is what a type begins with.
type magic struct {
	kind   kind
	offset int
	octets string
}

// magics are tried in this order; identify has the types that need more than a comparison.
var magics = []magic{
	{"elf", 0, "\x7fELF"}, {"macho", 0, "\xfe\xed\xfa\xce"}, {"macho", 0, "\xfe\xed\xfa\xcf"},
	{"macho", 0, "\xce\xfa\xed\xfe"}, {"macho", 0, "\xcf\xfa\xed\xfe"},
	{"lnk", 0, "L\x00\x00\x00\x01\x14\x02\x00"}, {"chm", 0, "ITSF\x03\x00\x00\x00"}, {"cab", 0, "MSCF\x00\x00\x00\x00"},
	{"one", 0, "\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3"},
	{"rar", 0, "Rar!\x1a\x07"}, {"7z", 0, "7z\xbc\xaf\x27\x1c"}, {"xz", 0, "\xfd7zXZ\x00"}, {"zst", 0, "\x28\xb5\x2f\xfd"}, {"lz", 0, "LZIP\x01"},
	{"zip", 0, "PK\x03\x04"}, {"zip", 0, "PK\x05\x06"}, {"zip", 0, "PK\x07\x08PK\x03\x04"}, {"zip", 0, "PK00PK\x03\x04"},
	{"gz", 0, "\x1f\x8b\x08"}, {"bz2", 0, "BZh"}, {"tar", 257, "ustar"},
	{"vhd", 0, "conectix"}, {"vhdx", 0, "vhdxfile"}, {"vmdk", 0, "KDMV"}, {"wim", 0, "MSWIM\x00\x00\x00"},
	{"arj", 0, "\x60\xea"}, {"ace", 7, "**ACE**"}, {"tnef", 0, "\x78\x9f\x3e\x22"},
	{"ole", 0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"}, {"rtf", 0, "{\\rt"},
	{"png", 0, "\x89PNG\r\n\x1a\n"}, {"jpg", 0, "\xff\xd8\xff"}, {"gif", 0, "GIF8"}, {"bmp", 0, "BM"}, {"tif", 0, "II*\x00"}, {"tif", 0, "MM\x00*"},
	{"mp3", 0, "ID3"}, {"ogg", 0, "OggS"}, {"mp4", 4, "ftyp"}, {"swf", 0, "FWS"}, {"swf", 0, "CWS"}, {"swf", 0, "ZWS"},
	{"iso", 0x8001, "CD001"}, {"iso", 0x8001, "BEA01"}, {"iso", 0x8001, "NSR0"},
}

// identify tells the type of a file that begins with head, "" when it knows none.
func identify(head []byte) kind {
	switch {
	case windowsProgram(head):
		return "exe"
	case bytes.HasPrefix(head, []byte("\xca\xfe\xba\xbe")) && len(head) >= 8:
		if n := binary.BigEndian.Uint32(head[4:]); n < 40 { // a count of machines; Java has a version from 45 on
			return "macho"
		}
		return "class"
	case bytes.HasPrefix(head, []byte("RIFF")) && len(head) >= 12:
		return map[string]kind{"WEBP": "webp", "WAVE": "wav", "AVI ": "avi"}[string(head[8:12])]
	case len(head) >= 7 && head[2] == '-' && head[3] == 'l' && (head[4] == 'h' || head[4] == 'z') && head[6] == '-':
		return "lha"
	}
	for _, m := range magics {
		if len(head) >= m.offset+len(m.octets) && string(head[m.offset:m.offset+len(m.octets)]) == m.octets && plausible(m.kind, head) {
			return m.kind
		}
	}
	if bytes.Contains(head[:min(1024, len(head))], []byte("%PDF-")) {
		return "pdf"
	}
	return identifyText(head)
}

// plausible looks closer where the first octets are few.
func plausible(k kind, head []byte) bool {
	switch k {
	case "bz2":
		return len(head) >= 10 && head[3] >= '1' && head[3] <= '9' && (string(head[4:10]) == "1AY&SY" || string(head[4:10]) == "\x17\x72\x45\x38\x50\x90")
	case "arj":
		return len(head) >= 12 && binary.LittleEndian.Uint16(head[2:]) <= 2600 && head[10] == 2
	case "bmp":
		return len(head) >= 18 && binary.LittleEndian.Uint32(head[6:]) == 0 && head[14] <= 124 && head[15] == 0
	case "swf":
		return len(head) >= 8 && head[3] < 64 && binaryData(head)
	}
	return true
}

// windowsProgram reports MZ with one of the headers that may follow, or with octets of no text.
func windowsProgram(head []byte) bool {
	if len(head) < 64 || string(head[:2]) != "MZ" {
		return false
	}
	at := int64(binary.LittleEndian.Uint32(head[0x3c:]))
	if at+4 <= int64(len(head)) {
		switch string(head[at : at+2]) {
		case "PE", "NE", "LE", "LX":
			return true
		}
	}
	return binaryData(head)
}

// identifyText tells the types that are text.
func identifyText(head []byte) kind {
	text := bytes.TrimLeft(bytes.TrimPrefix(dropNUL(head[:min(2048, len(head))]), []byte("\xef\xbb\xbf")), "\xff\xfe \t\r\n\f")
	if bytes.HasPrefix(text, []byte("#!")) {
		return "sh"
	}
	lower := bytes.ToLower(text)
	for _, s := range []string{"<!doctype html", "<html", "<head", "<body", "<script"} {
		if bytes.HasPrefix(lower, []byte(s)) {
			return "html"
		}
	}
	if bytes.HasPrefix(lower, []byte("<?xml")) || bytes.HasPrefix(lower, []byte("<!")) || bytes.HasPrefix(lower, []byte("<svg")) {
		switch {
		case bytes.Contains(lower, []byte("<svg")):
			return "svg"
		case bytes.Contains(lower, []byte("<html")):
			return "html"
		case bytes.HasPrefix(lower, []byte("<?xml")):
			return "xml"
		}
	}
	return ""
}

// dropNUL leaves out NUL, so that UTF-16 reads as US-ASCII.
func dropNUL(b []byte) []byte {
	if bytes.IndexByte(b, 0) < 0 {
		return b
	}
	return slices.DeleteFunc(bytes.Clone(b), func(c byte) bool { return c == 0 })
}

// binaryData reports whether b begins with octets that are in no text.
func binaryData(b []byte) bool {
	b = b[:min(len(b), 1024)]
	odd := 0
	for _, c := range b {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != 0x1b {
			odd++
		}
	}
	return odd > 0 || !utf8.Valid(b[:max(0, len(b)-4)])
}

// accepted are the types that a file of an extension may truly have. Documents are what people's
// programs take them for: a .doc may be RTF, HTML or text.
var accepted = map[string]string{
	"pdf": "pdf", "png": "image", "jpg": "image", "jpeg": "image", "gif": "image", "bmp": "image", "tif": "image", "tiff": "image", "webp": "image",
	"heic": "mp4", "mp4": "mp4", "mov": "mp4", "m4a": "mp4", "mp3": "mp3", "wav": "wav", "avi": "avi", "ogg": "ogg",
	"doc": "ole rtf zip html xml", "dot": "ole rtf zip html xml", "xls": "ole zip html xml", "ppt": "ole zip html xml", "rtf": "rtf ole zip", "msg": "ole",
	"docx": "zip ole", "xlsx": "zip ole", "pptx": "zip ole", "docm": "zip ole", "xlsm": "zip ole", "xlsb": "zip ole", "pptm": "zip ole",
	"odt": "zip", "ods": "zip", "odp": "zip", "epub": "zip", "zip": "zip", "jar": "zip", "rar": "rar", "7z": "7z", "gz": "gz", "tgz": "gz", "bz2": "bz2", "xz": "xz", "tar": "tar",
	"txt": "html xml sh", "csv": "html xml", "log": "html xml", "htm": "html xml", "html": "html xml", "svg": "svg xml", "xml": "xml svg html", "ics": "", "vcf": "", "eml": "html", "asc": "", "sig": "",
}

var images = []kind{"png", "jpg", "gif", "bmp", "tif", "webp"}

// fits reports whether a file of extension ext may be of type k.
func fits(ext string, k kind) bool {
	list, known := accepted[ext]
	return !known || slices.Contains(strings.Fields(list), string(k)) || list == "image" && (slices.Contains(images, k) || k == "mp4")
}

// declaredAs is the extension that a Content-Type stands for, where that is sure.
var declaredAs = map[string]string{"application/pdf": "pdf", "image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "text/plain": "txt", "text/csv": "csv", "application/zip": "zip", "audio/mpeg": "mp3"}

// trueType judges the type that content shows.
func (x *examination) trueType(f *file, k kind) {
	if k == "" {
		return
	}
	named := ""
	if len(f.names) > 0 {
		named = extension(f.names[0])
	}
	if named == "" {
		named = declaredAs[f.declared]
	}
	if named != "" && !fits(named, k) {
		x.note(verdict.TypeDiffers, f, "claims to be %s, but is %s", named, k)
	}
	if x.forbidden[string(k)] && named != string(k) {
		x.note(verdict.BadAttachment, f, "is truly of the forbidden type %s", k)
	} else if x.suspicious[string(k)] && named != string(k) && k != "sh" { // people send each other scripts as texts
		x.note(verdict.OddAttachment, f, "is truly of the type %s", k)
	}
}
