package intake

import (
	"context"
	"errors"
	"log/slog"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/smtp"
)

// logAccepted writes the line that ties the connection to the message id.
func (t *Transaction) logAccepted(ctx context.Context, d *post.Delivery) {
	origin := &t.env.Origin
	attrs := []slog.Attr{
		slog.String("queue_id", d.ID.String()), slog.String("conn_id", origin.ConnID),
		slog.String("reverse_path", t.env.ReversePath.String()), slog.String("message_id", d.MessageID),
		slog.Int64("octets", d.Staged.Octets()), slog.Int("recipients", len(t.env.Recipients)),
		slog.Int("mailboxes", len(d.Locals)), slog.Int("queued", len(d.Remotes)),
	}
	if p := t.env.Priority; p != 0 { // RFC 6710 §4.1
		attrs = append(attrs, slog.Int("priority", p))
	}
	if origin.Login != "" {
		attrs = append(attrs, slog.String("login", origin.Login))
	}
	t.in.c.Logger.LogAttrs(ctx, slog.LevelInfo, "message accepted", attrs...)
}

// logRepeated writes that a message is one that was taken before.
func (t *Transaction) logRepeated(ctx context.Context, first message.ID) {
	t.in.c.Logger.LogAttrs(ctx, slog.LevelInfo, "message was handed in before and makes no second copy",
		slog.String("queue_id", first.String()), slog.String("conn_id", t.env.Origin.ConnID), slog.String("login", t.env.Origin.Login),
		slog.Int("recipients", len(t.env.Recipients)))
}

// logRefused writes why a recipient or a message was refused; r is nil for the
// whole message.
func (t *Transaction) logRefused(ctx context.Context, r *envelope.Recipient, err error) {
	status, level := "451 4.3.0", slog.LevelWarn
	var known *smtp.Error
	if errors.As(err, &known) {
		status, level = known.Reply.String(), slog.LevelInfo
	}
	attrs := []slog.Attr{
		slog.String("conn_id", t.env.Origin.ConnID), slog.String("peer", t.env.Origin.Peer.String()),
		slog.String("reverse_path", t.env.ReversePath.String()), slog.String("status", status), slog.Any("error", err),
	}
	if r == nil {
		t.in.c.Logger.LogAttrs(ctx, level, "message refused", attrs...)
		return
	}
	attrs = append(attrs, slog.String("forward_path", r.ForwardPath.String()))
	t.in.c.Logger.LogAttrs(ctx, level, "recipient refused", attrs...)
}
