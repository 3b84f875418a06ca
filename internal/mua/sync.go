package mua

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/vault"
)

// SyncRow is what came of one account's fetch.
type SyncRow struct {
	Account string       `json:"account"`
	Result  fetch.Result `json:"result"`
	Error   string       `json:"error,omitempty"`
}

// Sync fetches the mail of the accounts named, or of all that are not paused, once. The error
// says for how many accounts it failed; what was fetched before stays. What waits in the outbox is
// sent.
func (d *Desk) Sync(ctx context.Context, names []string) error {
	list, err := d.fetchedAccounts(ctx, names)
	if err != nil {
		return err
	}
	if err := d.unlocked(list, len(names) > 0); err != nil {
		return err
	}
	var rows []SyncRow
	failed := 0
	for _, a := range list {
		if a.Paused && len(names) == 0 {
			continue
		}
		res, err := d.fetch(ctx, a)
		row := SyncRow{Account: a.Address, Result: res}
		if err != nil {
			failed++
			row.Error = err.Error()
		}
		rows = append(rows, row)
		if !d.JSON {
			d.round(a, res, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(list) == 0 {
		d.say("%s", choose(d.Language, "There is no account yet: poczta mail add ADDRESS", "Nie ma jeszcze konta: poczta mail add ADRES"))
	}
	if err := d.index(ctx); err != nil {
		return err
	}
	unsent := errors.Join(d.flush(ctx), d.backupTrouble(ctx))
	if d.JSON {
		if rows == nil {
			rows = []SyncRow{}
		}
		if err := d.encode(rows); err != nil {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("stopped; what was fetched is here, and the next sync goes on: %w", ctx.Err())
	case failed > 0:
		return fmt.Errorf("%d of %d accounts could not be fetched whole (see above)", failed, len(rows))
	}
	return unsent
}

// fetchedAccounts are the accounts that Sync fetches: of archives it says nothing, unless one is named.
func (d *Desk) fetchedAccounts(ctx context.Context, names []string) (out []profile.Account, err error) {
	if len(names) == 0 {
		return d.Mail.withServers(ctx)
	}
	for _, n := range names {
		a, err := d.served(ctx, n)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// unlocked opens the vault, if a fetch of the accounts needs it: that it does not open is said
// once, and not once for each account.
func (d *Desk) unlocked(list []profile.Account, named bool) error {
	for _, a := range list {
		if (named || !a.Paused) && !a.Incoming.External {
			return d.Mail.Secrets.open()
		}
	}
	return nil
}

// flush sends what waits, unless Run does so.
func (d *Desk) flush(ctx context.Context) error {
	if d.Mail.running.Load() || ctx.Err() != nil {
		return nil
	}
	if err := d.Mail.Outbox.Flush(ctx); err != nil {
		return fmt.Errorf("mail waits in the outbox: %w", err)
	}
	return nil
}

// fetch fetches one account with progress.
func (d *Desk) fetch(ctx context.Context, a profile.Account) (fetch.Result, error) {
	m := newMeter(d, a.Address)
	defer m.end()
	defer d.Mail.follow(a.ID, m.fetched)()
	return d.Mail.Fetcher.Sync(ctx, a)
}

// index makes what came findable, unless Run does so.
func (d *Desk) index(ctx context.Context) error {
	if d.Mail.running.Load() || ctx.Err() != nil {
		return nil
	}
	return d.Mail.Store.Catchup(ctx, nil)
}

// round says what came of a look at an account.
func (d *Desk) round(a profile.Account, r fetch.Result, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", a.Address)
	if r.Fetched == 0 && r.Completed == 0 && err == nil {
		b.WriteString("nothing new")
	} else {
		fmt.Fprintf(&b, "%s (%s)", strings.Replace(count(r.Fetched), " ", " new ", 1), size(r.Octets))
	}
	for _, x := range []struct {
		n    int
		text string
	}{{r.Headers, "with their header sections only"}, {r.Completed, "completed"}, {r.Recognised, "recognised under new unique-ids"}, {r.Deleted, "deleted on the server"}} {
		if x.n > 0 {
			fmt.Fprintf(&b, ", %d %s", x.n, x.text)
		}
	}
	fmt.Fprintf(&b, "; %d on the server", r.OnServer)
	if err == nil || r.OnServer > 0 {
		d.say("%s", b.String())
	}
	for _, text := range append(r.Refused, r.Remarks...) {
		d.say("  %s", text)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		d.say("%s: %v", a.Address, err)
		if advice := Advice(err, d.Language); advice != "" {
			d.say("  %s", advice)
		}
	}
}

// Watch fetches all accounts by their policies until ctx ends, and tells of each look that
// brought something or failed.
func (d *Desk) Watch(ctx context.Context) error {
	list, err := d.Mail.withServers(ctx)
	if err != nil {
		return err
	}
	if err := d.unlocked(list, false); errors.Is(err, vault.ErrPassphrase) {
		return err
	}
	d.say(choose(d.Language, "Watching %d accounts; Ctrl-C ends.", "Konta obserwowane: %d; Ctrl-C kończy."), len(list))
	var mu sync.Mutex
	defer d.Mail.followBackups(func(s BackupStatus) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil {
			d.backupTold(s)
		}
	})()
	return d.Mail.Run(ctx, true, nil, func(r fetch.Round) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		if d.JSON {
			row := SyncRow{Account: r.Account.Address, Result: r.Result}
			if r.Err != nil {
				row.Error = r.Err.Error()
			}
			_ = d.encode(row) // a reader that is gone is seen by who opened the output
			return
		}
		if r.Err != nil || r.Result.Fetched+r.Result.Completed+r.Result.Deleted+len(r.Result.Remarks)+len(r.Result.Refused) > 0 {
			fmt.Fprintf(d.Out, "%s ", d.Mail.now().Local().Format(time.TimeOnly))
			d.round(r.Account, r.Result, r.Err)
		}
	})
}
