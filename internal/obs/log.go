// Package obs is how the server is observed: its log, its figures for Prometheus,
// and its health page. It connects the hooks of the rooms below, which know no
// metrics library.
package obs

import (
	"context"
	"io"
	"log/slog"
	"strings"
)

// NewLogger returns a logger that writes lines of text or JSON to w, as format
// says ("json"; everything else is text), from level upwards, with the time of
// each line in UTC and durations as text. The level may be changed while the
// logger is used.
func NewLogger(w io.Writer, format string, level *slog.LevelVar) *slog.Logger {
	if format == "json" {
		return slog.New(utc{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: durations})})
	}
	return slog.New(utc{slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})})
}

// utc gives each record its time in UTC. Text needs nothing else replaced, and
// without ReplaceAttr a line costs a third: there is one for every message.
type utc struct{ slog.Handler }

// Handle implements slog.Handler.
func (h utc) Handle(ctx context.Context, r slog.Record) error {
	r.Time = r.Time.UTC()
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h utc) WithAttrs(attrs []slog.Attr) slog.Handler { return utc{h.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (h utc) WithGroup(name string) slog.Handler { return utc{h.Handler.WithGroup(name)} }

// durations writes durations as text, where JSON would have nanoseconds.
func durations(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	return a
}

// Level reads the words of the configuration; an unknown one is info.
func Level(s string) slog.Level {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}
