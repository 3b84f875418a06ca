package smtp_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/smtp"
)

const allExt = smtp.ExtSize | smtp.Ext8BitMIME | smtp.ExtSMTPUTF8 | smtp.ExtDSN | smtp.ExtAuth

// status is code and enhanced code of an error's reply, "" for nil.
func status(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*smtp.Error](err)
	if !ok {
		t.Fatalf("error %v is no *smtp.Error", err)
	}
	return strings.Join(strings.Fields(e.Reply.String())[:2], " ")
}

func TestParseCommand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		want smtp.Command
		err  string
	}{
		{line: "EHLO a.example", want: smtp.Command{Verb: smtp.EHLO, Arg: "a.example"}},
		{line: "ehlo  a.example \t", want: smtp.Command{Verb: smtp.EHLO, Arg: "a.example"}},
		{line: "StartTLS", want: smtp.Command{Verb: smtp.STARTTLS}},
		{line: "QUIT ", want: smtp.Command{Verb: smtp.QUIT}},
		{line: "", want: smtp.Command{}},
		{line: "QUITE", want: smtp.Command{}},
		{line: "unknown", want: smtp.Command{}},
		{line: " NOOP", want: smtp.Command{Arg: "NOOP"}},
		{line: "NOOP\tx", want: smtp.Command{}},
		{line: "NOOP \x00", err: "500 5.5.2"},
		{line: "NOOP\r", err: "500 5.5.2"},
		{line: "NOOP \x7f", err: "500 5.5.2"},
	} {
		got, err := smtp.ParseCommand([]byte(tt.line))
		if status(t, err) != tt.err || got != tt.want {
			t.Errorf("ParseCommand(%q) = %+v, %v; want %+v, %q", tt.line, got, err, tt.want, tt.err)
		}
	}
}

func TestParseMail(t *testing.T) {
	t.Parallel()
	path := func(s string) address.ReversePath {
		p, err := address.ParseReversePath(s, true)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, tt := range []struct {
		arg  string
		want smtp.Mail
		err  string
	}{
		{arg: "FROM:<>", want: smtp.Mail{}},
		{arg: "from:  <>", want: smtp.Mail{}},
		{arg: `FROM:<"> x"@a.example> size=007`, want: smtp.Mail{ReversePath: path(`<"> x"@a.example>`), Size: 7}},
		{arg: "FROM:<a@a.example> SIZE=99999999999999999999 BODY=7bit", want: smtp.Mail{ReversePath: path("<a@a.example>"), Size: math.MaxInt64, Body: envelope.Body7Bit}},
		{arg: "FROM:<ż@a.example> SMTPUTF8 RET=full ENVID=+2B AUTH=<>", want: smtp.Mail{ReversePath: path("<ż@a.example>"), SMTPUTF8: true, Return: envelope.ReturnFull, EnvelopeID: "+", Auth: "<>"}},
		{arg: "FROM:<ż@a.example>", err: "553 5.6.7"},
		{arg: "FROM", err: "501 5.5.2"},
		{arg: "FROM <a@a.example>", err: "501 5.5.2"},
		{arg: "FROM:a@a.example", err: "501 5.1.7"},
		{arg: "FROM:<a@a.example", err: "501 5.1.7"},
		{arg: "FROM:<a>", err: "501 5.1.7"},
		{arg: "FROM:<a@a.example>x", err: "501 5.5.4"},
		{arg: "FROM:<> SIZE=", err: "501 5.5.4"},
		{arg: "FROM:<> SIZE=1 size=1", err: "501 5.5.4"},
		{arg: "FROM:<> BODY=9BIT", err: "501 5.5.4"},
		{arg: "FROM:<> BODY=BINARYMIME", err: "555 5.6.1"},
		{arg: "FROM:<> ENVID=" + strings.Repeat("x", 101), err: "501 5.5.4"},
		{arg: "FROM:<> FUTURE=1", err: "555 5.5.4"},
		{arg: "FROM:<> -X=1", err: "501 5.5.4"},
		{arg: "FROM:<> " + strings.Repeat("SIZE=1 ", 500), err: "501 5.5.4"},
	} {
		got, err := smtp.ParseMail(tt.arg, allExt)
		if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b address.ReversePath) bool { return a == b })); status(t, err) != tt.err || diff != "" {
			t.Errorf("ParseMail(%q): %v, want %q; (-want +got):\n%s", tt.arg, err, tt.err, diff)
		}
	}
	for _, arg := range []string{"SIZE=1", "BODY=7BIT", "SMTPUTF8", "RET=FULL", "ENVID=x", "AUTH=<>"} {
		if _, err := smtp.ParseMail("FROM:<> "+arg, 0); status(t, err) != "555 5.5.4" {
			t.Errorf("%s without its extension: %v", arg, err)
		}
	}
}

func TestParseRcpt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		arg  string
		utf8 bool
		want envelope.Recipient // the forward-path is not compared
		err  string
	}{
		{arg: "TO:<Postmaster>"},
		{arg: "TO:<b@foo.com> NOTIFY=success,failure,delay", want: envelope.Recipient{Notify: envelope.NotifySuccess | envelope.NotifyFailure | envelope.NotifyDelay}},
		{arg: "TO:<b@foo.com> NOTIFY=NEVER ORCPT=X400;c=pl", err: "501 5.5.4"},
		{arg: "TO:<b@foo.com> ORCPT=X400;c+3Dpl", want: envelope.Recipient{Original: envelope.OriginalRecipient{Type: "x400", Address: "c=pl"}}},
		{arg: `TO:<b@foo.com> ORCPT=utf-8;\x{17C}\x{1F600}\x{5C}@foo.com`, want: envelope.Recipient{Original: envelope.OriginalRecipient{Type: "utf-8", Address: `ż😀\@foo.com`}}},
		{arg: "TO:<b@foo.com> ORCPT=utf-8;ż@foo.com", utf8: true, want: envelope.Recipient{Original: envelope.OriginalRecipient{Type: "utf-8", Address: "ż@foo.com"}}},
		{arg: "TO:<b@foo.com> ORCPT=utf-8;ż@foo.com", err: "501 5.5.4"},
		{arg: "TO:<b@foo.com> ORCPT=utf-8;a+2Bb@foo.com", want: envelope.Recipient{Original: envelope.OriginalRecipient{Type: "utf-8", Address: "a+b@foo.com"}}},
		{arg: `TO:<b@foo.com> ORCPT=utf-8;\x{D800}@foo.com`, err: "501 5.5.4"},
		{arg: `TO:<b@foo.com> ORCPT=utf-8;\x{0A}@foo.com`, err: "501 5.5.4"},
		{arg: "TO:<b@foo.com> ORCPT=rfc822;" + strings.Repeat("x", 500), err: "501 5.5.4"},
		{arg: "TO:<b@foo.com> SIZE=1", err: "555 5.5.4"},
		{arg: "TO:<>", err: "501 5.1.3"},
		{arg: "FROM:<b@foo.com>", err: "501 5.5.2"},
	} {
		got, err := smtp.ParseRcpt(tt.arg, allExt, tt.utf8)
		if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(envelope.Recipient{}, "ForwardPath", "ReversePath")); status(t, err) != tt.err || err == nil && diff != "" {
			t.Errorf("ParseRcpt(%q): %v, want %q; (-want +got):\n%s", tt.arg, err, tt.err, diff)
		}
	}
}

func TestParseBDAT(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		arg  string
		size int64
		last bool
		err  string
	}{
		{arg: "0", size: 0}, {arg: "12 last", size: 12, last: true}, {arg: "9223372036854775807", size: math.MaxInt64},
		{arg: "", err: "501 5.5.4"}, {arg: "x", err: "501 5.5.4"}, {arg: "-1", err: "501 5.5.4"}, {arg: "+1", err: "501 5.5.4"},
		{arg: "9223372036854775808", err: "501 5.5.4"}, {arg: "1 FIRST", err: "501 5.5.4"}, {arg: "1 LAST x", err: "501 5.5.4"},
	} {
		size, last, err := smtp.ParseBDAT(tt.arg)
		if size != tt.size || last != tt.last || status(t, err) != tt.err {
			t.Errorf("ParseBDAT(%q) = %d, %v, %v; want %d, %v, %q", tt.arg, size, last, err, tt.size, tt.last, tt.err)
		}
	}
}

func TestReply(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reply       smtp.Reply
		wire, plain string
	}{
		{smtp.Reply{Code: 250, Subject: 1, Detail: 5, Text: "Ok"}, "250 2.1.5 Ok\r\n", "250 Ok\r\n"},
		{smtp.Reply{Code: 451, Text: ""}, "451 4.0.0 \r\n", "451 \r\n"},
		{smtp.Reply{Code: 354, Subject: 9, Detail: 9, Text: "Go"}, "354 Go\r\n", "354 Go\r\n"},
		{smtp.Reply{Code: 550, Subject: 7, Detail: 1, Text: "a\nb"}, "550-5.7.1 a\r\n550 5.7.1 b\r\n", "550-a\r\n550 b\r\n"},
		{smtp.Reply{Code: 550, Text: "a\r\n250 b\x00ż"}, "550-5.0.0 a?\r\n550 5.0.0 250 b???\r\n", "550-a?\r\n550 250 b???\r\n"},
	} {
		if got := string(tt.reply.AppendTo(nil)); got != tt.wire {
			t.Errorf("%v on the wire: got %q, want %q", tt.reply, got, tt.wire)
		}
		if got := string(tt.reply.AppendPlain(nil)); got != tt.plain {
			t.Errorf("%v plain: got %q, want %q", tt.reply, got, tt.plain)
		}
	}
}

// TestReplyLong holds that no line exceeds the limit and no word is lost.
func TestReplyLong(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat("word ", 400), strings.Repeat("x", 3000), strings.Repeat("a b\n", 300)} {
		wire := string(smtp.Reply{Code: 550, Subject: 999, Detail: 999, Text: text}.AppendTo(nil))
		var back strings.Builder
		lines := strings.SplitAfter(strings.TrimSuffix(wire, "\r\n"), "\r\n")
		for i, line := range lines {
			if len(line) > smtp.MaxReplyLine {
				t.Errorf("a line has %d octets", len(line))
			}
			if (line[3] == ' ') != (i == len(lines)-1) {
				t.Errorf("line %d of %d is %.20q", i, len(lines), line)
			}
			back.WriteString(strings.TrimSpace(line[len("550-5.999.999 "):]))
		}
		if got, want := back.String(), strings.Join(strings.Fields(text), ""); strings.Join(strings.Fields(got), "") != want {
			t.Errorf("text of %d octets came out as %d", len(want), len(got))
		}
	}
}

func TestReplyOf(t *testing.T) {
	t.Parallel()
	cause := errors.New("disk is on fire")
	if r, known := smtp.ReplyOf(cause); known || r.Code != 451 || strings.Contains(r.Text, "fire") {
		t.Errorf("got %v, %v", r, known)
	}
	err := &smtp.Error{Reply: smtp.Reply{Code: 552, Subject: 3, Detail: 4}, Err: cause}
	if r, known := smtp.ReplyOf(errors.Join(errors.New("x"), err)); !known || r != err.Reply {
		t.Errorf("got %v, %v", r, known)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
}

func TestIsForeign(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"GET / HTTP/1.1": true, "post /x HTTP/1.0": true, "\x16\x03\x01\x00": true, "Host: x": true,
		"HELO x": false, "HELP": false, "": false, "GETTING": false, "MAIL FROM:<GET @x>": false,
	} {
		if got := smtp.IsForeign([]byte(line)); got != want {
			t.Errorf("IsForeign(%q) = %v", line, got)
		}
	}
}

func FuzzCommand(f *testing.F) {
	for _, s := range []string{"MAIL FROM:<a@a.example> SIZE=1 BODY=8BITMIME", "RCPT TO:<b@foo.com> NOTIFY=NEVER ORCPT=utf-8;\\x{17C}", "BDAT 10 LAST", "AUTH PLAIN =", "XCLIENT NAME=a ADDR=IPV6:::1 LOGIN=+41", "EHLO [::1]", "MAIL FROM:<\"a\\\"@b\"@c>"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		cmd, err := smtp.ParseCommand(line)
		if err != nil {
			return
		}
		if len(cmd.Arg) > len(line) {
			t.Errorf("argument %q is longer than its line", cmd.Arg)
		}
		for _, utf8 := range []bool{false, true} {
			if r, err := smtp.ParseRcpt(cmd.Arg, allExt, utf8); err == nil {
				if strings.ContainsAny(r.Original.Address, "\r\n\x00") {
					t.Errorf("ORCPT %q holds a control character", r.Original.Address)
				}
				back, err := smtp.ParseRcpt("TO:"+r.ForwardPath.String(), 0, true)
				if err != nil || back.ForwardPath.Key() != r.ForwardPath.Key() {
					t.Errorf("%v printed and parsed: %v, %v", r.ForwardPath, back.ForwardPath, err)
				}
			} else {
				status(t, err)
			}
		}
		if m, err := smtp.ParseMail(cmd.Arg, allExt); err == nil {
			if back, err := smtp.ParseMail("FROM:"+m.ReversePath.String()+" SMTPUTF8", allExt); err != nil || back.ReversePath.Address().Key() != m.ReversePath.Address().Key() {
				t.Errorf("%v printed and parsed: %v, %v", m.ReversePath, back.ReversePath, err)
			}
		}
		_, _, _ = smtp.ParseBDAT(cmd.Arg)
		_, _, _, _ = smtp.ParseAuth(cmd.Arg)
		_, _ = smtp.ParseHello(cmd.Arg)
		_, _ = smtp.ParseXClient(cmd.Arg, 0xff)
	})
}

func FuzzXtext(f *testing.F) {
	f.Add("a+b=c ż\x00")
	f.Fuzz(func(t *testing.T, s string) {
		back, err := smtp.DecodeXtext(smtp.EncodeXtext(s))
		if err != nil || back != s {
			t.Errorf("%q came back as %q, %v", s, back, err)
		}
		if d, err := smtp.DecodeXtext(s); err == nil {
			if again, err := smtp.DecodeXtext(smtp.EncodeXtext(d)); err != nil || again != d {
				t.Errorf("%q decoded to %q, which came back as %q, %v", s, d, again, err)
			}
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add("a\nb\r\nc")
	f.Fuzz(func(t *testing.T, text string) {
		wire := string(smtp.Reply{Code: 550, Text: text}.AppendTo(nil))
		if !strings.HasSuffix(wire, "\r\n") {
			t.Fatalf("%q does not end with CRLF", wire)
		}
		lines := strings.Split(strings.TrimSuffix(wire, "\r\n"), "\r\n")
		for i, line := range lines {
			if len(line)+2 > smtp.MaxReplyLine || strings.ContainsAny(line, "\r\n") || !strings.HasPrefix(line, "550") || (line[3] == ' ') != (i == len(lines)-1) {
				t.Fatalf("line %d is %q", i, line)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	mail, rcpt := []byte("MAIL FROM:<ala@a.example> SIZE=4096 BODY=8BITMIME"), []byte("RCPT TO:<b@foo.com>")
	b.ReportAllocs()
	for b.Loop() {
		c, _ := smtp.ParseCommand(mail)
		if _, err := smtp.ParseMail(c.Arg, allExt); err != nil {
			b.Fatal(err)
		}
		c, _ = smtp.ParseCommand(rcpt)
		if _, err := smtp.ParseRcpt(c.Arg, allExt, false); err != nil {
			b.Fatal(err)
		}
	}
}
