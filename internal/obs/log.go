// Package obs is how the server is observed: its log, its figures for Prometheus,
// and its health page. It connects the hooks of the rooms below, which know no
// metrics library.
package obs

import (
	"io"
	"log/slog"
	"strings"
)

// NewLogger returns a logger that writes lines of text or JSON to w, as format
// says ("json"; everything else is text), from level upwards. The level may be
// changed while the logger is used.
func NewLogger(w io.Writer, format string, level *slog.LevelVar) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: tidy}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// tidy writes times in UTC and durations as text.
func tidy(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindTime:
		return slog.Time(a.Key, a.Value.Time().UTC())
	case slog.KindDuration:
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
