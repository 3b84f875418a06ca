// Package daemon assembles the server from its configuration, from top to bottom
// in plain code: it opens sockets and engines, builds the services, owns every
// goroutine, reloads, and stops with a drain.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/control"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/tlsconf"
)

// Commands runs a command line inside the server and returns its exit code.
type Commands func(ctx context.Context, r *Rooms, args []string, s control.Streams) int

// Config is what a Daemon needs.
type Config struct {
	File        string         // the configuration's file, read again by a reload; "" reloads certificates only
	Config      *config.Config // as loaded
	Environment Environment    // of the service manager; zero outside one
	Output      io.Writer      // of the log
	Version     string
	Commands    Commands // nil opens no control socket
	// Prepared is called with the open rooms before anything listens for them.
	Prepared func(ctx context.Context, r *Rooms) error
	// Ready is called when every service listens.
	Ready func()
}

// Daemon is a server process. Make one by New, Run it once.
type Daemon struct {
	c        Config
	level    *slog.LevelVar
	log      *slog.Logger
	metrics  *obs.Metrics
	notify   notifier
	gate     gate
	certs    *tlsconf.Certs
	rooms    *Rooms
	listen   listeners
	mail     *mail
	ends     *endpoints
	failed   chan error
	started  time.Time
	reloadMu sync.Mutex
}

// New prepares a server; it opens nothing.
func New(c Config) (*Daemon, error) {
	if c.Config == nil || c.Output == nil {
		return nil, errors.New("daemon: Config and Output are required")
	}
	d := &Daemon{c: c, level: new(slog.LevelVar), metrics: obs.NewMetrics(), listen: listeners{}, failed: make(chan error, 32), started: time.Now()}
	d.level.Set(obs.Level(c.Config.Log.Level))
	d.log = obs.NewLogger(c.Output, c.Config.Log.Format, d.level)
	d.notify = notifier{addr: c.Environment.NotifySocket, log: d.log}
	d.gate.gateways = slices.Concat(config.Prefixes(c.Config.Proxy.From), config.Prefixes(c.Config.XClient.From))
	return d, d.gate.set(c.Config.Limits)
}

// Logger is the server's log.
func (d *Daemon) Logger() *slog.Logger { return d.log }

// Run serves until ctx ends, then stops accepting, lets sessions finish for the
// grace time of the configuration, and closes everything. Each value from reload
// reads the configuration again.
func (d *Daemon) Run(ctx context.Context, reload <-chan struct{}) (err error) {
	d.log.Info("starting", "version", d.c.Version, "hostname", d.c.Config.Hostname, "data", d.c.Config.Data)
	if err := d.open(ctx); err != nil {
		d.listen.close()
		return errors.Join(err, d.closeRooms())
	}
	defer func() { err = errors.Join(err, d.closeRooms()); d.log.Info("stopped") }()
	if d.c.Prepared != nil {
		if err := d.c.Prepared(ctx, d.rooms); err != nil {
			d.listen.close()
			return err
		}
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx by the drain
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	if err := d.start(work, &wg); err != nil {
		d.listen.close()
		return err
	}
	d.log.Info("ready", "took", time.Since(d.started).Round(time.Millisecond))
	d.notify.tell("READY=1", "STATUS=Serving.")
	if d.c.Ready != nil {
		d.c.Ready()
	}
	for {
		select {
		case <-ctx.Done():
			d.drain()
			return nil
		case err := <-d.failed:
			d.log.Error("service failed", "error", err)
			d.drain()
			return err
		case <-reload:
			d.reload()
		}
	}
}

// open takes sockets while the process may, becomes the data folder's owner, and
// opens the engines.
func (d *Daemon) open(ctx context.Context) error {
	c := d.c.Config
	files, err := raiseLimits(int64(c.Limits.Memory))
	if err != nil {
		d.log.Warn("limits", "error", err)
	}
	if err := d.fitConnections(files); err != nil {
		return err
	}
	inherited := d.c.Environment.Sockets
	if err := errors.Join(d.listen.inherit(inherited), d.listen.open(c, "tcp", inherited, d.log)); err != nil {
		return err
	}
	if err := BecomeOwner(c.Data); err != nil {
		return err
	}
	if d.rooms, err = OpenRooms(ctx, c, RoomOptions{File: d.c.File, Logger: d.log, Metrics: d.metrics}); err != nil {
		return err
	}
	d.rooms.Gateway = d.gate.crowd.gateway
	if err := d.listen.open(c, "unix", inherited, d.log); err != nil { // in folders that are the owner's
		return err
	}
	d.rooms.Listening = d.listen.list(inherited)
	if d.certs, err = newCerts(c, d.rooms.Files, d.log); err != nil {
		return err
	}
	if err := d.certs.Load(); err != nil {
		return err
	}
	if d.mail, err = newMail(ctx, d.rooms, d.metrics, d.log); err != nil {
		return err
	}
	if d.mail.out.relay != nil {
		d.rooms.Blocked = d.mail.out.relay.Blocked
	}
	d.ends, err = newEndpoints(d.rooms, d.mail, d.certs, &d.gate, d.metrics, d.log)
	return err
}

// fitConnections lowers the number of connections to what the number of open
// files allows (0 is unknown): otherwise strangers could take the files that
// storing mail and commands need.
func (d *Daemon) fitConnections(files uint64) error {
	l := d.c.Config.Limits
	switch {
	case files == 0:
		return nil
	case files < leastFiles:
		return fmt.Errorf("only %d files may be open, and the server needs %d at least; raise LimitNOFILE or ulimit -n", files, leastFiles)
	}
	d.gate.files = int64(min(files, 1<<40))
	if most := connectionsWithin(d.gate.files); most < int64(l.Connections) {
		d.log.Warn("fewer connections than limits.connections fit into the open files allowed; raise LimitNOFILE, or lower limits.connections",
			"files", files, "connections", most)
	}
	return d.gate.set(l)
}

func (d *Daemon) closeRooms() error {
	if d.rooms == nil {
		return nil
	}
	return d.rooms.Close()
}

// newCerts builds the provider of certificates.
func newCerts(c *config.Config, files *disk.OSFS, log *slog.Logger) (*tlsconf.Certs, error) {
	versions := map[string]uint16{"1.2": 0x0303, "1.3": 0x0304}
	t := tlsconf.Config{Mode: tlsconf.Mode(c.TLS.Mode), Names: c.TLSNames(), Dir: c.Sub(tlsFolder), ClientCA: c.TLS.ClientCA,
		MinVersion: versions[c.TLS.MinVersion], Logger: log, Save: func(path string, data []byte) error { return saveIn(files, c.Data, path, data) },
		Authority: tlsconf.Authority{Directory: c.TLS.ACME.Directory, Email: c.TLS.ACME.Email, Root: c.TLS.ACME.Root,
			HTTPPort: portOf(c, "http"), TLSPort: portOf(c, "https")}}
	for _, p := range c.TLS.Certificates {
		t.Pairs = append(t.Pairs, tlsconf.Pair{Cert: p.Cert, Key: p.Key})
	}
	return tlsconf.New(t)
}

// saveIn writes a file of the data folder durably.
func saveIn(files disk.FS, data, path string, octets []byte) error {
	rel, err := filepath.Rel(data, path)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := files.MkdirAll(filepath.ToSlash(filepath.Dir(rel))); err != nil {
		return err
	}
	return disk.WriteFile(files, filepath.ToSlash(rel), octets)
}

// reload reads the configuration again and takes what may change while the
// server runs. Anything wrong leaves everything as it is.
func (d *Daemon) reload() {
	d.reloadMu.Lock()
	defer d.reloadMu.Unlock()
	d.notify.reloading()
	later, err := d.tryReload()
	d.metrics.Reloaded(err)
	if err != nil {
		d.log.Error("reload refused; the old configuration stays", "error", err)
		d.notify.tell("READY=1", "STATUS=Serving; the last reload was refused: "+firstLine(err.Error()))
		return
	}
	d.log.Info("reloaded")
	if len(later) > 0 {
		d.log.Warn("these keys change at the next start only", "keys", later)
	}
	d.notify.tell("READY=1", "STATUS=Serving.")
}

func (d *Daemon) tryReload() (later []string, err error) {
	next := d.c.Config
	if d.c.File != "" {
		if next, err = config.Load(d.c.File); err != nil {
			return nil, err
		}
	}
	later = config.Changes(d.c.Config, next, "log.level", "limits.", "submission.")
	rules, err := d.mail.submit.prepare(next.Submission)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(later, func(k string) bool { return k == "tls.mode" || k == "tls.certificate" || k == "tls.names" }) {
		if err := d.certs.Load(); err != nil {
			return nil, err
		}
	}
	if err := d.gate.set(next.Limits); err != nil {
		return nil, err
	}
	if _, err := raiseLimits(int64(next.Limits.Memory)); err != nil {
		d.log.Warn("limits", "error", err)
	}
	d.mail.submit.current.Store(rules)
	d.level.Set(obs.Level(next.Log.Level))
	return later, nil
}

func firstLine(s string) string {
	for i, r := range s {
		if r == '\n' {
			return s[:i]
		}
	}
	return s
}
