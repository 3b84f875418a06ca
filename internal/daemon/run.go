package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/control"
	"poczta.example/poczta/internal/db"
)

// Times of the daemon's own work.
const (
	snapshotEvery   = 24 * time.Hour
	snapshotLook    = 10 * time.Minute
	snapshotsKept   = 7
	httpHeaderTime  = 10 * time.Second
	certificateLook = time.Hour
)

// start begins everything; each goroutine is in wg and ends when work does.
func (d *Daemon) start(work context.Context, wg *sync.WaitGroup) error {
	serve := func(what string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(work); err != nil && work.Err() == nil {
				d.failed <- fmt.Errorf("%s: %w", what, err)
			}
		})
	}
	for name, list := range d.listen {
		for _, l := range list {
			switch name {
			case "pop3":
				serve(name, func(ctx context.Context) error { return d.ends.pop3.Serve(ctx, l) })
			case "pop3s":
				serve(name, func(ctx context.Context) error { return d.ends.pop3.ServeTLS(ctx, l) })
			case "metrics":
				serve(name, serveHTTP(l, d.metrics.Handler(d.health)))
			case "http":
				serve(name, serveHTTP(l, d.certs.HTTP(http.NotFoundHandler())))
			case "https":
				pages, err := settingsPages(d.rooms, d.mail.offices.pages(stsHandler(d.rooms)))
				if err != nil {
					return err
				}
				serve(name, serveHTTP(tls.NewListener(l, d.certs.HTTPS()), pages))
			default:
				serve(name, func(ctx context.Context) error { return d.ends.smtp[name].Serve(ctx, l) })
			}
			d.log.Info("listening", "service", name, "address", l.Addr().String())
		}
	}
	r := d.rooms
	serve("mailboxes", r.Mailboxes.Run)
	serve("trace", r.Trace.Run)
	serve("signing keys", r.Keys.Run)
	serve("certificates", d.certs.Run)
	d.startOutbound(serve)
	if d.mail.repeats != nil {
		serve("letters handed in before", d.mail.repeats.Run)
	}
	serve("digests", d.mail.offices.digest.Run)
	for _, l := range d.mail.filters.runs {
		serve(l.name, l.loop)
	}
	if r.Segments != nil {
		serve("segments", r.Segments.Run)
		serve("merge", d.mergeLoop)
	}
	if _, ok := r.DB.(*db.SQLite); ok {
		serve("snapshots", d.snapshotLoop)
	}
	serve("certificate figures", d.certificateLoop)
	serve("backups", d.backupLoop)
	if c := d.c.Config; c.TLS.Mode == "acme" && c.Autoconfigures() && c.Autoconfig.Certificates {
		serve("certificates for mail programs' names", d.nameLoop)
	}
	wg.Go(func() { d.notify.watch(work, d.c.Environment.Watchdog, d.health) })
	if d.c.Commands == nil {
		return nil
	}
	return d.startControl(serve)
}

func (d *Daemon) startControl(serve func(string, func(context.Context) error)) error {
	l, err := control.Listen(d.c.Config.ControlSocket())
	if err != nil {
		return err
	}
	s, err := control.New(control.Config{Version: d.c.Version, Logger: d.log, Owner: -1,
		Handler: func(ctx context.Context, args []string, st control.Streams) int {
			return d.c.Commands(ctx, d.rooms, args, st)
		}})
	if err != nil {
		l.Close()
		return err
	}
	serve("control", func(ctx context.Context) error { return s.Serve(ctx, l) })
	return nil
}

// startOutbound begins the sending side.
func (d *Daemon) startOutbound(serve func(string, func(context.Context) error)) {
	o := d.mail.out
	serve("TLS policies", o.tls.Run)
	if o.reports != nil {
		serve("TLS reports", o.reports.Run)
	}
	if o.relay != nil {
		serve("relay", o.relay.Run)
	} else if d.rooms.DB.Engine() == "postgresql" {
		serve("queue", announcer(d.rooms.Queue, d.c.Config.Hostname, d.log))
	}
}

// serveHTTP serves small pages until its context ends.
func serveHTTP(l net.Listener, h http.Handler) func(context.Context) error {
	return func(ctx context.Context) error {
		s := &http.Server{Handler: h, ReadHeaderTimeout: httpHeaderTime, ReadTimeout: httpHeaderTime, WriteTimeout: time.Minute,
			IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: log.New(io.Discard, "", 0)}
		stop := context.AfterFunc(ctx, func() { _ = s.Close() })
		defer stop()
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}

// drain stops accepting, tells idle sessions, and lets transactions finish for
// the grace time.
func (d *Daemon) drain() {
	grace := d.c.Config.Limits.Grace.Duration()
	d.log.Info("stopping", "grace", grace)
	d.notify.tell("STOPPING=1", "STATUS=Draining.")
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	var wg sync.WaitGroup
	shut := func(name string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				d.log.Warn("sessions cut off", "service", name, "error", err)
			}
		})
	}
	for name, s := range d.ends.smtp {
		shut(name, s.Shutdown)
	}
	shut("pop3", d.ends.pop3.Shutdown)
	wg.Wait()
}

// health tells whether the server can do its work: the database answers.
func (d *Daemon) health(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var one int64
	if err := d.rooms.DB.View(ctx, func(tx db.Tx) error { return tx.QueryRow(`SELECT 1`).Scan(&one) }); err != nil {
		return fmt.Errorf("ask database: %w", err)
	}
	return nil
}

// snapshotLoop copies the database once a day and keeps the newest copies.
func (d *Daemon) snapshotLoop(ctx context.Context) error {
	return every(ctx, snapshotLook, func() {
		newest, err := d.rooms.newestSnapshot()
		if err == nil && time.Since(newest) < snapshotEvery {
			return
		}
		file, err := d.rooms.Snapshot(ctx, time.Now())
		if err != nil {
			d.log.Error("daily snapshot", "error", err)
			return
		}
		d.log.Info("daily snapshot", "file", file)
		if err := d.rooms.dropSnapshots(snapshotsKept); err != nil {
			d.log.Error("remove old snapshots", "error", err)
		}
	})
}

func (d *Daemon) certificateLoop(ctx context.Context) error {
	return every(ctx, certificateLook, func() {
		for _, c := range d.certs.List() {
			for _, n := range c.Names {
				d.metrics.Certificate(n, c.NotAfter)
			}
			if left := time.Until(c.NotAfter); left < 14*24*time.Hour {
				d.log.Warn("certificate ends soon", "names", c.Names, "not_after", c.NotAfter)
			}
		}
	})
}

// every runs f soon, and then again after each pause, until ctx ends.
func every(ctx context.Context, pause time.Duration, f func()) error {
	timer := time.NewTimer(min(pause, 30*time.Second))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			f()
			timer.Reset(pause)
		}
	}
}

// portOf is the port that a service of [listen] is on, 0 when it is off.
func portOf(c *config.Config, service string) int {
	eps, err := c.Endpoints("listen."+service, entries(c, service))
	if err != nil {
		return 0
	}
	for _, e := range eps {
		if _, p, err := net.SplitHostPort(e.Address); err == nil {
			n, _ := strconv.Atoi(p)
			return n
		}
	}
	return 0
}
