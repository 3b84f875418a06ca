package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/preference"
)

// Bounds of what is learned between two looks at the input.
const (
	trainChunk  = 200     // messages
	trainOctets = 4 << 20 // of them, kept for Rspamd
)

// whose is the account that a command is about; the whole server when none is named.
func (d *Desk) whose(ctx context.Context, who string) (envelope.AccountID, string, error) {
	if who == "" {
		return classifier.Common, "the server", nil
	}
	a, err := d.find(ctx, who)
	return a.ID, a.Address.String(), err
}

// TrainRow is the outcome of training.
type TrainRow struct {
	Class    string `json:"class"`    // spam or wanted
	Messages int    `json:"messages"` // learned now, those that were known already included
	Spam     int    `json:"spam"`     // all that is known
	Ham      int    `json:"ham"`
}

// SpamTrain learns the messages of the input's stream as spam, or as wanted. What was learned
// before changes nothing, so it may be stopped and repeated.
func (d *Desk) SpamTrain(ctx context.Context, who string, spam bool) error {
	id, name, err := d.whose(ctx, who)
	if err != nil {
		return err
	}
	row, in := TrainRow{Class: classWord(spam)}, NewStreamReader(d.In)
	var batch []daemon.Sample
	octets := 0
	flush := func() error {
		n, err := d.Rooms.Learner.LearnMany(ctx, id, batch)
		row.Messages += n
		clear(batch)
		batch, octets = batch[:0], 0
		return err
	}
	for {
		if _, err = in.Next(); errors.Is(err, io.EOF) {
			err = flush()
			break
		}
		var s daemon.Sample
		if err == nil {
			s, err = d.Rooms.Learner.Sample(in, spam)
		}
		if err != nil {
			break
		}
		octets += len(s.Octets)
		if batch = append(batch, s); len(batch) == trainChunk || octets >= trainOctets {
			if err = flush(); err != nil {
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("train the classifier for %s, after %d messages: %w; what is learned stays: when the cause is mended, run the same command again", name, row.Messages, err)
	}
	known, err := d.Rooms.Classifier.Stats(ctx, id)
	if err != nil {
		return fmt.Errorf("read what was learned: %w", err)
	}
	if row.Spam, row.Ham = known.Spam, known.Ham; d.JSON {
		return table(d, []TrainRow{row}, "", nil)
	}
	d.say("%s learned as %s for %s, which now knows %d messages of spam and %d wanted ones; a message counts once.", plural(row.Messages, "message is", "messages are"), row.Class, name, row.Spam, row.Ham)
	return nil
}

func classWord(spam bool) string { return map[bool]string{true: "spam", false: "wanted"}[spam] }

// SpamStatsRow is what was learned.
type SpamStatsRow struct {
	Account string `json:"account"` // "" is the whole server
	Spam    int    `json:"spam"`
	Ham     int    `json:"ham"`
	Shared  int    `json:"shared"` // of the server: samples that accounts' marks taught
	Counts  bool   `json:"counts"` // there are enough to judge by
	Trained string `json:"trained"`
}

// SpamStats tells what was learned, for the server or an account.
func (d *Desk) SpamStats(ctx context.Context, who string) error {
	id, _, err := d.whose(ctx, who)
	if err != nil {
		return err
	}
	s, err := d.Rooms.Classifier.Stats(ctx, id)
	if err != nil {
		return fmt.Errorf("read what was learned: %w", err)
	}
	row := SpamStatsRow{Account: who, Spam: s.Spam, Ham: s.Ham, Shared: s.Shared, Counts: s.Counts, Trained: stamp(s.Trained)}
	if err := table(d, []SpamStatsRow{row}, "SPAM\tWANTED\tFROM MARKS\tJUDGES\tLAST LEARNED", func(r SpamStatsRow) string {
		return fmt.Sprintf("%d\t%d\t%d\t%s\t%s", r.Spam, r.Ham, r.Shared, yesNo(r.Counts), r.Trained)
	}); err != nil {
		return err
	}
	if !s.Counts {
		d.say("That is too little to judge by: the server begins with 50 messages of each kind, an account with 10; poczta spam train teaches.")
	}
	return nil
}

// ListEntryRow is a line of an allow or block list.
type ListEntryRow struct {
	Account string `json:"account"` // "" is the whole server
	Pattern string `json:"pattern"`
	List    string `json:"list"` // allow or block
	Note    string `json:"note"`
	Added   string `json:"added"`
}

// SpamList puts senders on an allow or block list.
func (d *Desk) SpamList(ctx context.Context, who string, allow bool, note string, patterns []string) error {
	id, name, err := d.whose(ctx, who)
	if err != nil {
		return err
	}
	var entries []preference.Entry
	for _, p := range patterns {
		entries = append(entries, preference.Entry{Pattern: p, Allow: allow, Note: note})
	}
	if err := d.Rooms.Preferences.Add(ctx, id, entries...); err != nil {
		return listError(err)
	}
	d.say("%s: %s from now on, for %s.", strings.Join(patterns, ", "), map[bool]string{true: "allowed", false: "blocked"}[allow], name)
	return nil
}

// listError adds what to do to errors of lists.
func listError(err error) error {
	switch {
	case errors.Is(err, preference.ErrInvalid):
		return fmt.Errorf("%w: %w; name an address, a domain, .domain for all below it, or for the whole server a host's address or network", ErrUsage, err)
	case errors.Is(err, preference.ErrFull):
		return fmt.Errorf("%w; take entries off with poczta spam unlist", err)
	case errors.Is(err, preference.ErrNotFound):
		return fmt.Errorf("%w; poczta spam lists and poczta spam trap --list show what there is", err)
	}
	return fmt.Errorf("change lists: %w", err)
}

// SpamLists prints the lists of the server or of an account.
func (d *Desk) SpamLists(ctx context.Context, who string) error {
	id, _, err := d.whose(ctx, who)
	if err != nil {
		return err
	}
	var rows []ListEntryRow
	for after := ""; ; {
		page, err := d.Rooms.Preferences.List(ctx, id, after)
		if err != nil {
			return fmt.Errorf("read lists: %w", err)
		}
		for _, e := range page {
			rows = append(rows, ListEntryRow{who, e.Pattern, map[bool]string{true: "allow", false: "block"}[e.Allow], e.Note, stamp(e.Added)})
			after = e.Pattern
		}
		if len(page) < preference.MaxPage {
			break
		}
	}
	return table(d, rows, "LIST\tSENDER\tADDED\tNOTE", func(r ListEntryRow) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s", r.List, r.Pattern, r.Added, r.Note)
	})
}

// SpamUnlist takes senders off the list they are on.
func (d *Desk) SpamUnlist(ctx context.Context, who string, patterns []string) error {
	id, name, err := d.whose(ctx, who)
	if err != nil {
		return err
	}
	for _, p := range patterns {
		if err := d.Rooms.Preferences.Remove(ctx, id, p); err != nil {
			return listError(err)
		}
		d.say("%s is on no list of %s any more.", p, name)
	}
	return nil
}

// TrapRow is a spam trap.
type TrapRow struct {
	Address string `json:"address"`
}

// SpamTraps lists the spam traps.
func (d *Desk) SpamTraps(ctx context.Context) error {
	traps, err := d.Rooms.Preferences.Traps(ctx)
	if err != nil {
		return fmt.Errorf("read spam traps: %w", err)
	}
	var rows []TrapRow
	for _, t := range traps {
		rows = append(rows, TrapRow{t})
	}
	return table(d, rows, "TRAP", func(r TrapRow) string { return r.Address })
}

// SpamTrap makes addresses spam traps, or ordinary ones again.
func (d *Desk) SpamTrap(ctx context.Context, addresses []string, remove bool) error {
	for _, s := range addresses {
		trap, err := preference.ParseTrap(s)
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", ErrUsage, err)
		case remove:
			err = d.Rooms.Preferences.RemoveTrap(ctx, trap)
		default:
			err = d.Rooms.Preferences.AddTrap(ctx, trap)
		}
		if err != nil {
			return listError(err)
		}
		if remove {
			d.say("%s is no spam trap any more.", trap)
			continue
		}
		d.tellTrap(ctx, trap)
	}
	return nil
}

// tellTrap says what a new trap does.
func (d *Desk) tellTrap(ctx context.Context, trap string) {
	local, name, _ := strings.Cut(trap, "@")
	if strings.HasSuffix(local, "*") {
		d.say("%s are spam traps, but for addresses that accounts and aliases have: whoever writes to the others counts as a sender of spam.", trap)
	} else {
		d.say("%s is a spam trap: whoever writes to it counts as a sender of spam.", trap)
	}
	if domain, err := address.ParseDomain(name); err == nil {
		if ours, err := d.Rooms.Accounts.IsLocal(ctx, domain); err == nil && !ours {
			d.say("%s is not served here, so nothing will come to it.", domain)
		}
	}
}

// SettingsRow is what an account wishes of the filters; "" is what the server does.
type SettingsRow struct {
	Account  string `json:"account"`
	Level    string `json:"level"`
	Wish     string `json:"wish"`
	Digest   string `json:"digest"`
	Bulk     string `json:"bulk"`
	Language string `json:"language"`
}

// SettingsOptions are what SpamSettings is told; "" leaves a setting as it is, "server" goes
// back to what the server does. Without any it shows what there is.
type SettingsOptions struct {
	Level, Wish, Digest, Bulk, Language string
}

// SpamSettings shows or changes what an account wishes of the filters.
func (d *Desk) SpamSettings(ctx context.Context, who string, o SettingsOptions) error {
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	s, err := d.Rooms.Preferences.Settings(ctx, a.ID)
	if err != nil {
		return fmt.Errorf("read settings of %s: %w", who, err)
	}
	if o != (SettingsOptions{}) {
		if s, err = d.Rooms.Preferences.Change(ctx, a.ID, o.edit); err != nil {
			return fmt.Errorf("change settings of %s: %w", who, err)
		}
	}
	row := SettingsRow{a.Address.String(), string(s.Level), string(s.Wish), string(s.Digest), string(s.Bulk), s.Language}
	return table(d, []SettingsRow{row}, "ACCOUNT\tLEVEL\tSPAM\tDIGEST\tBULK\tLANGUAGE", func(r SettingsRow) string {
		or := func(s string) string { return changed("server's", s) }
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", r.Account, or(r.Level), or(r.Wish), or(r.Digest), or(r.Bulk), or(r.Language))
	})
}

// edit makes the changes.
func (o SettingsOptions) edit(s preference.Settings) preference.Settings {
	return preference.Settings{Level: preference.Level(changed(string(s.Level), o.Level)), Wish: preference.Wish(changed(string(s.Wish), o.Wish)),
		Digest: preference.Choice(changed(string(s.Digest), o.Digest)), Bulk: preference.Choice(changed(string(s.Bulk), o.Bulk)), Language: changed(s.Language, o.Language)}
}

// changed is a setting after a change.
func changed(old, change string) string {
	switch change {
	case "":
		return old
	case "server":
		return ""
	}
	return change
}
