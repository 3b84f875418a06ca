package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/control"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/store"
)

// maildesk is a command over a person's open mail, here or in the process that has it open.
type maildesk interface {
	Do(ctx context.Context, d *mua.Desk) error
}

// preparer is a maildesk command that asks on the caller's side before anything is done.
type preparer interface{ Prepare(p *process) error }

// writer is a maildesk command with something to read; Input runs on the caller's side.
type writer interface{ Input(p *process) io.Reader }

// lasting is a maildesk command that takes long: others run in its process meanwhile.
type lasting interface{ lasts() }

// starting is a maildesk command that makes the folder.
type starting interface{ starts() }

// mailSocket is the socket in a person's folder.
const mailSocket = "control.sock"

// runMail runs a maildesk command line.
func runMail(ctx context.Context, p *process, c *cli, cmd maildesk) error {
	defer context.AfterFunc(ctx, p.release)()
	if a, ok := cmd.(preparer); ok {
		if err := a.Prepare(p); err != nil {
			return err
		}
	}
	in := io.Reader(eof{})
	if w, ok := cmd.(writer); ok {
		in = w.Input(p)
	}
	return callMail(ctx, p, c, p.args, control.Streams{In: in, Out: p.stdout, Err: p.stderr})
}

// folder is where the mail lies.
func (m *muaCmd) folder() (string, error) {
	if m.Data == "" {
		return mua.DefaultFolder()
	}
	return m.absolute(m.Data), nil
}

// absolute is a path as the caller meant it.
func (m *muaCmd) absolute(path string) string {
	if !filepath.IsAbs(path) && m.Cwd != "" {
		return filepath.Join(m.Cwd, path)
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// language is that of the caller's locale.
func (m *muaCmd) language() string {
	if m.Lang != "" {
		return m.Lang
	}
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := os.Getenv(name); v != "" {
			if strings.HasPrefix(v, "pl") {
				return "pl"
			}
			return "en"
		}
	}
	return "en"
}

// callMail runs a command line in the process that has the folder, or opens it here.
func callMail(ctx context.Context, p *process, c *cli, args []string, s control.Streams) error {
	folder, err := c.Mail.folder()
	if err != nil {
		return err
	}
	carried := []string{"--data=" + folder, "--lang=" + c.Mail.language()}
	if wd, err := os.Getwd(); err == nil {
		carried = append(carried, "--cwd="+wd)
	}
	if f, ok := p.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		carried = append(carried, "--terminal")
	}
	// Behind the words of the command, and in front of what follows "--".
	args = append(carried, args...)
	deadline := time.Now().Add(busyWait)
	for {
		err := inHolder(ctx, folder, args, s)
		if errors.Is(err, control.ErrNoServer) {
			err = openMail(ctx, p, c, folder, args, s)
		}
		if !errors.Is(err, store.ErrBusy) || time.Now().After(deadline) || ctx.Err() != nil {
			return told(err, c.Mail.language())
		}
		select { // another command, which has no socket or is at its end
		case <-ctx.Done():
		case <-time.After(busyPause):
		}
	}
}

// usage makes a wrong usage of the mail program one of the command line.
func usage(err error) error {
	if errors.Is(err, mua.ErrUsage) {
		return fmt.Errorf("%w: %s", admin.ErrUsage, strings.TrimPrefix(err.Error(), mua.ErrUsage.Error()+": "))
	}
	return err
}

// told is an error as the command line tells it, with what can be done about it.
func told(err error, language string) error {
	if advice := mua.Advice(err, language); advice != "" {
		return fmt.Errorf("%w. %s", err, advice)
	}
	return usage(err)
}

// inHolder runs a command line in the process that has the folder; control.ErrNoServer when
// there is none that can be asked, store.ErrBusy when it is at its end.
func inHolder(ctx context.Context, folder string, args []string, s control.Streams) error {
	conn, err := control.Dial(ctx, filepath.Join(folder, mailSocket), os.Geteuid())
	switch {
	case errors.Is(err, fs.ErrNotExist): // it went as we looked
		return fmt.Errorf("%w: %w", control.ErrNoServer, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("look into %s: %w", folder, fs.ErrPermission)
	case err != nil && foreign(folder):
		return fmt.Errorf("another user reads their mail in %s: %w", folder, fs.ErrPermission)
	case err != nil:
		return err
	}
	code, err := control.Run(ctx, conn, version, args, s)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("the command that has your mail open ended in the middle of this one; look what was done, and do the rest again: %w", err)
	case err != nil:
		return err
	case code == exitBusy:
		return store.ErrBusy
	case code != exitDone:
		return exitCode(code)
	}
	return nil
}

// openMail opens the folder in this process and runs a command line; while a lasting one works,
// others run beside it.
func openMail(ctx context.Context, p *process, c *cli, folder string, args []string, s control.Streams) (err error) {
	in, cmd, err := parse(args, s.Out, s.Err)
	if err != nil {
		return err
	}
	work, ok := cmd.(maildesk)
	if !ok {
		return fmt.Errorf("%w: this is no command of poczta mail", admin.ErrUsage)
	}
	if _, makes := cmd.(starting); !makes {
		if _, err := os.Stat(filepath.Join(folder, store.DatabaseFile)); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("there is no mail in %s yet; set up an account with: poczta mail add ADDRESS, or bring old mail in with: poczta mail import PATH", folder)
		}
	}
	m, err := mua.Open(ctx, mua.Config{Folder: folder, Ask: p.passphrase(c), AtTerminal: c.Mail.PassphraseFile == "", VaultFile: c.Mail.SecretsFile, Version: version})
	if err != nil {
		return err
	}
	h := &holder{mail: m}
	defer func() { err = errors.Join(err, m.Close()) }()
	if _, long := cmd.(lasting); long {
		end := h.serve(ctx, filepath.Join(folder, mailSocket), s.Err)
		defer end()
	}
	return h.work(ctx, in, work, s)
}

// holder has a folder open and runs commands in it.
type holder struct {
	mail *mua.Mail

	mu      sync.Mutex
	closing bool
	running sync.WaitGroup
}

// work runs one command. A command whose output could not be written has failed.
func (h *holder) work(ctx context.Context, c *cli, cmd maildesk, s control.Streams) error {
	out := &failing{w: s.Out}
	err := cmd.Do(ctx, &mua.Desk{Mail: h.mail, In: s.In, Out: out, Err: s.Err, Terminal: c.Mail.Terminal, Language: c.Mail.language(), Path: c.Mail.absolute})
	if err == nil && out.err != nil {
		err = fmt.Errorf("write output: %w; what the command had to do is done", out.err)
	}
	return err
}

// serve runs others' commands until end is called, which lets those finish that run. Without a
// socket, others wait, which is said.
func (h *holder) serve(ctx context.Context, path string, notes io.Writer) (end func()) {
	l, err := control.Listen(path)
	if err != nil {
		fmt.Fprintln(notes, printable(fmt.Sprintf("Other commands on this folder wait until this one ends (%v).", err)))
		return func() {}
	}
	s, err := control.New(control.Config{Version: version, Owner: -1, Handler: h.command})
	if err != nil {
		_ = l.Close()
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ctx, l) // commands that can't be taken are told so
	}()
	return func() {
		h.mu.Lock()
		h.closing = true
		h.mu.Unlock()
		h.running.Wait()
		cancel()
		<-done
	}
}

// command is a command line of another process.
func (h *holder) command(ctx context.Context, args []string, s control.Streams) int {
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		return exitBusy
	}
	h.running.Add(1)
	h.mu.Unlock()
	defer h.running.Done()
	c, cmd, err := parse(args, s.Out, s.Err)
	if err != nil {
		return report(s.Err, err)
	}
	work, ok := cmd.(maildesk)
	if !ok {
		return report(s.Err, fmt.Errorf("%w: this is no command of poczta mail", admin.ErrUsage))
	}
	return report(s.Err, told(h.work(ctx, c, work, s), c.Mail.language()))
}

// passphrase asks for that of the encrypted file of secrets.
func (p *process) passphrase(c *cli) func(fresh bool) (string, error) {
	return func(fresh bool) (string, error) {
		if c.Mail.known != "" && !fresh { // it was asked for a moment ago
			return c.Mail.known, nil
		}
		if name := c.Mail.PassphraseFile; name != "" {
			f, err := p.open(name)
			if err != nil {
				return "", err
			}
			defer f.Close()
			text, err := firstLine(f)
			if err != nil {
				return "", fmt.Errorf("the passphrase in the first line of %s: %w", name, err)
			}
			c.Mail.known = text
			return text, nil
		}
		f, ok := p.stdin.(*os.File)
		if !ok || !term.IsTerminal(int(f.Fd())) {
			return "", errors.New("the passwords lie in an encrypted file; give its passphrase by --passphrase-file or POCZTA_MAIL_PASSPHRASE_FILE, since there is no terminal to ask at")
		}
		pl := c.Mail.language() == "pl"
		text := map[bool]string{false: "Passphrase of the file with your passwords: ", true: "Hasło do pliku z hasłami: "}[pl]
		if !fresh {
			var err error
			c.Mail.known, err = hidden(f, p.stderr, text)
			return c.Mail.known, err
		}
		fmt.Fprintln(p.stderr, map[bool]string{false: "There is no keyring here, so your mail passwords are kept in a file encrypted with a passphrase. Choose one, and remember it.",
			true: "Nie ma tu systemowego pęku kluczy, więc hasła do poczty będą w pliku zaszyfrowanym hasłem. Wybierz je i zapamiętaj."}[pl])
		return twice(f, p.stderr, text, map[bool]string{false: "Once more: ", true: "Jeszcze raz: "}[pl])
	}
}

// hidden reads a line without echo.
func hidden(f *os.File, w io.Writer, text string) (string, error) {
	fmt.Fprint(w, text)
	b, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(w)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	return string(b), nil
}

func twice(f *os.File, w io.Writer, text, again string) (string, error) {
	first, err := hidden(f, w, text)
	if err != nil {
		return "", err
	}
	second, err := hidden(f, w, again)
	if err != nil {
		return "", err
	}
	if first != second || first == "" {
		return "", errors.New("the two differ, or are empty; run the command again")
	}
	return first, nil
}
