package mailfile

import (
	"errors"
	"os"
	"strconv"
	"strings"
)

// defaultUIDLFormat is Dovecot's default of pop3_uidl_format.
const defaultUIDLFormat = "%08Xu%08Xv"

// errUIDList is a dovecot-uidlist of a version that we do not read.
var errUIDList = errors.New("dovecot-uidlist is not of version 1 or 3: unique-ids are unknown")

// uidList is what dovecot-uidlist holds.
type uidList struct {
	validity uint32
	entries  map[string]uidEntry // by the file's name without flags
}

type uidEntry struct {
	uid uint32
	id  string // field P: the POP3 unique-id, kept as told to clients
}

// readUIDList reads dovecot-uidlist. Version 3 begins with "3 V1275660208 N25022
// G…" and has lines "uid [field…] :file"; version 1 begins with "1 validity
// next" and has lines "uid file". None is no error.
func readUIDList(root *os.Root, name string) (uidList, error) {
	l := uidList{entries: map[string]uidEntry{}}
	version := ""
	err := eachLine(root, name, func(line string) error {
		if version == "" {
			return l.header(line, &version)
		}
		number, rest, _ := strings.Cut(line, " ")
		uid, err := strconv.ParseUint(number, 10, 32)
		if err != nil || uid == 0 {
			return nil // a torn line: the file is rewritten now and then
		}
		e, file := uidEntry{uid: uint32(uid)}, rest
		if version == "3" {
			var fields string
			var found bool
			if strings.HasPrefix(rest, ":") {
				fields, file, found = "", rest[1:], true
			} else {
				fields, file, found = strings.Cut(rest, " :")
			}
			if !found {
				return nil
			}
			for _, f := range strings.Fields(fields) {
				if f[0] == 'P' {
					e.id = legalUniqueID(f[1:])
				}
			}
		}
		base, _ := splitInfo(file)
		l.entries[base] = e
		return nil
	})
	return l, err
}

// header reads the first line.
func (l *uidList) header(line string, version *string) error {
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0] != "1" && fields[0] != "3" {
		return errUIDList
	}
	*version = fields[0]
	if *version == "1" {
		fields[1] = "V" + fields[1]
	}
	for _, f := range fields[1:] {
		if f[0] == 'V' {
			v, err := strconv.ParseUint(f[1:], 10, 32)
			if err != nil {
				return errUIDList
			}
			l.validity = uint32(v)
		}
	}
	return nil
}

// uniqueID is the POP3 unique-id that Dovecot tells for an entry: the one it has
// kept, or one made by its format; "" when it has given no uid yet.
func uniqueID(e maildirEntry, l uidList, format string) string {
	if e.id != "" {
		return e.id
	}
	if e.uid == 0 {
		return ""
	}
	var out strings.Builder
	for {
		before, after, found := strings.Cut(format, "%")
		out.WriteString(before)
		if !found {
			return legalUniqueID(out.String())
		}
		width := len(after) - len(strings.TrimLeft(after, "0123456789"))
		pad, _ := strconv.Atoi(after[:width])
		rest, hex := strings.CutPrefix(after[width:], "X")
		if rest == "" {
			return ""
		}
		var value string
		switch rest[0] {
		case 'u':
			value = number(e.uid, hex)
		case 'v':
			value = number(l.validity, hex)
		case 'f':
			value = e.base
		case '%':
			value = "%"
		default:
			return "" // a variable that only Dovecot knows
		}
		if n := min(pad, 70) - len(value); n > 0 {
			value = strings.Repeat("0", n) + value
		}
		out.WriteString(value)
		format = rest[1:]
	}
}

func number(n uint32, hex bool) string {
	if hex {
		return strconv.FormatUint(uint64(n), 16)
	}
	return strconv.FormatUint(uint64(n), 10)
}
