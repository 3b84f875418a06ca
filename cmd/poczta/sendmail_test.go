package main

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mua"
)

func TestParseSendmail(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"-t -oi":                                      "--from-header",
		"-ti":                                         "--from-header",
		"-i -f ala@x.example -- -odd":                 "--reverse-path=ala@x.example --to=-odd",
		"-fala@x.example a@x b@x":                     "--reverse-path=ala@x.example --to=a@x --to=b@x",
		"-FCronDaemon -odi -oem root":                 "--name=CronDaemon --to=root", // Debian's cron
		"-FCronDaemon -i -B8BITMIME -oem root":        "--name=CronDaemon --to=root",
		"-f <> -i a@x":                                "--reverse-path=<> --to=a@x",
		"-r x@y -N success,delay -R hdrs -V 77 a@x":   "--reverse-path=x@y --notify=success,delay --give-back=hdrs --envelope-id=77 --to=a@x",
		"--account=ala@x a@x":                         "--account=ala@x --to=a@x",
		"--account ala@x -t":                          "--from-header --account=ala@x",
		"-v -d0.1 -O Timeout.x=1 -X log -U -n -G a@x": "--to=a@x",
	} {
		call, err := parseSendmail(strings.Fields(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if diff := cmp.Diff(want, strings.Join(call.submit(), " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
		if wantDot := !strings.Contains(line, "i") || strings.HasPrefix(line, "-f"); strings.HasPrefix(line, "-t") && call.dot == !wantDot {
			t.Errorf("%s: a lone dot ends the letter: %v", line, call.dot)
		}
	}
	for _, line := range []string{"-bs", "-bd", "-bt", "-q", "-q15m", "-f", "-R none", "-Z", "--unknown", "--account"} {
		if _, err := parseSendmail(strings.Fields(line)); !errors.Is(err, mua.ErrUsage) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestSendmailDots(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	for text, want := range map[string]string{
		"a\nb\n":              "a\nb\n",
		"a\n.\nrest":          "a\n",
		"a\r\n.\r\nrest":      "a\r\n",
		"a\n..\n.b\n":         "a\n..\n.b\n",
		long + ".\n" + "more": long + ".\n" + "more",
		"a\n.":                "a\n",
		"":                    "",
	} {
		for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
			got, err := io.ReadAll(wrap(&dotted{r: bufio.NewReader(wrap(strings.NewReader(text)))}))
			if err != nil || string(got) != want {
				t.Errorf("%.40q: got %.40q %v", text, got, err)
			}
		}
	}
}

func TestAsSendmail(t *testing.T) {
	t.Parallel()
	for _, tt := range [][3]string{
		{"/usr/sbin/sendmail", "-t -i", "mail sendmail -t -i"},
		{"sendmail.exe", "", "mail sendmail"},
		{"poczta", "sendmail -t", "mail sendmail -t"},
		{"poczta", "mail list", "mail list"},
		{"poczta", "", ""},
	} {
		if got := strings.Join(asSendmail(tt[0], strings.Fields(tt[1])), " "); got != tt[2] {
			t.Errorf("%s %s: got %s", tt[0], tt[1], got)
		}
	}
}

// TestSendmailFlags has flags of ours before the word sendmail, and sendmail's behind it as they stand.
func TestSendmailFlags(t *testing.T) {
	t.Parallel()
	c, cmd, err := parse([]string{"mail", "--secrets-file", "sendmail", "-t", "-oi", "-c", "--", "-x"}, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	m, ok := cmd.(*muaSendmailCmd)
	if !ok || !c.Mail.SecretsFile {
		t.Fatalf("%T, secrets in a file: %v", cmd, c.Mail.SecretsFile)
	}
	if diff := cmp.Diff([]string{"-t", "-oi", "-c", "--", "-x"}, m.Args); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzParseSendmail reads command lines: what is taken becomes flags of submit, each a word.
func FuzzParseSendmail(f *testing.F) {
	f.Add("-t -oi -f x -- y")
	f.Fuzz(func(t *testing.T, line string) {
		call, err := parseSendmail(strings.Fields(line))
		if err != nil {
			if !errors.Is(err, mua.ErrUsage) {
				t.Errorf("%q: %v", line, err)
			}
			return
		}
		for _, a := range call.submit() {
			if !strings.HasPrefix(a, "--") {
				t.Errorf("%q became %q", line, a)
			}
		}
	})
}
