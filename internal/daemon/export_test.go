package daemon

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"poczta.example/poczta/internal/config"
)

// Crowd lets the tests count connections.
type Crowd struct{ c crowd }

// Note counts a connection.
func (c *Crowd) Note(a netip.Addr) { c.c.note(a) }

// Gateway returns what was found.
func (c *Crowd) Gateway() (netip.Addr, bool) { return c.c.gateway() }

// Gate lets the tests admit connections.
type Gate struct{ g gate }

// NewGate makes a gate with these limits where files may be open.
func NewGate(l config.Limits, files int64, gateways ...netip.Prefix) (*Gate, error) {
	g := &Gate{gate{files: files, gateways: gateways}}
	return g, g.g.set(l)
}

// Gateway is the crowd's.
func (g *Gate) Gateway() (netip.Addr, bool) { return g.g.crowd.gateway() }

// Admit counts a connection.
func (g *Gate) Admit(a netip.AddrPort) error {
	_, err := g.g.admit(a)
	return err
}

// RelayRoutes names the ways of mail in their order.
func RelayRoutes(c *config.Relay) ([]string, error) {
	routes, err := relayRoutes(c)
	var names []string
	for _, r := range routes {
		names = append(names, r.Name)
	}
	return names, err
}

// ManageNames is manageNames.
var ManageNames = manageNames

// NamesAtOnce is namesAtOnce.
const NamesAtOnce = namesAtOnce

// BackupDue is backupDue.
var BackupDue = backupDue

// Scheduled is a server that does nothing but its daily backup.
type Scheduled struct{ d *Daemon }

// NewScheduled opens the rooms of a server.
func NewScheduled(ctx context.Context, c Config) (*Scheduled, error) {
	d, err := New(c)
	if err == nil {
		d.rooms, err = OpenRooms(ctx, c.Config, RoomOptions{Metrics: d.metrics, File: c.File})
	}
	return &Scheduled{d}, err
}

// Look is one look at the clock, at now.
func (s *Scheduled) Look(ctx context.Context, tried, now time.Time) time.Time {
	return s.d.backupLooked(ctx, tried, now)
}

// Metrics is the page of figures.
func (s *Scheduled) Metrics() http.Handler {
	return s.d.metrics.Handler(func(context.Context) error { return nil })
}

// Close closes the rooms.
func (s *Scheduled) Close() error { return s.d.closeRooms() }
