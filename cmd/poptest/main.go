// Command poptest checks any POP3 server against the standards.
//
//	poptest HOST:PORT -user U -password-file F [-tls|-starttls] [-insecure] [-destructive] [-json]
//	        [-send HOST:PORT -to ADDRESS] [-seeded N]
//
// Exit status: 0 all passed, 1 a check failed or the server can't be used, 2 wrong usage.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"poczta.example/poczta/internal/poptest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the command line.
type options struct {
	config       poptest.Config
	passwordFile string
	insecure     bool
	json         bool
	send         string
	from, to     string
	seeded       int
}

var errUsage = errors.New("usage: poptest HOST:PORT -user U [-password-file F] [-tls|-starttls] [-insecure] [-destructive] [-json] [-send HOST:PORT -to ADDRESS] [-seeded N]")

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(errOut, "poptest:", err)
		return 2
	}
	if o.config.Password, err = password(o.passwordFile, in); err != nil {
		fmt.Fprintln(errOut, "poptest:", err)
		return 2
	}
	o.config.TLSConfig = &tls.Config{InsecureSkipVerify: o.insecure} // only by -insecure, for servers with a test certificate
	failed, err := check(ctx, o, out)
	if err != nil {
		fmt.Fprintln(errOut, "poptest:", err)
		return 1
	}
	if failed > 0 {
		return 1
	}
	return 0
}

// parse reads the command line; flags may stand before and after the address.
func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("poptest", flag.ContinueOnError)
	f.StringVar(&o.config.User, "user", "", "login `name`")
	f.StringVar(&o.passwordFile, "password-file", "", "`file` whose first line is the password; without it, the first line of stdin")
	f.BoolVar(&o.config.TLS, "tls", false, "TLS from the first octet (port 995)")
	f.BoolVar(&o.config.StartTLS, "starttls", false, "STLS before each login")
	f.BoolVar(&o.insecure, "insecure", false, "take any certificate")
	f.BoolVar(&o.config.Destructive, "destructive", false, "check deletion too: DELETES MESSAGES of the mailbox")
	f.BoolVar(&o.json, "json", false, "print one JSON array")
	f.StringVar(&o.send, "send", "", "SMTP server `HOST:PORT` that brings our messages into the mailbox first")
	f.StringVar(&o.from, "from", "poptest@poptest.invalid", "reverse-path for -send")
	f.StringVar(&o.to, "to", "", "forward-path for -send; default is the user")
	f.IntVar(&o.seeded, "seeded", 0, "the mailbox must hold at least `N` messages")
	f.DurationVar(&o.config.Timeout, "timeout", 10*time.Second, "for each reply")
	for len(args) > 0 {
		if err := f.Parse(args); err != nil {
			return o, err
		}
		if args = f.Args(); len(args) > 0 {
			if o.config.Addr != "" {
				return o, errUsage
			}
			o.config.Addr, args = args[0], args[1:]
		}
	}
	if o.config.Addr == "" || o.config.User == "" {
		return o, errUsage
	}
	if o.to == "" {
		o.to = o.config.User
	}
	return o, nil
}

// password reads the first line of a file or of in.
func password(file string, in io.Reader) (string, error) {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read password: %w", err)
		}
		defer f.Close()
		in = f
	}
	line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
	if err != nil && (err != io.EOF || line == "") {
		return "", fmt.Errorf("read password: %w: give -password-file, or the password as first line of stdin", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// check runs the suite and prints what it finds.
func check(ctx context.Context, o options, out io.Writer) (failed int, err error) {
	if o.send != "" {
		o.config.Seeds = poptest.Messages(o.from, o.to)
		o.seeded = max(o.seeded, len(o.config.Seeds))
		if err := poptest.Send(ctx, o.send, o.from, o.to, o.config.Seeds); err != nil {
			return 0, err
		}
	}
	s, err := poptest.New(o.config)
	if err != nil {
		return 0, err
	}
	if o.seeded > 0 {
		if err := s.AwaitMessages(ctx, o.seeded); err != nil {
			return 0, err
		}
	}
	count := map[poptest.Outcome]int{}
	results := []poptest.Result{}
	err = s.Run(ctx, func(r poptest.Result) {
		count[r.Outcome]++
		results = append(results, r)
		if !o.json {
			print(out, r)
		}
	})
	if err != nil {
		return 0, err
	}
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return count[poptest.Fail], e.Encode(results)
	}
	fmt.Fprintf(out, "\n%d checks: %d pass, %d fail, %d skip, %d info\n", len(results),
		count[poptest.Pass], count[poptest.Fail], count[poptest.Skip], count[poptest.Info])
	return count[poptest.Fail], nil
}

func print(out io.Writer, r poptest.Result) {
	fmt.Fprintf(out, "%-4s %3d  %s (%s)\n", r.Outcome, r.Number, r.Name, r.Source)
	if r.Expected != "" {
		fmt.Fprintf(out, "          expected %s\n", r.Expected)
	}
	if r.Got != "" {
		fmt.Fprintf(out, "          %s\n", r.Got)
	}
}
