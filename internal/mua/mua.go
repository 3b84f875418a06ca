// Package mua assembles a person's mail program: the store in their data folder, their accounts,
// secrets, lines to servers, and what fetches. One process at a time has the folder.
package mua

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/line"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/mua/vault"
	"poczta.example/poczta/internal/resolver"
)

// Config says where the mail lies and how the person is asked.
type Config struct {
	Folder string // required; see DefaultFolder
	// Ask asks for the passphrase of the encrypted file of secrets; fresh asks for a new one.
	Ask func(fresh bool) (string, error)
	// AtTerminal says that Ask asks a person at a terminal: while the page is served, the passphrase
	// is asked for there instead.
	AtTerminal bool
	// VaultFile keeps secrets in the encrypted file even where there is a keyring.
	VaultFile bool
	VaultWork int            // see vault.Config.Work; 0 is its default; for tests
	Keyring   vault.Keyring  // nil is the system's; for tests
	Roots     *x509.CertPool // nil is the system's
	Dial      func(ctx context.Context, network, hostport string) (net.Conn, error)
	// Resolver tells whether recipients' domains take mail; nil asks the system's servers.
	Resolver resolver.Resolver
	Progress func(fetch.Progress)
	Now      func() time.Time
	Rand     io.Reader
	Logger   *slog.Logger // nil discards
	Version  string       // of the program, written into scheduled backups
}

// Mail is a person's open mail. Safe for concurrent use.
type Mail struct {
	Store    *store.Store
	Accounts *profile.Profiles
	Secrets  *Secrets
	Lines    *line.Lines
	Fetcher  *fetch.Fetcher
	Outbox   *outbox.Outbox

	conf    Config
	running atomic.Bool // Run runs
	backing sync.Mutex  // held while a backup is made

	mu        sync.Mutex
	listeners map[envelope.AccountID]func(fetch.Progress) // of fetches
	// backupTold are told what becomes of scheduled backups.
	backupTold []*func(BackupStatus)
	served     *served // nil while no page is
	// passphrase is that of the encrypted file of secrets as it was entered on the page; "" is not.
	passphrase string
}

// Components are the tables of the rooms above the store.
func Components() []db.Component {
	return []db.Component{profile.Schema, fetch.Schema, outbox.Schema, page.Schema, scheduleSchema}
}

// DefaultFolder is where a person's mail lies if they say nothing: $POCZTA_MAIL, or a folder of
// the system's place for a program's data.
func DefaultFolder() (string, error) {
	if f := os.Getenv("POCZTA_MAIL"); f != "" {
		return f, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find your home folder: %w; name a folder with --data", err)
	}
	switch runtime.GOOS {
	case "windows":
		if d := os.Getenv("LOCALAPPDATA"); d != "" {
			return filepath.Join(d, "Poczta Mail"), nil
		}
		return filepath.Join(home, "AppData", "Local", "Poczta Mail"), nil
	case "darwin":
		return filepath.Join(home, "Library", "Application Support", "Poczta Mail"), nil
	}
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "poczta-mail"), nil
	}
	return filepath.Join(home, ".local", "share", "poczta-mail"), nil
}

// Open opens the folder; the error wraps store.ErrBusy when another process has it. It starts
// nothing: see Run.
func Open(ctx context.Context, c Config) (*Mail, error) {
	if c.Folder == "" {
		return nil, errors.New("open mail: Config.Folder is empty")
	}
	m := &Mail{conf: c, listeners: map[envelope.AccountID]func(fetch.Progress){}}
	var err error
	m.Store, err = store.Open(ctx, store.Config{Folder: c.Folder, Components: Components(), Filed: fetch.Filed, Login: m.login, Account: m.named, Now: c.Now, Rand: c.Rand, Logger: c.Logger})
	if err != nil {
		return nil, err
	}
	if err := m.open(c); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (m *Mail) open(c Config) error {
	m.Accounts = profile.New(m.Store.DB())
	folder, err := filepath.Abs(c.Folder)
	if err != nil {
		return fmt.Errorf("open mail: %w", err)
	}
	v, err := vault.Open(vault.Config{FS: m.Store.Files(), Folder: folder, Ask: m.ask, File: c.VaultFile, Work: c.VaultWork, Keyring: c.Keyring})
	if err != nil {
		return err
	}
	m.Secrets = &Secrets{v: v, now: c.Now}
	if m.Lines, err = line.New(line.Config{Secrets: m.Secrets, Roots: c.Roots, Dial: c.Dial}); err != nil {
		return err
	}
	m.Fetcher, err = fetch.New(fetch.Config{Store: m.Store, Open: m.Lines.POP3, Progress: m.progressed, Now: c.Now, Logger: c.Logger})
	if err != nil {
		return err
	}
	names := c.Resolver
	if names == nil {
		if names, err = systemResolver(); err != nil {
			return err
		}
	}
	m.Outbox, err = outbox.New(outbox.Config{Store: m.Store, Lines: m.Lines, Accounts: m.Accounts, Resolver: names, Now: c.Now, Rand: c.Rand, Logger: c.Logger})
	return err
}

// Close closes everything. Run must have ended.
func (m *Mail) Close() error { return m.Store.Close() }

// progressed tells a fetch's progress to who follows it.
func (m *Mail) progressed(p fetch.Progress) {
	m.mu.Lock()
	listener := m.listeners[p.Account]
	m.mu.Unlock()
	if listener != nil {
		listener(p)
	}
	if m.conf.Progress != nil {
		m.conf.Progress(p)
	}
}

// follow has f told of the fetches of an account until the returned function is called.
func (m *Mail) follow(id envelope.AccountID, f func(fetch.Progress)) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listeners[id] = f
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.listeners, id)
	}
}

// now is the time.
func (m *Mail) now() time.Time {
	if m.conf.Now != nil {
		return m.conf.Now()
	}
	return time.Now()
}

// login names an account in the journal of the segments.
func (m *Mail) login(id envelope.AccountID) string {
	if a, err := m.account(context.Background(), id); err == nil {
		return a.Address
	}
	return ""
}

// named finds an account by what a person wrote in a search.
func (m *Mail) named(ctx context.Context, name string) (envelope.AccountID, bool) {
	a, err := m.Accounts.Find(ctx, strings.TrimSpace(name))
	return a.ID, err == nil
}

func (m *Mail) account(ctx context.Context, id envelope.AccountID) (profile.Account, error) {
	if m.Accounts == nil {
		return profile.Account{}, profile.ErrNotFound
	}
	all, err := m.Accounts.List(ctx)
	if err != nil {
		return profile.Account{}, err
	}
	for _, a := range all {
		if a.ID == id {
			return a, nil
		}
	}
	return profile.Account{}, profile.ErrNotFound
}
