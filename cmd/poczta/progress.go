package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// How often progress is told: drawn on a terminal, written as lines elsewhere.
const (
	drawEvery = 100 * time.Millisecond
	lineEvery = 5 * time.Second
)

// progress tells how far the reading of mail has come. Used by one goroutine.
type progress struct {
	w        io.Writer
	bar      *progressbar.ProgressBar // nil when w is no terminal
	total    int64                    // octets
	began    time.Time
	told     time.Time
	messages int
}

// newProgress begins to tell of total octets on w.
func newProgress(w io.Writer, total int64) *progress {
	g := &progress{w: w, total: max(total, 1), began: time.Now(), told: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		g.bar = progressbar.NewOptions64(g.total, progressbar.OptionSetWriter(w), progressbar.OptionShowBytes(true), progressbar.OptionShowCount(), progressbar.OptionUseIECUnits(true),
			progressbar.OptionShowTotalBytes(true), progressbar.OptionSetPredictTime(true), progressbar.OptionSetWidth(24), progressbar.OptionSetDescription("Reading mail"))
	}
	return g
}

// at tells that one more message was read, and how many octets of all are.
func (g *progress) at(octets int64) {
	g.messages++
	every := lineEvery
	if g.bar != nil {
		every = drawEvery
	}
	if now := time.Now(); now.Sub(g.told) >= every {
		g.told = now
		g.tell(octets, now)
	}
}

func (g *progress) tell(octets int64, now time.Time) {
	octets = min(octets, g.total)
	if g.bar != nil {
		g.bar.Describe(fmt.Sprintf("%d messages", g.messages))
		_ = g.bar.Set64(octets)
		return
	}
	seconds := now.Sub(g.began).Seconds()
	rate := float64(octets) / max(seconds, 0.001)
	left := time.Duration(float64(g.total-octets) / max(rate, 1) * float64(time.Second)).Round(time.Second)
	fmt.Fprintf(g.w, "%d messages read, %s of %s, %.0f messages/s, %s/s, %s left\n",
		g.messages, mebi(octets), mebi(g.total), float64(g.messages)/max(seconds, 0.001), mebi(int64(rate)), left)
}

// say prints a line beside the progress.
func (g *progress) say(format string, args ...any) {
	if g.bar != nil {
		_ = g.bar.Clear()
	}
	fmt.Fprintf(g.w, format+"\n", args...)
}

// end removes the bar; what was done is said by the command.
func (g *progress) end() {
	if g.bar != nil {
		_ = g.bar.Clear()
	}
}

func mebi(octets int64) string {
	return fmt.Sprintf("%.1f MiB", float64(octets)/(1<<20))
}
