package main

import (
	"context"
	"fmt"

	"poczta.example/poczta/internal/admin"
)

type mailboxCmd struct {
	List    mailboxListCmd    `cmd:"" help:"List an account's mailboxes."`
	Export  mailboxExportCmd  `cmd:"" help:"Write an account's mail into an mbox file, a Maildir or .eml files."`
	Import  mailboxImportCmd  `cmd:"" help:"Add mail from an mbox file, a Maildir or .eml files; can be stopped and repeated."`
	Move    mailboxMoveCmd    `cmd:"" help:"Move messages to another mailbox; into Junk and out of it the filters learn."`
	Deleted mailboxDeletedCmd `cmd:"" help:"List deleted mail that can be restored."`
	Restore mailboxRestoreCmd `cmd:"" help:"Put deleted mail back."`
	Purge   mailboxPurgeCmd   `cmd:"" help:"Remove deleted mail for ever."`
}

type mailboxListCmd struct {
	accountArg
	asJSON
}

func (c *mailboxListCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).MailboxList(ctx, c.Address)
}

type mailboxMoveCmd struct {
	accountArg
	IDs []string `arg:"" name:"id" help:"Messages, by the ids that poczta trace shows."`
	To  string   `required:"" help:"Into this mailbox; it is made when missing." placeholder:"MAILBOX"`
	asJSON
}

func (c *mailboxMoveCmd) Help() string {
	return `What goes into Junk or Quarantine teaches the filters spam, what comes out of
them that it is wanted, as when the account's owner does it.

    poczta trace ala@example.org
    poczta mailbox move ala@example.org 06h0hiu99dmp71nif4c9b7ovok --to Junk`
}

func (c *mailboxMoveCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).MailboxMove(ctx, c.Address, c.IDs, c.To)
}

type selection struct {
	UniqueIDs []string `arg:"" optional:"" name:"unique-id" help:"Only these messages, as poczta mailbox deleted names them."`
	Mailbox   string   `help:"Only those of a mailbox."`
	Since     string   `help:"Only those deleted since then: 2h, 2026-11-23, or with a time."`
}

func (s selection) admin() admin.Selection {
	return admin.Selection{UniqueIDs: s.UniqueIDs, Mailbox: s.Mailbox, Since: s.Since}
}

type mailboxDeletedCmd struct {
	accountArg
	selection
	asJSON
}

func (c *mailboxDeletedCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).MailboxDeleted(ctx, c.Address, c.admin())
}

type mailboxRestoreCmd struct {
	accountArg
	selection
}

func (c *mailboxRestoreCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.MailboxRestore(ctx, c.Address, c.admin())
}

type mailboxPurgeCmd struct {
	accountArg
	selection
	yes
}

func (c *mailboxPurgeCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.MailboxPurge(ctx, c.Address, c.admin())
}

type traceCmd struct {
	What  string `arg:"" help:"An address, a Message-ID, or a queue id."`
	Limit int    `help:"Newest messages to show." default:"20"`
	asJSON
}

func (c *traceCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).Trace(ctx, c.What, c.Limit)
}

type storeCmd struct {
	Check    storeCheckCmd    `cmd:"" help:"Read every octet and name what is damaged or missing."`
	Merge    storeMergeCmd    `cmd:"" help:"Give the octets of purged mail back to the disk."`
	Snapshot storeSnapshotCmd `cmd:"" help:"Copy the database now."`
	Rebuild  storeRebuildCmd  `cmd:"" help:"Make the database anew from the stored messages and the newest snapshot."`
	Migrate  storeMigrateCmd  `cmd:"" help:"Bring the database's schema up to this program."`
}

type storeCheckCmd struct{ asJSON }

func (c *storeCheckCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).StoreCheck(ctx)
}

type storeMergeCmd struct{ asJSON }

func (c *storeMergeCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).StoreMerge(ctx)
}

type storeSnapshotCmd struct{}

func (c *storeSnapshotCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.StoreSnapshot(ctx)
}

type storeMigrateCmd struct{}

func (c *storeMigrateCmd) migrates() {}

// Work implements desk. Opening the store has done it.
func (c *storeMigrateCmd) Work(_ context.Context, d *admin.Desk) error {
	_, err := fmt.Fprintln(d.Out, "The schema is that of this program.")
	return err
}
