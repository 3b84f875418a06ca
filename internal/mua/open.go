package mua

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/page"
)

// served is the page that this process serves.
type served struct {
	page *page.Page
	base string // its address, without a token

	mu    sync.Mutex
	looks map[string]page.Look
}

func (s *served) looked(r fetch.Round, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks[r.Account.Address] = page.Look{Account: r.Account.Address, At: at, Err: r.Err}
}

func (s *served) all() []page.Look {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]page.Look, 0, len(s.looks))
	for _, l := range s.looks {
		out = append(out, l)
	}
	return out
}

// Open serves the page on this computer alone until ctx ends, fetches and sends meanwhile, and
// gives browse an address that opens it once. Where this process serves the page already, it gives
// another such address and returns. port 0 is any.
func (d *Desk) Open(ctx context.Context, port int, browse func(address string) error) error {
	m := d.Mail
	m.mu.Lock()
	s := m.served
	m.mu.Unlock()
	if s != nil {
		return d.enter(s, browse)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return fmt.Errorf("open the page: %w; name a free port with --port", err)
	}
	now := make(chan struct{}, 1)
	s = &served{base: "http://" + l.Addr().String(), looks: map[string]page.Look{}}
	c := page.Config{Store: m.Store, Accounts: m.Accounts, Fetcher: m.Fetcher, Outbox: page.Through(m.Outbox, rand.Reader), Looks: s.all, Fetching: m.Fetcher.Running, Trouble: m.backupTrouble, Now: m.conf.Now, Logger: m.conf.Logger}
	if !m.running.Load() {
		c.Look = func() {
			select {
			case now <- struct{}{}:
			default: // one is asked for already
			}
		}
	}
	c.Keeper = keeper{m: m, look: c.Look}
	if s.page, err = page.New(c); err != nil {
		return errors.Join(err, l.Close())
	}
	m.mu.Lock()
	m.served = s
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.served = nil
	}()
	return d.serve(ctx, s, l, now, browse)
}

// serve serves the page, and fetches and sends unless another command does.
func (d *Desk) serve(ctx context.Context, s *served, l net.Listener, now <-chan struct{}, browse func(string) error) error {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var ran error
	if !d.Mail.running.Load() {
		wg.Go(func() {
			defer stop()
			ran = d.Mail.Run(ctx, true, now, func(r fetch.Round) { s.looked(r, d.Mail.now()) })
		})
	}
	var entered error
	wg.Go(func() {
		if entered = d.enter(s, browse); entered != nil {
			stop()
			return
		}
		d.say("%s", choose(d.Language, "It can be read while this command runs; Ctrl-C ends it.", "Strona działa, dopóki działa to polecenie; Ctrl-C je kończy."))
	})
	err := s.page.Serve(ctx, private{l})
	stop()
	wg.Wait()
	return errors.Join(err, ran, entered)
}

// enter shows an address that opens the page once.
func (d *Desk) enter(s *served, browse func(string) error) error {
	address, err := s.page.Enter(s.base)
	if err != nil {
		return err
	}
	d.say("%s", address)
	if browse == nil {
		return nil
	}
	return browse(address)
}

// backupTrouble is what is wrong with the scheduled backups, for the page; it is logged when that can't be read.
func (m *Mail) backupTrouble(ctx context.Context, language string) string {
	s, err := m.BackupStatus(ctx)
	if err != nil {
		m.conf.Logger.Warn("what became of the backups can't be read", "error", err)
		return ""
	}
	return s.Trouble(language)
}
