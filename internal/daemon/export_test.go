package daemon

import (
	"net/netip"

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
