package main

import (
	"context"

	"poczta.example/poczta/internal/admin"
)

type queueCmd struct {
	List         queueListCmd         `cmd:"" help:"List what waits."`
	Show         queueShowCmd         `cmd:"" help:"Show one message with its recipients."`
	Retry        queueRetryCmd        `cmd:"" help:"Try mail now."`
	Hold         queueHoldCmd         `cmd:"" help:"Keep mail in the queue until it is released."`
	Release      queueReleaseCmd      `cmd:"" help:"Let held mail go."`
	Bounce       queueBounceCmd       `cmd:"" help:"Return mail to its senders."`
	Remove       queueRemoveCmd       `cmd:"" help:"Take mail from the queue; nobody is told."`
	Destinations queueDestinationsCmd `cmd:"" help:"List where mail goes, and how that stands."`
	Suspend      queueSuspendCmd      `cmd:"" help:"Stop delivery to a destination; its mail waits."`
	Resume       queueResumeCmd       `cmd:"" help:"Deliver to a suspended destination again."`
}

type queueFilter struct {
	From   string `help:"Only this reverse-path; <> is the null one."`
	To     string `help:"Only this forward-path."`
	Domain string `help:"Only this destination."`
	State  string `help:"Only recipients that are waiting, held or returning."`
	Older  string `help:"Only mail queued longer ago: 2h, 2026-11-23, or with a time."`
}

func (f queueFilter) admin() admin.QueueFilter {
	return admin.QueueFilter{From: f.From, To: f.To, Domain: f.Domain, State: f.State, Older: f.Older}
}

// queueTarget names the mail that a verb is about.
type queueTarget struct {
	ID string `arg:"" optional:"" help:"Queue id."`
	queueFilter
	All bool `help:"The whole queue."`
}

type queueListCmd struct {
	queueFilter
	asJSON
}

func (c *queueListCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).QueueList(ctx, c.admin())
}

type queueShowCmd struct {
	ID string `arg:"" help:"Queue id."`
	asJSON
}

func (c *queueShowCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).QueueShow(ctx, c.ID)
}

type queueRetryCmd struct{ queueTarget }

func (c *queueRetryCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.QueueDo(ctx, admin.QueueRetry, c.ID, c.admin(), c.All, "")
}

type queueHoldCmd struct {
	queueTarget
	Reason string `help:"Why, for lists."`
}

func (c *queueHoldCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.QueueDo(ctx, admin.QueueHold, c.ID, c.admin(), c.All, c.Reason)
}

type queueReleaseCmd struct{ queueTarget }

func (c *queueReleaseCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.QueueDo(ctx, admin.QueueRelease, c.ID, c.admin(), c.All, "")
}

type queueBounceCmd struct {
	queueTarget
	Reason string `help:"What the senders are told."`
	yes
}

func (c *queueBounceCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.QueueDo(ctx, admin.QueueBounce, c.ID, c.admin(), c.All, c.Reason)
}

type queueRemoveCmd struct {
	queueTarget
	yes
}

func (c *queueRemoveCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.QueueDo(ctx, admin.QueueRemove, c.ID, c.admin(), c.All, "")
}

type queueDestinationsCmd struct{ asJSON }

func (c *queueDestinationsCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).QueueDestinations(ctx)
}

type queueSuspendCmd struct {
	Destination string `arg:"" help:"A domain."`
	Reason      string `help:"Why, for lists."`
}

func (c *queueSuspendCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.QueueSuspend(ctx, c.Destination, c.Reason)
}

type queueResumeCmd struct {
	Destination string `arg:"" help:"A domain."`
}

func (c *queueResumeCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.QueueResume(ctx, c.Destination)
}
