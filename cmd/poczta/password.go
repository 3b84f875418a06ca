package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"poczta.example/poczta/internal/admin"
)

// maxPasswordLine bounds the first line of a password file.
const maxPasswordLine = 4096

// secret is the flag of commands that need a password.
type secret struct {
	PasswordFile string `help:"Read the password from the first line of FILE instead of asking; - is the standard input." placeholder:"FILE"`
}

// Input implements asker: the password on one line.
func (s secret) Input(_ context.Context, p *process) (io.ReadCloser, error) {
	password, err := s.read(p)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(strings.NewReader(password + "\n")), nil
}

// read gets the password from the file, from a prompt without echo, or from the
// first line of standard input.
func (s secret) read(p *process) (string, error) {
	if s.PasswordFile != "" {
		f, err := p.open(s.PasswordFile)
		if err != nil {
			return "", err
		}
		defer f.Close()
		return firstLine(f)
	}
	if f, ok := p.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return prompt(f, p.stderr)
	}
	return firstLine(p.stdin)
}

func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxPasswordLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read password: %w", err)
	}
	line = strings.TrimPrefix(line, "\ufeff") // as editors of Windows write it
	if strings.ContainsRune(line, 0) || strings.HasPrefix(line, "\xff\xfe") || strings.HasPrefix(line, "\xfe\xff") {
		return "", errors.New("read password: the file is no plain text (UTF-16?); save it as UTF-8")
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", errors.New("no password was given: type it at the prompt, or put it on the first line of --password-file or of the standard input")
	}
	return line, nil
}

func prompt(f *os.File, w io.Writer) (string, error) {
	ask := func(text string) (string, error) {
		fmt.Fprint(w, text)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(w)
		if err != nil {
			return "", fmt.Errorf("read password: %w", err)
		}
		return string(b), nil
	}
	first, err := ask("Password: ")
	if err != nil {
		return "", err
	}
	again, err := ask("Once more: ")
	if err != nil {
		return "", err
	}
	if first != again {
		return "", errors.New("the two passwords differ; run the command again")
	}
	return first, nil
}

// yes is the flag of commands that destroy something.
type yes struct {
	Yes bool `help:"Do not ask." short:"y"`
}

// Input implements asker: it asks before anything is done.
func (y yes) Input(_ context.Context, p *process) (io.ReadCloser, error) {
	return io.NopCloser(eof{}), y.confirm(p, "This can't be undone.")
}

func (y yes) confirm(p *process, what string) error {
	if y.Yes {
		return nil
	}
	f, ok := p.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return fmt.Errorf("%w: %s Add --yes if it is meant", admin.ErrUsage, what)
	}
	fmt.Fprintf(p.stderr, "%s Go on? [y/N] ", what)
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "y") {
		return errors.New("nothing was done")
	}
	return nil
}
