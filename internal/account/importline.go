package account

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"poczta.example/poczta/internal/address"
)

// lineReader reads lines ended by LF or CRLF, counting from 1.
type lineReader struct {
	r      *bufio.Reader
	number int
}

// next returns a line without its end. The error is ErrInvalid for a line that is
// too long or not UTF-8, which is skipped, and io.EOF after the last.
func (l *lineReader) next() (string, error) {
	l.number++
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = l.r.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return "", fmt.Errorf("line %w: it is longer than %d octets", ErrInvalid, MaxImportLineOctets)
	}
	if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
		return "", err
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
	if l.number == 1 {
		text = strings.TrimPrefix(text, "\uFEFF") // a byte order mark, as spreadsheets write it
	}
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return "", fmt.Errorf("line %w: it is not UTF-8", ErrInvalid)
	}
	return text, nil
}

// isComment reports whether a line holds nothing: empty, a comment, or the
// heading of the columns.
func isComment(text string) bool {
	text = strings.TrimSpace(text)
	return text == "" || text[0] == '#' || strings.HasPrefix(strings.ToLower(text), "address,login,")
}

// guessFormat tells the two formats apart by what parts the first field.
func guessFormat(text string) ImportFormat {
	if at := strings.IndexAny(text, ",:"); at >= 0 && text[at] == ':' {
		return ImportDovecot
	}
	return ImportCSV
}

// importFields is a line as written.
type importFields struct {
	address, login, password, quota, name string
}

// parseAddress reads the address; one without a domain gets that of the options.
func (f importFields) parseAddress(domain address.Domain) (address.Address, error) {
	if strings.IndexByte(f.address, '@') < 0 {
		if domain.IsZero() {
			return address.Address{}, fmt.Errorf("address %.80q %w: it has no domain, and none was given for such lines", f.address, ErrInvalid)
		}
		addr, err := address.New(f.address, domain)
		if err != nil {
			return addr, fmt.Errorf("address %.80q %w: %w", f.address, ErrInvalid, err)
		}
		return addr, nil
	}
	addr, err := address.Parse(f.address)
	if err != nil {
		return addr, fmt.Errorf("address %.80q %w: %w", f.address, ErrInvalid, err)
	}
	return addr, nil
}

// parseCSV reads address,login,hash-or-password,quota,name; all but the address
// may be missing. Fields may be quoted (RFC 4180 §2). The commas of an unquoted
// argon2 hash are taken as its own.
func parseCSV(text string) (importFields, error) {
	fields, err := splitCSV(text)
	if err != nil {
		return importFields{}, err
	}
	if len(fields) > 5 {
		return importFields{}, fmt.Errorf("line %w: it has %d fields; give address,login,password,quota,name", ErrInvalid, len(fields))
	}
	fields = append(fields, make([]string, 5-len(fields))...)
	return importFields{
		address:  strings.TrimSpace(fields[0]),
		login:    strings.TrimSpace(fields[1]),
		password: fields[2],
		quota:    strings.TrimSpace(fields[3]),
		name:     strings.TrimSpace(fields[4]),
	}, nil
}

func splitCSV(text string) ([]string, error) {
	var fields []string
	for {
		var field string
		rest, quoted := strings.CutPrefix(text, `"`)
		if quoted {
			var err error
			if field, rest, err = cutQuoted(rest); err != nil {
				return nil, err
			}
		} else {
			at := fieldEnd(text)
			field, rest = text[:at], text[at:]
		}
		fields = append(fields, field)
		if rest == "" {
			return fields, nil
		}
		if rest[0] != ',' {
			return nil, fmt.Errorf("line %w: characters between a closing quote and the comma", ErrInvalid)
		}
		text = rest[1:]
	}
}

// cutQuoted reads a quoted field from behind its opening quote; "" is a quote.
func cutQuoted(s string) (field, rest string, err error) {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, `"`)
		if !ok {
			return "", "", fmt.Errorf("line %w: a quote is not closed", ErrInvalid)
		}
		b.WriteString(before)
		if s, ok = strings.CutPrefix(after, `"`); !ok {
			return b.String(), after, nil
		}
		b.WriteByte('"')
	}
}

// fieldEnd returns where an unquoted field ends.
func fieldEnd(text string) int {
	from := 0
	if strings.HasPrefix(text, "$argon2") || strings.HasPrefix(strings.ToUpper(text), "{ARGON2") {
		if loc := argonCommas.FindStringIndex(text); loc != nil {
			from = loc[1]
		}
	}
	if strings.HasPrefix(strings.ToUpper(text), "{SCRAM-SHA-256}") {
		if loc := scramCommas.FindStringIndex(text); loc != nil {
			from = loc[1]
		}
	}
	if at := strings.IndexByte(text[from:], ','); at >= 0 {
		return from + at
	}
	return len(text)
}

// parseDovecot reads a line of a passwd-file:
// user:password:uid:gid:gecos:home:shell:extra fields. Of the extra fields the
// quota is taken, under the names Dovecot 2.3 and 2.4 give it.
func parseDovecot(text string) (importFields, error) {
	fields := strings.SplitN(text, ":", 8)
	f := importFields{address: strings.TrimSpace(fields[0])}
	if f.address == "" {
		return f, fmt.Errorf("line %w: the user is missing", ErrInvalid)
	}
	if strings.IndexByte(f.address, '@') < 0 {
		f.login = f.address
	}
	if len(fields) > 1 {
		f.password = fields[1]
	}
	if len(fields) > 4 {
		f.name, _, _ = strings.Cut(fields[4], ",") // GECOS: the name, then rooms and telephones
	}
	if len(fields) > 7 {
		for _, extra := range strings.Fields(fields[7]) {
			name, value, _ := strings.Cut(extra, "=")
			switch strings.TrimPrefix(name, "userdb_") {
			case "quota_rule":
				f.quota = quotaRule(value)
			case "quota_storage_size":
				f.quota = value
			}
		}
	}
	return f, nil
}

// quotaRule reads the octets of "*:storage=1G" or "*:bytes=1000"; "" for other rules.
func quotaRule(rule string) string {
	for part := range strings.SplitSeq(rule, ":") {
		if size, ok := strings.CutPrefix(part, "storage="); ok {
			if size != "" && size[len(size)-1] >= '0' && size[len(size)-1] <= '9' {
				size += "K" // Dovecot's unit of storage
			}
			return size
		}
		if size, ok := strings.CutPrefix(part, "bytes="); ok {
			return size
		}
	}
	return ""
}

// parseOctets reads a size: digits, and perhaps K, M, G or T (powers of 1024), B
// or iB after it. "0", "none" and "unlimited" are no limit.
func parseOctets(s string) (int64, error) {
	bad := fmt.Errorf("quota %.40q %w: give octets, or a number with K, M, G or T, or 0 for no limit", s, ErrInvalid)
	text := strings.ToUpper(strings.TrimSpace(s))
	if text == "NONE" || text == "UNLIMITED" {
		return 0, nil
	}
	text = strings.TrimSuffix(strings.TrimSuffix(text, "B"), "I")
	shift := 0
	if text != "" {
		if at := strings.IndexByte("KMGT", text[len(text)-1]); at >= 0 {
			shift, text = 10*(at+1), text[:len(text)-1]
		}
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, bad
	}
	return int64(n) << shift, nil
}
