package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/rebuild"
)

// storeRebuildCmd runs in this process alone: no server may have the folder.
type storeRebuildCmd struct {
	Scratch bool `help:"Use no snapshot: accounts come back without passwords."`
	yes
}

// Run implements local.
func (c *storeRebuildCmd) Run(ctx context.Context, p *process, all *cli) error {
	conf, err := config.Load(all.Config)
	if err != nil {
		return err
	}
	if _, _, exists, err := daemon.Owner(conf.Data); err != nil {
		return err
	} else if !exists {
		return fmt.Errorf("the data folder %s does not exist; make it with: poczta setup", conf.Data)
	}
	if err := c.confirm(p, "The database will be made anew from the stored messages; the old one is kept beside it."); err != nil {
		return err
	}
	if err := daemon.BecomeOwner(conf.Data); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	report, err := daemon.Rebuild(ctx, conf, daemon.RoomOptions{Logger: log}, c.Scratch, tell(p.stderr))
	if errors.Is(err, daemon.ErrBusy) {
		return fmt.Errorf("a server or another command works on the data folder %s: stop it, then run poczta store rebuild again", conf.Data)
	}
	if err != nil {
		return err
	}
	printRebuild(p.stdout, report)
	return nil
}

// tell prints progress, at most every two seconds.
func tell(w io.Writer) func(rebuild.Progress) {
	last := time.Now()
	return func(g rebuild.Progress) {
		if time.Since(last) < 2*time.Second {
			return
		}
		last = time.Now()
		switch {
		case g.Total > 0:
			fmt.Fprintf(w, "%s: %d of %d MiB\n", g.Step, g.Done>>20, g.Total>>20)
		case g.Done > 0:
			fmt.Fprintf(w, "%s: %d\n", g.Step, g.Done)
		default:
			fmt.Fprintln(w, g.Step)
		}
	}
}

// printRebuild says what became of everything, and what is left to a person.
func printRebuild(w io.Writer, r rebuild.Report) {
	base := "without a snapshot"
	if r.Snapshot != "" {
		base = "from " + r.Snapshot
	}
	fmt.Fprintf(w, "The database is rebuilt %s: %d messages in mailboxes, %d deleted ones that can be restored.\n", base, r.Messages, r.Retained)
	if r.Restored > 0 {
		fmt.Fprintf(w, "%d messages came from the segments.\n", r.Restored)
	}
	if r.Accounts > 0 {
		fmt.Fprintf(w, "%d accounts came back without a password, further addresses and settings: set each with poczta account password. Aliases of that time are gone.\n", r.Accounts)
	}
	if r.Recovered > 0 {
		fmt.Fprintf(w, "%d messages may never have been accepted, or come a second time; they lie in the mailbox %s of their accounts.\n", r.Recovered, rebuild.Recovered)
	}
	if r.Held > 0 {
		fmt.Fprintf(w, "%d queued recipients are on hold; poczta queue list shows them. They may have been sent already.\n", r.Held)
	}
	if r.Damaged > 0 || r.Lost > 0 {
		fmt.Fprintf(w, "%d places in the segments are damaged, and %d entries have lost their message; poczta store check names them.\n", r.Damaged, r.Lost)
	}
	if r.Old != "" {
		fmt.Fprintf(w, "The old database is kept as %s; remove it when all is well.\n", r.Old)
	}
}
