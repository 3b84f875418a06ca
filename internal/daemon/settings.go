package daemon

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/resolver"
)

// namesAtOnce is how many further certificates are begun in one round, so that many
// domains stay far below an authority's limit of orders.
const namesAtOnce = 40

// ClientSettings are the settings that mail programs get for a domain of ours.
func ClientSettings(c *config.Config, domain address.Domain) clientconfig.Config {
	out := clientconfig.Config{ID: domain.String(), Domains: []string{domain.String()}, Name: c.Autoconfig.Name, ShortName: c.Autoconfig.Name}
	if out.Name == "" {
		out.Name, out.ShortName = domain.Unicode(), domain.Unicode()
	}
	if c.Autoconfig.Documentation != "" {
		out.Documentation = []clientconfig.Link{{URL: c.Autoconfig.Documentation}}
	}
	for _, s := range []struct {
		service  string
		protocol clientconfig.Protocol
		security clientconfig.Security
	}{
		{"pop3s", clientconfig.POP3, clientconfig.TLS},
		{"pop3", clientconfig.POP3, clientconfig.StartTLS},
		{"submissions", clientconfig.SMTP, clientconfig.TLS},
		{"submission", clientconfig.SMTP, clientconfig.StartTLS},
	} {
		port := portOf(c, s.service)
		if port == 0 {
			continue
		}
		x := clientconfig.Server{Protocol: s.protocol, Host: c.Hostname, Port: uint16(port), Security: s.security,
			Authentications: []clientconfig.Authentication{clientconfig.Password}, Username: clientconfig.PatternAddress}
		if s.protocol == clientconfig.SMTP {
			out.Outgoing = append(out.Outgoing, x)
		} else {
			out.Incoming = append(out.Incoming, x)
		}
	}
	return out
}

// settingsPages answers mail programs that look for their settings, beside another handler.
func settingsPages(r *Rooms, other http.Handler) (http.Handler, error) {
	c := r.Config
	if !c.Autoconfigures() {
		return other, nil
	}
	h, err := clientconfig.NewHandler(clientconfig.HandlerConfig{Settings: func(ctx context.Context, domain address.Domain) (clientconfig.Config, bool) {
		ours, err := r.Accounts.IsLocal(ctx, domain)
		if err != nil || !ours {
			return clientconfig.Config{}, false
		}
		return ClientSettings(c, domain), true
	}})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if clientconfig.Serves(req.URL.Path) {
			h.ServeHTTP(w, req)
			return
		}
		other.ServeHTTP(w, req)
	}), nil
}

// SettingsHosts are the names under which mail programs look for a domain's settings.
func SettingsHosts(domain address.Domain) []string {
	return []string{clientconfig.HostAutoconfig + domain.String(), clientconfig.HostAutodiscover + domain.String()}
}

// nameLoop has certificates obtained for the names of SettingsHosts that lead here.
func (d *Daemon) nameLoop(ctx context.Context) error {
	look := func() {
		domains, err := d.rooms.Accounts.Domains(ctx)
		if err != nil {
			d.log.Error("domains for certificates", "error", err)
			return
		}
		var names []string
		for _, x := range domains {
			names = append(names, SettingsHosts(x.Name)...)
		}
		manageNames(ctx, d.certs, d.c.Config, d.mail.out.dns, names, d.log)
	}
	look()
	return every(ctx, certificateLook, look)
}

// keeper obtains certificates for further names; tlsconf.Certs is one.
type keeper interface {
	Extra() []string
	SetExtra(ctx context.Context, names []string) error
}

// manageNames has certificates managed for those of names that lead to this host, at
// most namesAtOnce new ones, and no longer for names that are not among them.
func manageNames(ctx context.Context, certs keeper, c *config.Config, dns resolver.Resolver, names []string, log *slog.Logger) {
	managed := certs.Extra()
	keep := slices.DeleteFunc(slices.Clone(managed), func(n string) bool { return !slices.Contains(names, n) })
	ours := ownAddresses()
	if addrs, err := resolver.Addrs(ctx, dns, c.Hostname); err == nil {
		ours = append(ours, addrs...)
	}
	fresh := 0
	for _, n := range names {
		if slices.Contains(keep, n) || slices.Contains(c.TLSNames(), n) || fresh >= namesAtOnce {
			continue
		}
		addrs, err := resolver.Addrs(ctx, dns, n)
		if err != nil || !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(ours, a) }) {
			continue // its owner has not made the record, or leads elsewhere
		}
		fresh++
		keep = append(keep, n)
	}
	if err := certs.SetExtra(ctx, keep); err != nil {
		log.Error("certificates for mail programs' names", "error", err)
	}
}
