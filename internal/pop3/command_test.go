package pop3_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"poczta.example/poczta/internal/pop3"
)

func TestParseCommand(t *testing.T) {
	t.Parallel()
	tests := []struct {
		line          string
		verb          pop3.Verb
		first, second string
		err           error
	}{
		{"QUIT", pop3.VerbQuit, "", "", nil},
		{"quit", pop3.VerbQuit, "", "", nil},
		{"QUIT now", pop3.VerbQuit, "", "", pop3.ErrArguments},
		{"STAT ", pop3.VerbStat, "", "", nil},
		{"USER ala ma kota", pop3.VerbUser, "ala ma kota", "", nil},
		{"USER żółw ", pop3.VerbUser, "żółw", "", nil},
		{"USER", pop3.VerbUser, "", "", pop3.ErrArguments},
		{"USER ", pop3.VerbUser, "", "", pop3.ErrArguments},
		{"PASS  a  b ", pop3.VerbPass, " a  b ", "", nil},
		{"PASS ", pop3.VerbPass, "", "", nil},
		{"PASS", pop3.VerbPass, "", "", pop3.ErrArguments},
		{"LIST", pop3.VerbList, "", "", nil},
		{"LIST 1", pop3.VerbList, "1", "", nil},
		{"LIST 1 2", pop3.VerbList, "", "", pop3.ErrArguments},
		{"RETR", pop3.VerbRetr, "", "", pop3.ErrArguments},
		{"RETR  1", pop3.VerbRetr, "", "", pop3.ErrArguments},
		{"TOP 1 2", pop3.VerbTop, "1", "2", nil},
		{"TOP 1", pop3.VerbTop, "", "", pop3.ErrArguments},
		{"TOP 1 2 3", pop3.VerbTop, "", "", pop3.ErrArguments},
		{"TOP 1  2", pop3.VerbTop, "", "", pop3.ErrArguments},
		{"AUTH", pop3.VerbAuth, "", "", nil},
		{"AUTH PLAIN", pop3.VerbAuth, "PLAIN", "", nil},
		{"AUTH PLAIN =", pop3.VerbAuth, "PLAIN", "=", nil},
		{"AUTH PLAIN " + strings.Repeat("A", 4000), pop3.VerbAuth, "PLAIN", strings.Repeat("A", 4000), nil},
		{"USER " + strings.Repeat("a", 248), pop3.VerbUser, strings.Repeat("a", 248), "", nil},
		{"USER " + strings.Repeat("a", 249), pop3.VerbUser, "", "", pop3.ErrTooLong},
		{strings.Repeat("a", 254), pop3.VerbNone, "", "", pop3.ErrTooLong},
		{"", pop3.VerbNone, "", "", pop3.ErrUnknownCommand},
		{" STAT", pop3.VerbNone, "", "", pop3.ErrUnknownCommand},
		{"STATS", pop3.VerbNone, "", "", pop3.ErrUnknownCommand},
		{"STAT\t1", pop3.VerbNone, "", "", pop3.ErrUnknownCommand},
		{"USER a\tb", pop3.VerbUser, "", "", pop3.ErrOctets},
		{"PASS a\rb", pop3.VerbPass, "", "", pop3.ErrOctets},
		{"PASS \xff", pop3.VerbPass, "", "", pop3.ErrOctets},
	}
	for _, tt := range tests {
		c, err := pop3.ParseCommand([]byte(tt.line))
		if c.Verb != tt.verb || !errors.Is(err, tt.err) || err == nil && (string(c.First) != tt.first || string(c.Second) != tt.second) {
			t.Errorf("ParseCommand(%.40q): got %v %.40q %q %v, want %v %.40q %q %v", tt.line, c.Verb, c.First, c.Second, err, tt.verb, tt.first, tt.second, tt.err)
		}
	}
}

// TestParseCommandAllocates nothing. Not parallel: it counts allocations.
func TestParseCommandAllocates(t *testing.T) {
	line := []byte("TOP 1 2")
	if n := testing.AllocsPerRun(100, func() { _, _ = pop3.ParseCommand(line) }); n != 0 {
		t.Errorf("ParseCommand allocates %v times, want 0", n)
	}
}

func TestParseNumber(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{
		"0": 0, "1": 1, "007": 7, "9223372036854775807": 9223372036854775807,
		"9223372036854775808": -1, "99999999999999999999": -1, "": -1, "-1": -1, "+1": -1, " 1": -1, "1 ": -1, "0x1": -1, "١": -1,
	} {
		n, err := pop3.ParseNumber([]byte(s))
		if want < 0 && !errors.Is(err, pop3.ErrNumber) || want >= 0 && (err != nil || n != want) {
			t.Errorf("ParseNumber(%q): got %d, %v, want %d", s, n, err, want)
		}
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	tests := []struct{ got, want string }{
		{string(pop3.AppendOK(nil, "")), "+OK\r\n"},
		{string(pop3.AppendOK(nil, "yes")), "+OK yes\r\n"},
		{string(pop3.AppendOK(nil, "[no code]")), "+OK  [no code]\r\n"}, // RFC 2449 §6.4
		{string(pop3.AppendErr(nil, pop3.CodeSysTemp, "later")), "-ERR [SYS/TEMP] later\r\n"},
		{string(pop3.AppendErr(nil, "", "two\r\nlines\x00")), "-ERR two  lines \r\n"},
		{string(pop3.AppendErr(nil, "", strings.Repeat("ł", 600))), "-ERR " + strings.Repeat("ł", 252) + "\r\n"},
	}
	for _, tt := range tests {
		if tt.got != tt.want || len(tt.got) > pop3.MaxResponseOctets {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
	for line, want := range map[string]pop3.Reply{
		"+OK":                   {Status: pop3.StatusOK},
		"+ok hello":             {Status: pop3.StatusOK, Text: "hello"},
		"-ERR [AUTH] no":        {Status: pop3.StatusErr, Code: "AUTH", Text: "no"},
		"-ERR [sys/temp/x] no":  {Status: pop3.StatusErr, Code: "sys/temp/x", Text: "no"},
		"-ERR [broken":          {Status: pop3.StatusErr, Text: "[broken"},
		"+ ":                    {Status: pop3.StatusChallenge},
		"+ YWJj":                {Status: pop3.StatusChallenge, Text: "YWJj"},
		"* OK IMAP4 says hello": {},
		"":                      {},
	} {
		got, err := pop3.ParseReply([]byte(line))
		if got != want || (err == nil) != (want.Status != 0) {
			t.Errorf("ParseReply(%q): got %+v, %v, want %+v", line, got, err, want)
		}
	}
	if c := pop3.ResponseCode("sys/temp/x"); !c.Is(pop3.CodeSysTemp) || !c.Is("SYS") || c.Is("SYS/T") || c.Is(pop3.CodeAuth) {
		t.Error("Is does not follow RFC 2449 §8")
	}
}

func TestCapaFits(t *testing.T) {
	t.Parallel()
	var many []string
	for range 100 {
		many = append(many, "MECHANISM-X")
	}
	b := pop3.AppendCapa(nil, pop3.Capabilities{SASL: many, Implementation: strings.Repeat("i", 1000), LoginDelay: 1, Expire: 1})
	for _, l := range bytes.SplitAfter(b, []byte("\r\n")) {
		if len(l) > pop3.MaxCapaOctets {
			t.Errorf("a line of CAPA has %d octets, the limit is %d", len(l), pop3.MaxCapaOctets)
		}
	}
	for _, l := range []string{"\r\nLOGIN-DELAY 1\r\n", "\r\nEXPIRE 1\r\n"} {
		if !bytes.Contains(b, []byte(l)) {
			t.Errorf("CAPA has no line %q", l)
		}
	}
}

func TestLanguages(t *testing.T) {
	t.Parallel()
	for r, want := range map[string]string{"en": "en", "EN-gb": "en", "pl": "pl", "pl-Latn-PL": "pl", "pl-x-lubelska": "pl", "de": "", "": "", "-": "", "i-mingo": "", "enx": ""} {
		_, tag, ok := pop3.MatchLanguage(r)
		if tag != want || ok != (want != "") {
			t.Errorf("MatchLanguage(%q): got %q, %v, want %q", r, tag, ok, want)
		}
	}
	for n, want := range map[int64]string{0: "oktetów", 1: "oktet", 2: "oktety", 5: "oktetów", 12: "oktetów", 22: "oktety", 112: "oktetów", 122: "oktety", 101: "oktetów"} {
		if got := pop3.Octets(pop3.Polish, n); got != want {
			t.Errorf("Octets(Polish, %d): got %s, want %s", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "octets", 1: "octet", 2: "octets", 21: "octets"} {
		if got := pop3.Octets(pop3.English, n); got != want {
			t.Errorf("Octets(English, %d): got %s, want %s", n, got, want)
		}
	}
	for text := pop3.TextNone + 1; text < pop3.NumTexts; text++ {
		for _, l := range []pop3.Language{pop3.English, pop3.Polish} {
			s := text.In(l)
			if s == "" || len(s) > 200 || l == pop3.English && !pop3.ASCII([]byte(s)) {
				t.Errorf("text %d in %s is %q: missing, too long, or not ASCII", text, l.Tag(), s)
			}
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{"USER ala", "PASS  x y ", "TOP 1 2", "AUTH PLAIN =", "LIST", "\x00\xff", "TOP  1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := pop3.ParseCommand(line)
		if err != nil {
			return
		}
		again := []byte(c.Verb.String())
		if c.First != nil {
			again = append(append(again, ' '), c.First...)
		}
		if c.Second != nil {
			again = append(append(again, ' '), c.Second...)
		}
		d, err := pop3.ParseCommand(again)
		if err != nil || d.Verb != c.Verb || !bytes.Equal(d.First, c.First) || !bytes.Equal(d.Second, c.Second) {
			t.Errorf("%q parses to %v %q %q, printed and parsed again to %v %q %q, %v", line, c.Verb, c.First, c.Second, d.Verb, d.First, d.Second, err)
		}
	})
}
