package attachment

import (
	"strings"
	"unicode"

	"poczta.example/poczta/internal/verdict"
)

// DefaultForbidden are the extensions that mean a program, a script, a shortcut or a disk image
// on somebody's computer, and the types known by content alone.
func DefaultForbidden() []string {
	return strings.Fields(`ace ade adp apk appinstaller application appref-ms appx appxbundle asx bas bat cab chm cmd com cpl
		diagcab diagcfg diagpkg dll ex ex_ exe fxp gadget grp hlp hpj hta img inf ins iso isp its jar jnlp js jse ksh
		lnk library-ms mad maf mag mam maq mar mas mat mau mav maw mcf mda mde mdt mdw mdz msc msh msh1 msh1xml
		msh2 msh2xml mshxml msi msix msixbundle msp mst nsh ocx ops osd pcd pif pl plg prf prg ps1 ps1xml ps2 ps2xml psc1 psc2
		psd1 psdm1 psm1 reg scf scr sct search-ms searchconnector-ms settingcontent-ms shb shs sys theme themepack udl url vb vbe
		vbp vbs vhd vhdx vmdk vsmacros vsw vxd webpnp website wim ws wsb wsc wsf wsh xbap xll xnk
		elf macho class`)
}

// DefaultSuspicious are extensions that are seldom sent for good, but are.
func DefaultSuspicious() []string {
	return strings.Fields(`arj deb dmg dotm dqy iqy lha lzh mht mhtml one onepkg oqy pkg potm ppam ppsm py rpm rqy run sh slk swf xht xhtml xlam xltm`)
}

// documents are the extensions behind which a program likes to hide.
var documents = set(`pdf doc docx xls xlsx ppt pptx txt rtf odt ods odp csv jpg jpeg png gif bmp tif tiff mp3 mp4 avi mov wav htm html xml zip rar 7z eml msg log`)

func set(words string) map[string]bool {
	m := make(map[string]bool)
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// extension is the lower-case extension by which Windows would open a name, "" without one.
func extension(name string) string {
	_, ext := lastDot(clean(name))
	return ext
}

// clean is the name's last component as file systems would have it: without directories, the
// marks that turn the direction of writing, streams (a.exe:b), and dots and blanks at its end.
func clean(name string) string {
	if i := strings.LastIndexAny(name, `/\`); i >= 0 && i < len(name)-1 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		if direction(r) || r == 0x200b || r == 0xfeff || r == 0xad {
			return -1
		}
		return r
	}, name)
	if i := strings.IndexByte(name, ':'); i > 0 {
		name = name[:i]
	}
	return strings.TrimRightFunc(name, func(r rune) bool { return r == '.' || r == '/' || r == '\\' || blank(r) })
}

// lastDot splits a clean name at its last dot; the extension is lower case, without blanks.
func lastDot(name string) (stem, ext string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return name, ""
	}
	return name[:i], strings.ToLower(strings.TrimFunc(name[i+1:], blank))
}

// direction reports the marks that set the direction of writing. Only two of them, the
// overrides, show letters in another order; people who write from right to left use the others.
func direction(r rune) bool { return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 }

// blank reports what a person sees as nothing.
func blank(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || r == 0x2800 || r == 0x200b || r == 0x3164
}

// names judges all names of a file. A name with NUL is two: some programs end it there.
func (x *examination) names(f *file) {
	for _, name := range f.names {
		x.name(f, name)
		if before, _, cut := strings.Cut(name, "\x00"); cut {
			x.name(f, before)
		}
	}
}

func (x *examination) name(f *file, name string) {
	last := clean(name)
	stem, ext := lastDot(last)
	bad := x.forbidden[ext]
	switch {
	case bad:
		x.note(verdict.BadAttachment, f, "is of the forbidden type %s", ext)
	case strings.HasPrefix(ext, "{") && strings.HasSuffix(ext, "}"):
		bad = true
		x.note(verdict.BadAttachment, f, "has a class instead of a type")
	case x.suspicious[ext]:
		x.note(verdict.OddAttachment, f, "is of the type %s, which is seldom sent for good", ext)
	}
	if strings.ContainsAny(name, "\u202d\u202e") {
		x.note(verdict.DoubleExt, f, "turns the direction of writing")
	} else if bad {
		if _, before := lastDot(strings.TrimRightFunc(stem, blank)); documents[before] {
			x.note(verdict.DoubleExt, f, "shows %s in front of its true type %s", before, ext)
		} else if blanks(name) {
			x.note(verdict.DoubleExt, f, "has its true type %s behind many blanks", ext)
		}
	}
	if f.within != nil && leadsOut(name) {
		x.note(verdict.OddAttachment, f, "would leave the folder it is unpacked in")
	}
}

// blanks reports a row of blanks that may push the end of a name out of sight.
func blanks(name string) bool {
	row := 0
	for _, r := range name {
		if !blank(r) {
			row = 0
		} else if row++; row >= 6 {
			return true
		}
	}
	return false
}

// leadsOut reports an absolute path or one that climbs.
func leadsOut(name string) bool {
	name = strings.ReplaceAll(name, `\`, "/")
	if strings.HasPrefix(name, "/") || len(name) > 2 && name[1] == ':' && name[2] == '/' {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}
