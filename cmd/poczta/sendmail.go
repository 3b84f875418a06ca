package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/control"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/profile"
)

// Exit codes of sendmail, as sysexits.h has them.
const (
	exUsage       = 64
	exDataErr     = 65 // the letter, or an address
	exUnavailable = 69 // a server refused it
	exTempFail    = 75 // nothing was taken: try again
	exNoPerm      = 77 // no account may write so
	exConfig      = 78 // there is no account
)

// asSendmail turns the command line of a program that was started as sendmail, and of poczta
// sendmail, into that of poczta mail sendmail.
func asSendmail(program string, args []string) []string {
	name := strings.TrimSuffix(filepath.Base(program), ".exe")
	switch {
	case name == "sendmail":
		return append([]string{"mail", "sendmail"}, args...)
	case len(args) > 0 && args[0] == "sendmail":
		return append([]string{"mail"}, args...)
	}
	return args
}

// muaSendmailCmd is sendmail's command line, for scripts, git send-email and cron.
type muaSendmailCmd struct {
	Args []string `arg:"" optional:"" passthrough:"" help:"As for sendmail: recipients, -t, -f ADDRESS, -i."`
}

// Help implements kong's HelpProvider.
func (c *muaSendmailCmd) Help() string {
	return `Takes a finished letter on the standard input, as sendmail does; also as poczta sendmail, and when
the program is started by that name. It exits with 0 when the letter is in the outbox, durably.

  -t            recipients are those of To, Cc and Bcc, too
  -i, -oi       a line with a lone dot does not end the letter
  -f ADDRESS    the reverse-path, and the account by whose server it goes; also -r
  -F NAME       your name, where the letter has no From
  -N WHEN       reports: never, or some of success,failure,delay
  -R full|hdrs  what reports bring back
  -V ID         the id that reports bear
  -bp           list what waits
  --account=ADDRESS  the account, whatever the letter says

Other options of sendmail are passed over, but for those that ask for a server (-bs, -bd).

  git config --global sendemail.sendmailcmd "poczta sendmail"`
}

// Run implements local.
func (c *muaSendmailCmd) Run(ctx context.Context, p *process, all *cli) error {
	defer context.AfterFunc(ctx, p.release)()
	call, err := parseSendmail(c.Args)
	if err == nil && call.mode == 'i' { // newaliases: there are none
		return nil
	}
	if err == nil {
		args, in := append([]string{"mail", "submit"}, call.submit()...), p.stdin
		if call.mode == 'p' {
			args, in = []string{"mail", "outbox", "list"}, eof{}
		}
		if call.dot {
			in = &dotted{r: bufio.NewReader(in)}
		}
		err = callMail(ctx, p, all, args, control.Streams{In: in, Out: p.stdout, Err: p.stderr})
	}
	return sendmailExit(p.stderr, err)
}

// sendmailExit tells an error as sendmail does, with its exit code.
func sendmailExit(w io.Writer, err error) error {
	if err == nil {
		return nil
	}
	if _, told := errors.AsType[exitCode](err); told {
		return err
	}
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), mua.ErrUsage.Error()+": "), admin.ErrUsage.Error()+": ")
	fmt.Fprintf(w, "sendmail: %s\n", text)
	switch {
	case errors.Is(err, mua.ErrUsage), errors.Is(err, admin.ErrUsage), errors.Is(err, outbox.ErrRecipients):
		return exitCode(exUsage)
	case errors.Is(err, outbox.ErrAddress), errors.Is(err, outbox.ErrHeader):
		return exitCode(exDataErr)
	case errors.Is(err, mua.ErrRefused):
		return exitCode(exUnavailable)
	case errors.Is(err, outbox.ErrAccount), errors.Is(err, profile.ErrNotFound):
		return exitCode(exNoPerm)
	case errors.Is(err, os.ErrNotExist):
		return exitCode(exConfig)
	}
	return exitCode(exTempFail)
}

// sendmailCall is a command line of sendmail.
type sendmailCall struct {
	mode      byte // m: take a letter; p: list the queue; i: newaliases
	dot       bool // a lone dot ends the letter
	fields    bool
	from      string
	name      string
	account   string
	notify    string
	giveBack  string
	envelope  string
	addresses []string
}

// sendmailOptions are the options of sendmail, as getopt has them: a colon behind those with a
// value, two where the value must be attached.
const sendmailOptions = "A:B:b:C:cD:d::E:e:F:f:Gh:IiL:M:mN:nO:o:p:Q:q::R:r:sTtUV:vX:x"

// parseSendmail reads a command line of sendmail. Errors wrap mua.ErrUsage.
func parseSendmail(args []string) (*sendmailCall, error) {
	call := &sendmailCall{mode: 'm', dot: true}
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		switch {
		case a == "--":
			call.addresses = append(call.addresses, args...)
			return call, nil
		case strings.HasPrefix(a, "--account"):
			value, attached := strings.CutPrefix(a, "--account=")
			if !attached && (a != "--account" || len(args) == 0) {
				return nil, fmt.Errorf("%w: sendmail's %s is not known", mua.ErrUsage, a)
			}
			if !attached {
				value, args = args[0], args[1:]
			}
			call.account = value
		case len(a) > 1 && a[0] == '-':
			rest, err := call.options(a[1:], args)
			if err != nil {
				return nil, err
			}
			args = rest
		default:
			call.addresses = append(call.addresses, a)
		}
	}
	return call, nil
}

// options takes one word of options, and the value behind it where one is needed.
func (call *sendmailCall) options(word string, args []string) (rest []string, err error) {
	for i := range len(word) {
		at := strings.IndexByte(sendmailOptions, word[i])
		if at < 0 || word[i] == ':' {
			return nil, fmt.Errorf("%w: sendmail's -%c is not known", mua.ErrUsage, word[i])
		}
		wants := strings.HasPrefix(sendmailOptions[at+1:], ":")
		if !wants {
			call.plain(word[i])
			continue
		}
		value := word[i+1:]
		if value == "" && !strings.HasPrefix(sendmailOptions[at+1:], "::") {
			if len(args) == 0 {
				return nil, fmt.Errorf("%w: sendmail's -%c needs a value", mua.ErrUsage, word[i])
			}
			value, args = args[0], args[1:]
		}
		return args, call.valued(word[i], value)
	}
	return args, nil
}

// plain takes an option without a value.
func (call *sendmailCall) plain(option byte) {
	switch option {
	case 't':
		call.fields = true
	case 'i':
		call.dot = false
	case 'I':
		call.mode = 'i'
	}
}

// valued takes an option with its value.
func (call *sendmailCall) valued(option byte, value string) error {
	switch option {
	case 'b':
		switch value {
		case "m", "p", "i":
			call.mode = value[0]
		default:
			return fmt.Errorf("%w: sendmail's -b%s is not here: a letter is taken on the standard input, and no server is run", mua.ErrUsage, value)
		}
	case 'q':
		return fmt.Errorf("%w: sendmail's -q is not here; what waits is sent by: poczta mail sync", mua.ErrUsage)
	case 'f', 'r':
		if call.from = strings.TrimSpace(value); call.from == "" || call.from == "<>" {
			call.from = "<>"
		} else {
			call.from = strings.Trim(call.from, "<>")
		}
	case 'F':
		call.name = value
	case 'N':
		call.notify = strings.ToLower(value)
	case 'R':
		call.giveBack = strings.ToLower(value)
		if call.giveBack != "full" && call.giveBack != "hdrs" {
			return fmt.Errorf("%w: sendmail's -R %s; write full or hdrs", mua.ErrUsage, value)
		}
	case 'V':
		call.envelope = value
	case 'o':
		if strings.HasPrefix(value, "i") {
			call.dot = false
		}
	case 'O':
		if strings.EqualFold(value, "IgnoreDots") || strings.EqualFold(value, "IgnoreDots=true") {
			call.dot = false
		}
	}
	return nil
}

// submit is the command line of submit.
func (call *sendmailCall) submit() []string {
	var args []string
	add := func(flag, value string) {
		if value != "" {
			args = append(args, flag+"="+value)
		}
	}
	if call.fields {
		args = append(args, "--from-header")
	}
	add("--reverse-path", call.from)
	add("--name", call.name)
	add("--account", call.account)
	add("--notify", call.notify)
	add("--give-back", call.giveBack)
	add("--envelope-id", call.envelope)
	for _, a := range call.addresses {
		args = append(args, "--to="+a)
	}
	return args
}

// dotted is a letter that ends with a line of a lone dot.
type dotted struct {
	r     *bufio.Reader
	line  []byte // what is left of the line
	inner bool   // the line went on from a piece before
	done  bool
}

// Read implements io.Reader.
func (d *dotted) Read(p []byte) (int, error) {
	for len(d.line) == 0 {
		if d.done {
			return 0, io.EOF
		}
		line, err := d.r.ReadSlice('\n')
		if !d.inner && bytes.Equal(bytes.TrimRight(line, "\r\n"), []byte(".")) && (err == nil || errors.Is(err, io.EOF)) {
			d.done = true
			return 0, io.EOF
		}
		d.inner = errors.Is(err, bufio.ErrBufferFull)
		switch {
		case errors.Is(err, io.EOF):
			d.done = true
		case err != nil && !d.inner:
			return 0, err
		}
		d.line = line // good until the next ReadSlice
	}
	n := copy(p, d.line)
	d.line = d.line[n:]
	return n, nil
}

// muaSubmitCmd is what sendmail becomes.
type muaSubmitCmd struct {
	ReversePath string
	Name        string
	Account     string
	Notify      string
	GiveBack    string
	EnvelopeID  string   `name:"envelope-id"`
	To          []string `sep:"none"`
	FromHeader  bool
}

// Input implements writer.
func (c *muaSubmitCmd) Input(p *process) io.Reader { return p.stdin }

func (c *muaSubmitCmd) Do(ctx context.Context, d *mua.Desk) error {
	notify, err := mua.ParseNotify(c.Notify)
	if err == nil {
		err = d.Submit(ctx, outbox.Handed{From: c.ReversePath, Name: c.Name, Account: c.Account, Recipients: c.To, FromFields: c.FromHeader,
			Notify: notify, Return: mua.ParseReturn(c.GiveBack), EnvelopeID: c.EnvelopeID})
	}
	return sendmailExit(d.Err, err)
}
