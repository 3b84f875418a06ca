package mua

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"poczta.example/poczta/internal/mua/fetch"
)

// How often progress is told: drawn on a terminal, written as lines elsewhere.
const (
	drawEvery = 100 * time.Millisecond
	lineEvery = 5 * time.Second
)

// barWidth is how many characters a bar has.
const barWidth = 24

// meter tells how far something is: count, octets, rate and time left. Safe for concurrent use.
type meter struct {
	w        io.Writer
	what     string // "ala@example.org", before the numbers
	terminal bool
	clock    func() time.Time

	mu          sync.Mutex
	began, told time.Time
	drawn       bool
}

func newMeter(d *Desk, what string) *meter {
	return &meter{w: d.Err, what: what, terminal: d.Terminal, clock: d.Mail.now, told: d.Mail.now()}
}

// at tells that done letters of total are there, and octets of all.
func (m *meter) at(done, total int, octets, all int64, note string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock()
	if m.began.IsZero() {
		m.began = now
	}
	every := lineEvery
	if m.terminal {
		every = drawEvery
	}
	if now.Sub(m.told) < every && !(m.terminal && !m.drawn) {
		return
	}
	m.told = now
	text := progressText(done, total, octets, all, now.Sub(m.began))
	if note != "" {
		text += ", " + note
	}
	if !m.terminal {
		fmt.Fprintf(m.w, "%s: %s\n", m.what, text)
		return
	}
	fmt.Fprintf(m.w, "\r%s %s %s\x1b[K", m.what, bar(octets, all), text)
	m.drawn = true
}

// fetched is at for a fetch.
func (m *meter) fetched(p fetch.Progress) {
	note := ""
	switch {
	case p.Filing > 0:
		note = fmt.Sprintf("putting %d into their folders", p.Filing)
	case p.Deleting > 0:
		note = fmt.Sprintf("deleting %d on the server", p.Deleting)
	}
	m.at(p.Letters, p.TotalLetters, p.Octets, p.TotalOctets, note)
}

// end removes what was drawn.
func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drawn {
		fmt.Fprint(m.w, "\r\x1b[K")
		m.drawn = false
	}
}

func progressText(done, total int, octets, all int64, took time.Duration) string {
	count := fmt.Sprintf("%d letters", done)
	if total > 0 {
		count = fmt.Sprintf("%d of %d letters", done, total)
	}
	volume := size(octets)
	if all > 0 {
		volume += " of " + size(all)
	}
	rate := float64(octets) / max(took.Seconds(), 0.001)
	text := fmt.Sprintf("%s, %s, %s/s", count, volume, size(int64(rate)))
	if all > octets && rate >= 1 && took > time.Second {
		text += fmt.Sprintf(", %s left", (time.Duration(float64(all-octets) / rate * float64(time.Second))).Round(time.Second))
	}
	return text
}

func bar(done, all int64) string {
	n := 0
	if all > 0 {
		n = int(min(done, all) * barWidth / all)
	}
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", barWidth-n) + "]"
}
