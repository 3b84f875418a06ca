package main

import (
	"context"
	"io"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/admin"
)

type forwardCmd struct {
	accountArg
	asJSON
	Targets []string `arg:"" optional:"" help:"Addresses that get the mail, in place of those before. Without any, and without a flag, the forwarding is shown."`
	Keep    bool     `help:"Keep a copy in the mailbox." default:"true" negatable:""`
	Off     bool     `help:"End the forwarding."`
	Resume  bool     `help:"Let targets get mail again that were suspended after mail to them had failed."`
}

// Work implements desk.
func (c *forwardCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).AccountForward(ctx, c.Address, admin.ForwardOptions{Targets: c.Targets, Keep: c.Keep, Off: c.Off, Resume: c.Resume})
}

type suspendedCmd struct{ asJSON }

// Work implements desk.
func (c *suspendedCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).SuspendedForwards(ctx)
}

type vacationCmd struct {
	accountArg
	asJSON
	On       bool   `help:"Send replies, with a standard text unless a flag says otherwise. Without any flag, what is set up is shown."`
	From     string `help:"First day, as in 2026-12-24, or a time as in RFC 3339; at once without it." placeholder:"DAY"`
	Until    string `help:"Last day, or a time; until --off without it." placeholder:"DAY"`
	Subject  string `help:"Subject of replies; without it \"Auto: \" and the subject of the message."`
	TextFile string `help:"Text of replies, UTF-8; - is the standard input." placeholder:"FILE"`
	Days     int    `help:"A sender gets one reply within so many days." default:"7"`
	Off      bool   `help:"Send no replies any more."`
}

// Input implements asker: the text.
func (c *vacationCmd) Input(_ context.Context, p *process) (io.ReadCloser, error) {
	if c.TextFile == "" {
		return io.NopCloser(eof{}), nil
	}
	return p.open(c.TextFile)
}

// Work implements desk.
func (c *vacationCmd) Work(ctx context.Context, d *admin.Desk) error {
	set := c.On || c.From != "" || c.Until != "" || c.Subject != "" || c.TextFile != "" || c.Days != account.DefaultVacationDays
	return c.on(d).AccountVacation(ctx, c.Address, admin.VacationOptions{Set: set, Off: c.Off, From: c.From, Until: c.Until, Subject: c.Subject, Text: c.TextFile != "", Days: c.Days})
}
