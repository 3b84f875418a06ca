// Bench measures Poczta against its peers on this machine: Postfix and Dovecot
// from Debian's packages, smtp-source as the generator and smtp-sink as the
// server that discards. Everything runs on loopback ports of its own, in a
// temporary folder, and is stopped by pid. Ratios are taken in one run; single
// absolute figures of a shared machine say little.
//
//	go run ./bench                  every row, three runs each
//	go run ./bench -rows 'inbound'  rows whose name matches
//	go run ./bench -runs 1 -seconds 2
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// row is one line of the table: a piece of work done by us and by a peer.
type row struct {
	name   string
	target string
	run    func(ctx context.Context, b *bench) (result, error)
}

// result is what a row measured. Ours and peer are in the same unit.
type result struct {
	unit   string
	ours   []float64
	peer   []float64
	peerOf string // name of the peer
	note   string
	less   bool // less is better
}

type bench struct {
	dir     string
	runs    int
	seconds time.Duration
	poczta  string // path of the binary
	stops   []func()
	huge    *ours // a store with 1,000,000 messages, made once
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	rows := flag.String("rows", "", "regular expression: only rows whose name matches")
	runs := flag.Int("runs", 3, "runs of each row; the median is printed")
	seconds := flag.Duration("seconds", 5*time.Second, "about how long one run takes")
	keep := flag.Bool("keep", false, "keep the temporary folder, with all logs")
	flag.Parse()
	want, err := regexp.Compile(*rows)
	if err != nil {
		return fmt.Errorf("read -rows: %w", err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	dir, err := os.MkdirTemp("", "poczta-bench-")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the peers run as users of their own
		return err
	}
	b := &bench{dir: dir, runs: *runs, seconds: *seconds}
	defer func() {
		b.stopAll()
		if !*keep {
			_ = os.RemoveAll(dir)
		} else {
			fmt.Fprintln(os.Stderr, "kept", dir)
		}
	}()
	if err := b.build(ctx); err != nil {
		return err
	}
	fmt.Printf("%d cores, %s, %d runs a row, medians; `go run ./bench`\n\n", runtime.NumCPU(), runtime.Version(), b.runs)
	fmt.Println("| work | ours | peer | ratio | target | remarks |")
	fmt.Println("|---|--:|--:|--:|---|---|")
	for _, r := range allRows() {
		if !want.MatchString(r.name) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		busy := busyCores()
		res, err := r.run(ctx, b)
		b.stopAll()
		if busy > 0.2 {
			res.note = strings.TrimPrefix(res.note+fmt.Sprintf("; %.1f cores were busy with other work before it", busy), "; ")
		}
		if errors.Is(err, errMissing) {
			fmt.Printf("| %s | | | | %s | not measured: %v |\n", r.name, r.target, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		fmt.Println(res.line(r))
	}
	return nil
}

// errMissing marks a peer that is not installed.
var errMissing = errors.New("not installed (run make test once, it installs the peers)")

func (b *bench) onStop(f func()) { b.stops = append(b.stops, f) }

// stopAll stops what was started, last first.
func (b *bench) stopAll() {
	for _, f := range slices.Backward(b.stops) {
		f()
	}
	b.stops = nil
}

func (r result) line(of row) string {
	peer, ratio := "", ""
	if len(r.peer) > 0 {
		peer = figure(median(r.peer), r.unit) + " " + r.peerOf
		q := median(r.ours) / median(r.peer)
		switch {
		case r.less && q < 0.1:
			ratio = fmt.Sprintf("1/%.0f", 1/q)
		case q < 1:
			ratio = fmt.Sprintf("%.0f %%", 100*q)
		default:
			ratio = fmt.Sprintf("%.1f ×", q)
		}
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", of.name, figure(median(r.ours), r.unit), peer, ratio, of.target, spread(r))
}

// spread tells the smallest and greatest of our runs, so that noise shows.
func spread(r result) string {
	if len(r.ours) < 2 {
		return r.note
	}
	s := fmt.Sprintf("%s to %s", figure(slices.Min(r.ours), ""), figure(slices.Max(r.ours), r.unit))
	if r.note != "" {
		s += "; " + r.note
	}
	return s
}

func figure(v float64, unit string) string {
	switch {
	case v >= 100:
		return strings.TrimSpace(fmt.Sprintf("%.0f %s", v, unit))
	case v >= 1:
		return strings.TrimSpace(fmt.Sprintf("%.1f %s", v, unit))
	}
	return strings.TrimSpace(fmt.Sprintf("%.3f %s", v, unit))
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	} else {
		return s[n/2]
	}
}
