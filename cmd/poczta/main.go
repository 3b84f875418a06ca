// Command poczta is a whole post office: it receives mail by SMTP, keeps it, and
// hands it out by POP3.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"poczta.example/poczta/internal/admin"
)

// version is set by the linker (-X main.version=…).
var version = "0.1.0-dev" // lint: set once, by the linker

// Exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// defaultConfig is the configuration when none is named.
const defaultConfig = "/etc/poczta/poczta.toml"

// cli is the whole command line.
type cli struct {
	Config string `help:"Configuration file; ${file} when none is named." env:"POCZTA_CONFIG" default:"${file}" placeholder:"FILE" short:"c"`

	Demo       demoCmd       `cmd:"" help:"Run a throwaway server on loopback with accounts and sample mail."`
	Setup      setupCmd      `cmd:"" help:"Write the configuration, keys and the first account; print the DNS records."`
	Serve      serveCmd      `cmd:"" help:"Run the server."`
	Check      checkCmd      `cmd:"" help:"Check configuration, ports, certificates and DNS."`
	Domain     domainCmd     `cmd:"" help:"Domains whose mail is ours."`
	Account    accountCmd    `cmd:"" help:"Accounts and their credentials."`
	Alias      aliasCmd      `cmd:"" help:"Addresses that lead to others."`
	Mailbox    mailboxCmd    `cmd:"" help:"Mail: import, export, restore."`
	Trace      traceCmd      `cmd:"" help:"What became of mail for an address, a Message-ID or a queue id."`
	Queue      queueCmd      `cmd:"" help:"Mail that waits for relay."`
	Quarantine quarantineCmd `cmd:"" help:"Mail that the filters have set apart."`
	Spam       spamCmd       `cmd:"" help:"What the filters think, have learned, and are told."`
	Backup     backupCmd     `cmd:"" help:"Backups: make, list, verify, restore, prune, drill."`
	Store      storeCmd      `cmd:"" help:"The store: check, merge, snapshot, rebuild, migrate."`
	Mail       muaCmd        `cmd:"" help:"A person's mail: fetch, read, search, file. Needs no server here."`
	Completion completionCmd `cmd:"" help:"Print what a shell needs to complete commands."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
	Complete   completeCmd   `cmd:"" hidden:"" help:"What may follow; shells ask."`
	Gateway    gatewayCmd    `cmd:"" hidden:"" help:"What check asks the server."`
	Sockets    socketsCmd    `cmd:"" hidden:"" help:"Where the server listens; check asks."`
	Inside     insideCmd     `cmd:"" hidden:"" help:"A process with the rooms, for root."`
	Doc        docCmd        `cmd:"" name:"config-doc" hidden:"" help:"Print docs/configuration.md."`
}

// process is what a command may use of the process it runs in.
type process struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	args   []string
	// release lets the next interrupt end the process at once.
	release func()
}

// local is a command that runs in this process whatever the server does.
type local interface {
	Run(ctx context.Context, p *process, c *cli) error
}

// desk is a command that runs over open rooms, here or inside the server.
type desk interface {
	Work(ctx context.Context, d *admin.Desk) error
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code := run(ctx, &process{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, args: asSendmail(os.Args[0], os.Args[1:]), release: stop})
	stop()
	os.Exit(code)
}

// run runs a command line and returns its exit code.
func run(ctx context.Context, p *process) int {
	c, cmd, err := parse(p.args, p.stdout, p.stderr)
	if errors.Is(err, errHelp) {
		return exitDone
	}
	if err == nil {
		switch cmd := cmd.(type) {
		case local:
			err = cmd.Run(ctx, p, c)
		case desk:
			err = runDesk(ctx, p, c, cmd)
		case maildesk:
			err = runMail(ctx, p, c, cmd)
		default:
			err = fmt.Errorf("%w: name a command; poczta --help lists them", admin.ErrUsage)
		}
	}
	return report(p.stderr, stopped(ctx, err))
}

// exitCode is the outcome of a command that has told its errors already.
type exitCode int

// Error implements error.
func (e exitCode) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// stopped says what an error means of a command that was interrupted (ctx has ended): that it was,
// in the command's own words where it has some, and whatever else went wrong.
func stopped(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || !errors.Is(err, context.Canceled) {
		return err
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return code
	}
	first := "stopped before the end; run it again to do the rest"
	var others []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		switch {
		case strings.HasPrefix(line, "stopped"):
			first = strings.TrimSuffix(line, ": "+context.Canceled.Error())
		case !strings.Contains(line, context.Canceled.Error()):
			others = append(others, line)
		}
	}
	return errors.New(strings.Join(append([]string{first}, others...), "\n"))
}

// report prints an error as one sentence and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	text := strings.TrimPrefix(err.Error(), admin.ErrUsage.Error()+": ")
	for line := range strings.SplitSeq("poczta: "+text, "\n") { // what servers said may be in it
		fmt.Fprintln(w, printable(line))
	}
	if errors.Is(err, admin.ErrUsage) {
		return exitUsage
	}
	return exitFailed
}

// errHelp says that help was asked for and printed.
var errHelp = errors.New("help")

// wrongUsage is an error of the command line, with the command's help to turn to.
func wrongUsage(err error) error {
	text, help := err.Error(), "poczta"
	if pe, ok := errors.AsType[*kong.ParseError](err); ok && pe.Context != nil {
		for _, part := range pe.Context.Path {
			if part.Command != nil {
				help += " " + part.Command.Name
			}
		}
	}
	if flag, _, found := strings.Cut(text, `value but got "EOL"`); found {
		flag, _, _ = strings.Cut(flag, ":")
		text = flag + " needs a value"
	} else if strings.HasPrefix(text, "expected one of ") {
		text = "name a command"
		help += " --help lists them"
		return fmt.Errorf("%w: %s; %s", admin.ErrUsage, text, help)
	} else if missing, ok := strings.CutPrefix(text, "expected "); ok {
		text = "an argument is missing: " + missing
	}
	return fmt.Errorf("%w: %s; see %s --help", admin.ErrUsage, text, help)
}

// parse reads a command line. cmd is the command's struct with its flags filled in.
func parse(args []string, stdout, stderr io.Writer) (c *cli, cmd any, err error) {
	c = new(cli)
	helped := false
	k, err := kong.New(c, kong.Name("poczta"), kong.Description("A whole post office: SMTP in, a durable store, POP3 out."),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Vars{"version": version, "file": defaultConfig})
	if err != nil {
		return nil, nil, fmt.Errorf("command line: %w", err)
	}
	if len(args) > 0 && args[0] == "mail" { // has no configuration file
		for _, f := range k.Model.Flags {
			f.Hidden = f.Hidden || f.Name == "config"
		}
	}
	kctx, err := k.Parse(settle(k.Model.Node, args))
	if helped {
		return nil, nil, errHelp
	}
	if err != nil {
		return nil, nil, wrongUsage(err)
	}
	if c.Config == "" { // POCZTA_CONFIG is there, but empty
		c.Config = defaultConfig
	}
	node := kctx.Selected()
	if node == nil {
		return c, nil, nil
	}
	return c, node.Target.Addr().Interface(), nil
}
