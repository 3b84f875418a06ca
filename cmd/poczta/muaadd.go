package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/term"

	"poczta.example/poczta/internal/control"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/oauth"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// serverFlags name an account's servers by hand.
type serverFlags struct {
	Incoming         string `help:"POP3 server, as in pop.example.org or pop.example.org:995." placeholder:"HOST[:PORT]"`
	Outgoing         string `help:"SMTP server, as in smtp.example.org or smtp.example.org:587." placeholder:"HOST[:PORT]"`
	Security         string `help:"tls (at once), starttls, or none, for servers on this computer alone; by default as the port says." enum:"tls,starttls,none," default:""`
	OutgoingSecurity string `help:"The same for the outgoing server alone." enum:"tls,starttls,none," default:""`
	LoginName        string `name:"login" help:"Login name, when it is not the address." placeholder:"NAME"`
	CA               string `name:"ca" help:"Trust the certificates of authorities in FILE (PEM)." placeholder:"FILE"`
	Cert             string `name:"cert" help:"Your client certificate (PEM)." placeholder:"FILE"`
	Key              string `name:"key" help:"Its key (PEM)." placeholder:"FILE"`
	Accept           string `help:"Accept this certificate though no authority vouches for it." placeholder:"SHA256"`
	AcceptOutgoing   string `help:"The same for the outgoing server, where it has another." placeholder:"SHA256"`
}

// tokenFlags say where tokens come from in place of passwords.
type tokenFlags struct {
	ClientID         string `name:"client-id" help:"Log in with your browser (OAuth2) under this client id of the provider's." placeholder:"ID"`
	ClientSecretFile string `help:"What some providers give with it, in the first line of FILE." placeholder:"FILE"`
	AuthURL          string `name:"auth-url" help:"Where you log in, if that is not found." placeholder:"URL"`
	TokenURL         string `name:"token-url" help:"Where tokens are given, if that is not found." placeholder:"URL"`
	Scope            string `help:"What the token is for, if that is not found."`
	DeviceURL        string `name:"device-url" help:"Log in on another device, with a code." placeholder:"URL"`
}

func (t tokenFlags) provider(p *process) (oauth.Provider, error) {
	o := oauth.Provider{ClientID: t.ClientID, AuthURL: t.AuthURL, TokenURL: t.TokenURL, Scope: t.Scope, DeviceURL: t.DeviceURL}
	if t.ClientSecretFile == "" {
		return o, nil
	}
	f, err := p.open(t.ClientSecretFile)
	if err != nil {
		return o, err
	}
	defer f.Close()
	o.ClientSecret, err = firstLine(f)
	return o, err
}

// muaAddCmd sets up an account: all that is asked and tried happens here, and what was tried is
// saved where the folder is open.
type muaAddCmd struct {
	Address string `arg:"" help:"Your mail address, as in ala@example.org; with --archive, a name."`
	Archive bool   `help:"An account for old mail alone, which neither fetches nor sends: poczta mail import fills it."`
	serverFlags
	policyFlags
	tokenFlags
	PasswordFile string `help:"Read the password from the first line of FILE instead of asking; - is the standard input." placeholder:"FILE"`
	Name         string `help:"Your name, as letters that you send show it."`
	External     bool   `help:"The client certificate alone logs in, without a password."`
	Yes          bool   `help:"Do not ask whether a server outside the address's domain is right." short:"y"`
}

// Help implements kong's HelpProvider.
func (c *muaAddCmd) Help() string {
	return `Nothing is saved before the login to both servers has succeeded. Mail stays on the server
unless --keep says otherwise.

  poczta mail add ala@example.org
  poczta mail add ala@example.org --incoming pop.example.org --outgoing smtp.example.org:587
  poczta mail add ala@example.org --keep days:30 --headers-above 1MiB
  poczta mail add --archive "Old mail"`
}

// Run implements local.
func (c *muaAddCmd) Run(ctx context.Context, p *process, all *cli) error {
	defer context.AfterFunc(ctx, p.release)()
	if c.Archive {
		return c.archive(ctx, p, all)
	}
	change, err := c.change()
	if err != nil {
		return usage(err)
	}
	w := mua.Wish{Address: c.Address, Name: c.Name, Login: c.LoginName, Incoming: c.Incoming, Outgoing: c.Outgoing, Security: c.Security, OutgoingSecurity: c.OutgoingSecurity, External: c.External,
		Accept: c.Accept, AcceptOutgoing: c.AcceptOutgoing, Policy: profile.Policy{Keep: profile.Leave}}
	if err := change.Apply(&w.Policy); err != nil {
		return usage(err)
	}
	for _, f := range []struct {
		to   *string
		from string
	}{{&w.AuthorityFile, c.CA}, {&w.CertificateFile, c.Cert}, {&w.KeyFile, c.Key}} {
		if f.from != "" {
			if *f.to, err = filepath.Abs(f.from); err != nil {
				return fmt.Errorf("find file: %w", err)
			}
		}
	}
	if w.OAuth, err = c.provider(p); err != nil {
		return err
	}
	if err := ready(ctx, p, all, c.Address); err != nil {
		return err
	}
	s := &mua.Setup{Language: all.Mail.language(), Person: &person{p: p, passwordFile: c.PasswordFile, yes: c.Yes, language: all.Mail.language()}}
	n, err := s.Account(ctx, w)
	if err != nil {
		return usage(err)
	}
	return saveMail(ctx, p, all, n, "save-new")
}

// archive makes an archive, of which there is nothing to find or try.
func (c *muaAddCmd) archive(ctx context.Context, p *process, all *cli) error {
	if *c != (muaAddCmd{Address: c.Address, Archive: true}) {
		return usage(fmt.Errorf("%w: an archive has no servers and no password; give --archive with its name alone", mua.ErrUsage))
	}
	return callMail(ctx, p, all, []string{"mail", "save-old", "--", c.Address}, control.Streams{In: eof{}, Out: p.stdout, Err: p.stderr})
}

// saveMail hands what was tried to the process that has the folder.
func saveMail(ctx context.Context, p *process, c *cli, n mua.NewAccount, words ...string) error {
	text, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return callMail(ctx, p, c, slices.Concat([]string{"mail"}, words), control.Streams{In: bytes.NewReader(text), Out: p.stdout, Err: p.stderr})
}

// ready asks, before a person is asked for a password and it goes to servers, whether it could be
// saved. Where there is no mail yet, nothing stands in the way, and nothing is made.
func ready(ctx context.Context, p *process, c *cli, address string) error {
	folder, err := c.Mail.folder()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(folder, store.DatabaseFile)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return callMail(ctx, p, c, []string{"mail", "ready", "--", address}, control.Streams{In: eof{}, Out: io.Discard, Err: p.stderr})
}

type muaReadyCmd struct {
	Address string `arg:"" optional:""`
}

func (c *muaReadyCmd) Do(ctx context.Context, d *mua.Desk) error { return d.Ready(ctx, c.Address) }

type muaSaveNewCmd struct{}

func (*muaSaveNewCmd) starts() {}

func (*muaSaveNewCmd) Do(ctx context.Context, d *mua.Desk) error { return d.AccountAdd(ctx) }

type muaSaveOldCmd struct {
	Name string `arg:""`
}

func (*muaSaveOldCmd) starts() {}

func (c *muaSaveOldCmd) Do(ctx context.Context, d *mua.Desk) error { return d.ArchiveAdd(ctx, c.Name) }

type muaSecretCmd struct {
	Account string `arg:""`
	Untried bool
}

func (c *muaSecretCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.Password(ctx, c.Account, c.Untried)
}

type muaPasswordCmd struct {
	accountName
	PasswordFile string `help:"Read the password from the first line of FILE instead of asking; - is the standard input." placeholder:"FILE"`
	Untried      bool   `help:"Save without logging in to try it."`
}

// Run implements local.
func (c *muaPasswordCmd) Run(ctx context.Context, p *process, all *cli) error {
	defer context.AfterFunc(ctx, p.release)()
	a, err := findAccount(ctx, p, all, c.Account)
	if err != nil {
		return err
	}
	if err := ready(ctx, p, all, ""); err != nil {
		return err
	}
	who := &person{p: p, passwordFile: c.PasswordFile, language: all.Mail.language()}
	password, err := who.Password(map[bool]string{false: "Password of ", true: "Hasło do "}[who.language == "pl"] + a.Address + ": ")
	if err != nil {
		return err
	}
	words := []string{"save-secret", a.Address}
	if c.Untried {
		words = append(words, "--untried")
	}
	return saveMail(ctx, p, all, mua.NewAccount{Password: password}, words...)
}

type muaLoginCmd struct {
	accountName
	ClientSecretFile string `help:"What some providers give with the client id, in the first line of FILE." placeholder:"FILE"`
	DeviceURL        string `name:"device-url" help:"Log in on another device, with a code." placeholder:"URL"`
}

// Run implements local.
func (c *muaLoginCmd) Run(ctx context.Context, p *process, all *cli) error {
	defer context.AfterFunc(ctx, p.release)()
	a, err := findAccount(ctx, p, all, c.Account)
	if err != nil {
		return err
	}
	if a.OAuth == nil {
		return usage(fmt.Errorf("%w: %s logs in with a password; poczta mail password changes it", mua.ErrUsage, a.Address))
	}
	o, err := tokenFlags{ClientSecretFile: c.ClientSecretFile}.provider(p)
	if err != nil {
		return err
	}
	s := &mua.Setup{Language: all.Mail.language(), Person: &person{p: p, language: all.Mail.language()}}
	t, err := s.Token(ctx, &a, o.ClientSecret, c.DeviceURL)
	if err != nil {
		return err
	}
	return saveMail(ctx, p, all, mua.NewAccount{Token: &t, ClientSecret: o.ClientSecret}, "save-secret", a.Address)
}

// findAccount asks for the settings of an account.
func findAccount(ctx context.Context, p *process, c *cli, name string) (profile.Account, error) {
	var out bytes.Buffer
	if err := callMail(ctx, p, c, []string{"mail", "accounts", "--json"}, control.Streams{In: eof{}, Out: &out, Err: p.stderr}); err != nil {
		return profile.Account{}, err
	}
	var list []profile.Account
	if err := json.Unmarshal(out.Bytes(), &list); err != nil {
		return profile.Account{}, fmt.Errorf("read accounts: %w", err)
	}
	return profile.ChooseServed(list, name)
}

// person is who sits at the terminal; it is mua.Person.
type person struct {
	p            *process
	passwordFile string
	yes          bool
	language     string
}

// Say implements mua.Person.
func (h *person) Say(text string) {
	for line := range strings.Lines(text + "\n") {
		fmt.Fprintln(h.p.stderr, printable(strings.TrimRight(line, "\n")))
	}
}

// terminal is the one to ask at.
func (h *person) terminal() (*os.File, bool) {
	f, ok := h.p.stdin.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// Confirm implements mua.Person.
func (h *person) Confirm(question string) (bool, error) {
	h.Say(question)
	if h.yes {
		return true, nil
	}
	f, ok := h.terminal()
	if !ok {
		return false, fmt.Errorf("%w: there is no terminal to ask at; add --yes if these servers are right", mua.ErrUsage)
	}
	fmt.Fprint(h.p.stderr, map[bool]string{false: "Is that right? [y/N] ", true: "Czy to się zgadza? [t/N] "}[h.language == "pl"])
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		return false, errors.New("nothing was answered, and nothing is saved")
	}
	line = strings.ToLower(strings.TrimSpace(line))
	return strings.HasPrefix(line, "y") || strings.HasPrefix(line, "t"), nil
}

// Password implements mua.Person.
func (h *person) Password(prompt string) (string, error) {
	if f, ok := h.terminal(); ok && h.passwordFile == "" {
		return hidden(f, h.p.stderr, prompt)
	}
	name := h.passwordFile
	if name == "" {
		name = "-"
	}
	f, err := h.p.open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return firstLine(f)
}

// Browse implements mua.Person. That no browser starts is no error: the address was shown.
func (h *person) Browse(address string) error {
	words := []string{"xdg-open", address}
	switch runtime.GOOS {
	case "darwin":
		words[0] = "open"
	case "windows":
		words = []string{"rundll32", "url.dll,FileProtocolHandler", address}
	}
	if b := os.Getenv("BROWSER"); b != "" {
		words = []string{b, address}
	}
	cmd := exec.Command(words[0], words[1:]...)
	if err := cmd.Start(); err == nil {
		go func() { _ = cmd.Wait() }() // the browser outlives the question
	}
	return nil
}
