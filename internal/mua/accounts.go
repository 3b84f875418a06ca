package mua

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/line"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// maxInput bounds what a command reads as JSON, in octets.
const maxInput = 1 << 20

// input reads JSON that the command line has prepared.
func (d *Desk) input(v any) error {
	dec := json.NewDecoder(io.LimitReader(d.In, maxInput))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("read what the command was given: %w", err)
	}
	return nil
}

// AccountAdd saves an account that was tried: a NewAccount on the input.
func (d *Desk) AccountAdd(ctx context.Context) (err error) {
	var n NewAccount
	if err := d.input(&n); err != nil {
		return err
	}
	a, err := d.Mail.Accounts.Add(ctx, n.Account)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil { // an account without its secrets is of no use
			err = together(err, d.Mail.Secrets.Forget(&a), d.Mail.Accounts.Remove(context.WithoutCancel(ctx), a.ID))
		}
	}()
	if err := d.keep(&a, &n); err != nil {
		return err
	}
	if err := d.Mail.Store.AddAccount(ctx, a.ID); err != nil {
		return err
	}
	d.say(choose(d.Language, "The account %s is set up; its password lies in %s.", "Konto %s jest gotowe; jego hasło leży tu: %s."), a.Address, d.Mail.Secrets.Where())
	d.say("%s %s", policyText(a.Policy, d.Language), choose(d.Language, "Fetch your mail now: poczta mail sync", "Pobierz pocztę: poczta mail sync"))
	return nil
}

// keep puts the secrets of an account into the vault.
func (d *Desk) keep(a *profile.Account, n *NewAccount) error {
	var errs []error
	if n.Password != "" {
		errs = append(errs, d.Mail.Secrets.SetPassword(a, n.Password, ""))
	}
	if n.Token != nil {
		errs = append(errs, d.Mail.Secrets.SetToken(a, *n.Token), d.Mail.Secrets.SetClientSecret(a, n.ClientSecret))
	}
	if n.Key != "" {
		errs = append(errs, d.Mail.Secrets.SetKey(a, n.Key))
	}
	return together(errs...)
}

// Ready looks, before a person is asked for anything, whether an account can be saved: that there
// is none with this address ("" is not looked for), and that the vault opens.
func (d *Desk) Ready(ctx context.Context, addr string) error {
	if addr != "" {
		list, err := d.Mail.Accounts.List(ctx)
		if err != nil {
			return err
		}
		for _, a := range list {
			if strings.EqualFold(a.Address, addr) {
				return fmt.Errorf("%s: %w; poczta mail server and poczta mail password change it", a.Address, profile.ErrExists)
			}
		}
	}
	return d.Mail.Secrets.open()
}

// Accounts lists the accounts.
func (d *Desk) Accounts(ctx context.Context) error {
	list, err := d.Mail.Accounts.List(ctx)
	if err != nil {
		return err
	}
	err = table(d, list, "ACCOUNT\tINCOMING\tOUTGOING\tKEEP ON SERVER\tSTATE", func(a profile.Account) string {
		state := "fetched"
		switch {
		case a.Archive:
			return a.Address + "\t-\t-\t-\tarchive"
		case a.Paused:
			state = "paused"
		}
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", a.Address, serverText(a.Incoming), serverText(a.Outgoing), keepText(a.Policy), state)
	})
	return errors.Join(err, d.backupTrouble(ctx))
}

func serverText(s profile.Server) string {
	text := map[clientconfig.Security]string{clientconfig.TLS: "TLS", clientconfig.StartTLS: "STARTTLS", clientconfig.Plain: "no TLS"}[s.Security]
	return fmt.Sprintf("%s:%d %s", s.Host, s.Port, text)
}

// ServerChange is what Server changes; "" leaves a thing as it is.
type ServerChange struct {
	Incoming, Outgoing, Security    string
	OutgoingSecurity                string // "" is Security
	Login, OutgoingLogin            string
	AuthorityFile, Certificate, Key string
	Accept, AcceptOutgoing          string // "none" takes an acceptance back
	Name, Signature                 string
	Aliases                         []string
	NoAuthority, Untried            bool
}

// Server changes the servers of an account and logs in to both before it saves.
func (d *Desk) Server(ctx context.Context, who string, c ServerChange) error {
	a, err := d.served(ctx, who)
	if err != nil {
		return err
	}
	before := a
	if err := d.change(&a, c); err != nil {
		return err
	}
	return d.replace(ctx, before, a, c.Untried)
}

// replace tries an account's changed servers and saves them.
func (d *Desk) replace(ctx context.Context, before, a profile.Account, untried bool) error {
	if err := a.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if !untried {
		if err := d.Mail.Try(ctx, a); err != nil {
			return fmt.Errorf("%w; nothing was changed (--untried saves it all the same)", err)
		}
	}
	if err := d.Mail.Accounts.Change(ctx, a.ID, func(now *profile.Account) { tried(now, &before, &a) }); err != nil {
		return err
	}
	if before.Certificate != a.Certificate {
		if err := d.Mail.Secrets.forgetKey(&before); err != nil {
			return err
		}
	}
	if a.Incoming.Host != before.Incoming.Host || a.Incoming.Login != before.Incoming.Login {
		d.say("%s: mail that is here already is recognised on the new server by its header sections.", a.Address)
	}
	d.say("%s: incoming %s, outgoing %s.", a.Address, serverText(a.Incoming), serverText(a.Outgoing))
	return nil
}

// tried puts what a change of servers made of an account over it as it is now: while the servers were tried, a
// person may have changed something else, as what is deleted on them.
func tried(now, before, a *profile.Account) {
	now.Incoming, now.Outgoing = a.Incoming, a.Outgoing
	if a.Certificate != before.Certificate {
		now.Certificate = a.Certificate
	}
	if a.Name != before.Name {
		now.Name = a.Name
	}
	if a.Signature != before.Signature {
		now.Signature = a.Signature
	}
	if !slices.Equal(a.Aliases, before.Aliases) {
		now.Aliases = a.Aliases
	}
}

func (d *Desk) change(a *profile.Account, c ServerChange) error {
	set := func(s *profile.Server, text, security, login, accept string) (err error) {
		if err := retarget(s, text, security); err != nil {
			return err
		}
		if login != "" {
			s.Login = login
		}
		if accept == "none" {
			s.Accepted = ""
		} else if accept != "" {
			flag := "--accept"
			if s.Protocol == clientconfig.SMTP {
				flag = "--accept-outgoing"
			}
			if s.Accepted, err = fingerprint(flag, accept); err != nil {
				return err
			}
		}
		if c.AuthorityFile != "" || c.NoAuthority {
			s.AuthorityFile = d.filePath(c.AuthorityFile)
		}
		if c.Certificate != "" {
			s.CertificateFile, s.KeyFile = d.filePath(c.Certificate), d.filePath(c.Key)
			a.Certificate = "" // that which was uploaded
		}
		return nil
	}
	out := c.OutgoingLogin
	if out == "" {
		out = c.Login
	}
	security := c.OutgoingSecurity
	if security == "" {
		security = c.Security
	}
	if err := set(&a.Incoming, c.Incoming, c.Security, c.Login, c.Accept); err != nil {
		return err
	}
	if err := set(&a.Outgoing, c.Outgoing, security, out, c.AcceptOutgoing); err != nil {
		return err
	}
	if c.Accept != "" && c.AcceptOutgoing == "" && a.Outgoing.Host == a.Incoming.Host {
		a.Outgoing.Accepted = a.Incoming.Accepted
	}
	if c.Name != "" {
		a.Name = c.Name
	}
	if c.Signature != "" {
		a.Signature = c.Signature
	}
	if len(c.Aliases) > 0 {
		a.Aliases = c.Aliases
	}
	return a.Validate()
}

// retarget gives a server another name, port or security; "" leaves a thing as it is. A certificate
// that the person has accepted stays accepted while the host is the same: it is that certificate
// which was found right, by whichever port it is shown.
func retarget(s *profile.Server, text, security string) error {
	if text == "" {
		if security == "" {
			return nil
		}
		to, err := namedServer(s.Protocol, net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port))), Wish{Security: security})
		s.Security = to.Security
		return err
	}
	to, err := namedServer(s.Protocol, text, Wish{Security: security})
	if err != nil {
		return err
	}
	if to.Host != s.Host {
		s.Accepted = ""
	}
	s.Server = to.Server
	return nil
}

func (d *Desk) filePath(p string) string {
	if p == "" {
		return ""
	}
	return d.path(p)
}

// Try logs in to both servers of an account and leaves; nothing is fetched or sent.
func (m *Mail) Try(ctx context.Context, a profile.Account) error {
	return try(ctx, m.Lines, a, true, true)
}

// Password tries a new password (a NewAccount on the input) on both servers and saves it.
func (d *Desk) Password(ctx context.Context, who string, untried bool) error {
	a, err := d.served(ctx, who)
	if err != nil {
		return err
	}
	var n NewAccount
	if err := d.input(&n); err != nil {
		return err
	}
	if n.Token != nil && a.OAuth == nil {
		return fmt.Errorf("%w: %s logs in with a password; poczta mail password changes it", ErrUsage, a.Address)
	}
	if n.Password != "" && a.OAuth != nil {
		return fmt.Errorf("%w: %s logs in with your browser; poczta mail login does that again", ErrUsage, a.Address)
	}
	if !untried {
		l, err := line.New(line.Config{Secrets: given{&n, d.Mail.Secrets}, Roots: d.Mail.conf.Roots, Dial: d.Mail.conf.Dial})
		if err == nil {
			err = try(ctx, l, a, true, true)
		}
		if err != nil {
			return fmt.Errorf("%w; nothing was changed", err)
		}
	}
	if err := d.keep(&a, &n); err != nil {
		return err
	}
	d.say(choose(d.Language, "%s: saved in %s.", "%s: zapisano; miejsce: %s."), a.Address, d.Mail.Secrets.Where())
	return nil
}

// endTime is how long a fetch may take to end when its account is removed: it only closes its
// connection and what it was writing.
const endTime = 20 * time.Second

// Remove forgets an account and its secrets. Its letters stay here, or with letters go into
// retention. Nothing changes on the server. A fetch of it that runs is ended first.
func (d *Desk) Remove(ctx context.Context, who string, letters bool) (err error) {
	a, err := d.account(ctx, who)
	if err != nil {
		return err
	}
	if err := d.settled(ctx, a); err != nil {
		return err
	}
	ending, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	release, err := d.Mail.Fetcher.End(ending, a.ID)
	if err != nil {
		return fmt.Errorf("%s is being fetched, and that did not end: %w; nothing was removed: try again, or end the other command first", a.Address, err)
	}
	gone := false
	defer func() { release(gone) }()
	removed := 0
	if letters {
		if removed, err = d.Mail.empty(ctx, a); err != nil {
			return err
		}
	}
	if err := d.Mail.Accounts.Remove(ctx, a.ID); err != nil {
		return err
	}
	gone = true
	if err := errors.Join(d.forget(&a), d.Mail.Fetcher.Forget(ctx, a.ID)); err != nil {
		return fmt.Errorf("the account is removed, but not all that belongs to it: %w", err)
	}
	if letters {
		d.say("%s is removed, and %d letters, which poczta mail restore brings back for %d days. Mail on the server is as it was.", a.Address, removed, int(store.DefaultRetention/(24*time.Hour)))
		return nil
	}
	d.say("%s is removed. Its letters stay here, and mail on the server is as it was.", a.Address)
	return nil
}

// forget removes the secrets of an account. An archive has none: the vault stays closed.
func (d *Desk) forget(a *profile.Account) error {
	if a.Archive {
		return nil
	}
	return d.Mail.Secrets.Forget(a)
}

// settled refuses while letters of an account wait to be sent: without it they never would be.
func (d *Desk) settled(ctx context.Context, a profile.Account) error {
	list, err := d.Mail.Outbox.List(ctx)
	if err != nil {
		return err
	}
	for _, i := range list {
		if i.Account == a.ID && i.State != outbox.Refused {
			return fmt.Errorf("%w: letter %d of %s is in the outbox (%s); send it, or undo it with: poczta mail outbox undo %d", page.ErrUnsent, i.ID, a.Address, i.State, i.ID)
		}
	}
	return nil
}

// empty puts all letters of an account into retention and returns how many.
func (m *Mail) empty(ctx context.Context, a profile.Account) (int, error) {
	n := 0
	for {
		page, err := m.Store.List(ctx, store.Query{Accounts: []envelope.AccountID{a.ID}, Everywhere: true, Limit: 500})
		if err != nil || len(page.Letters) == 0 {
			return n, err
		}
		list := make([]store.LetterID, 0, len(page.Letters))
		for _, l := range page.Letters {
			list = append(list, l.ID)
			if l.Folder == store.Trash {
				n++
			}
		}
		moved, err := m.Store.Remove(ctx, list) // to Trash, and those in Trash into retention
		if err != nil {
			return n, err
		}
		if moved == 0 {
			return n, errors.New("remove letters: none of those that are left could be removed; try again")
		}
	}
}

// Login keeps a token that a new login in the browser gave (a NewAccount on the input).
func (d *Desk) Login(ctx context.Context, who string) error { return d.Password(ctx, who, false) }
