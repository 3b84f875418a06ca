package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/resolver"
)

// Level is how grave a finding is.
type Level string

// The levels. Failed makes check exit with 1.
const (
	Fine    Level = "ok"
	Warning Level = "warning"
	Failed  Level = "error"
)

// Finding is one outcome of a check.
type Finding struct {
	Level  Level  `json:"level"`
	Area   string `json:"area"` // configuration, ports, tls, dns, store, backup, domains
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Key    string `json:"key,omitempty"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// String writes a finding for a person.
func (f Finding) String() string {
	where := ""
	if f.File != "" {
		where = f.File + ": "
		if f.Line > 0 {
			where = fmt.Sprintf("%s:%d: ", f.File, f.Line)
		}
	}
	if f.Key != "" {
		where += f.Key + ": "
	}
	s := fmt.Sprintf("%-7s %-13s %s%s", f.Level, f.Area, where, f.Text)
	if f.Remedy != "" && f.Level != Fine {
		s += " → " + f.Remedy
	}
	return s
}

// CheckHost looks at what the host offers: ports, certificates, backups, space on disk.
// running says whether the server runs now, and listening where it says it
// listens, if it was asked.
func CheckHost(ctx context.Context, c *config.Config, running bool, listening []daemon.Listening) []Finding {
	out := []Finding{{Level: Fine, Area: "configuration", Text: "the file is right"}}
	out = append(out, checkPorts(ctx, c, running, listening)...)
	out = append(out, checkCertificates(c)...)
	out = append(out, checkBackups(ctx, c, time.Now())...)
	if free, err := freeSpace(c.Data); err == nil && free < int64(c.Store.Reserve) {
		out = append(out, Finding{Level: Failed, Area: "store", Key: "store.reserve",
			Text:   fmt.Sprintf("%s has %d MiB free, which is less than the reserve of %s: mail is refused", c.Data, free>>20, c.Store.Reserve),
			Remedy: "free space, or lower store.reserve"})
	}
	if len(c.Auth.PlaintextFrom) > 0 && !allLoopback(c.Auth.PlaintextFrom) {
		out = append(out, Finding{Level: Warning, Area: "configuration", Key: "auth.plaintext_from", Text: "passwords may cross a network in the clear",
			Remedy: "leave it empty, and let programs use TLS"})
	}
	return out
}

// Gateway prints what only the running server knows: whether nearly all its
// connections come from one address of a private network (then its limits by address,
// and the exemption of loopback, do not mean what they should), and whether the hosts
// that it sends to have stopped answering.
func (d *Desk) Gateway(context.Context) error {
	var rows []Finding
	if d.Rooms.Blocked != nil && d.Rooms.Blocked() {
		rows = append(rows, blockedFinding("hosts of several networks do not answer any more"))
	}
	if d.Rooms.Gateway != nil {
		if a, ok := d.Rooms.Gateway(); ok {
			rows = append(rows, Finding{Level: Warning, Area: "ports", Key: "proxy.from",
				Text:   fmt.Sprintf("nearly all connections come from %s: they seem to pass a gateway that hides the clients' addresses", a),
				Remedy: "let it speak the PROXY protocol and name it in proxy.from, or let it keep the addresses"})
		}
	}
	return table(d, rows, "FINDING", Finding.String)
}

// Listening prints where the running server listens.
func (d *Desk) Listening(context.Context) error {
	return table(d, d.Rooms.Listening, "SERVICE\tADDRESS", func(l daemon.Listening) string { return l.Service + "\t" + l.Address })
}

func allLoopback(list []config.Prefix) bool {
	return !slices.ContainsFunc(list, func(p config.Prefix) bool { return !p.Addr().IsLoopback() })
}

func freeSpace(folder string) (int64, error) {
	fsys, err := disk.OS(folder)
	if err != nil {
		return 0, err
	}
	free, err := fsys.Free()
	return free, errors.Join(err, fsys.Close())
}

// checkPorts wants the ports to answer while the server runs, and to be free otherwise.
// Where the service manager opened a service's sockets, those are looked at, for the
// server opens none of that service's own.
func checkPorts(ctx context.Context, c *config.Config, running bool, listening []daemon.Listening) []Finding {
	all, err := daemon.Endpoints(c)
	if err != nil {
		return []Finding{{Level: Failed, Area: "ports", Text: err.Error()}}
	}
	var out []Finding
	for _, l := range listening {
		if l.Inherited {
			delete(all, l.Service)
			f := checkPort(ctx, l.Service, config.Endpoint{Network: l.Network, Address: l.Address, Key: "listen." + l.Service}, running)
			f.Text += ", opened by the service manager"
			out = append(out, f)
		}
	}
	for service, eps := range all {
		for _, e := range eps {
			out = append(out, checkPort(ctx, service, e, running))
		}
	}
	slices.SortFunc(out, func(a, b Finding) int { return strings.Compare(a.Text, b.Text) })
	return out
}

func checkPort(ctx context.Context, service string, e config.Endpoint, running bool) Finding {
	f := Finding{Level: Fine, Area: "ports", Text: fmt.Sprintf("%s %s", service, e.Address)}
	if running {
		target := e.Address
		if h, p, err := net.SplitHostPort(target); err == nil {
			if a, err := netip.ParseAddr(h); err == nil && a.IsUnspecified() {
				h = map[bool]string{true: "127.0.0.1", false: "::1"}[a.Is4()]
			}
			target = net.JoinHostPort(h, p)
		}
		d := net.Dialer{Timeout: 2 * time.Second}
		conn, err := d.DialContext(ctx, e.Network, target)
		if err != nil {
			f.Level, f.Text, f.Remedy = Failed, f.Text+": the server runs but does not answer here", "look into its log; a change of [listen] needs a restart"
			if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
				f.Level, f.Text, f.Remedy = Warning, fmt.Sprintf("%s %s: this host has no such address", service, e.Address), "remove it from listen.hosts"
			}
			return f
		}
		conn.Close()
		return f
	}
	l, err := daemon.Listen(e)
	switch {
	case err == nil:
		l.Close()
	case errors.Is(err, syscall.EACCES):
		f.Level, f.Text, f.Remedy = Warning, f.Text+": can't be tried by this user", "run check as root, or as the service does"
	case errors.Is(err, syscall.EAFNOSUPPORT):
		f.Level, f.Text, f.Remedy = Warning, f.Text+": this host does not speak that protocol", "remove it from listen.hosts"
	case errors.Is(err, os.ErrNotExist):
		f.Level, f.Text, f.Remedy = Warning, f.Text+": its folder does not exist yet", "poczta setup makes it"
	default:
		f.Level, f.Text, f.Remedy = Failed, err.Error(), "see which program it is with: ss -ltnp"
	}
	return f
}

// checkCertificates reads the certificates that the server would use.
func checkCertificates(c *config.Config) []Finding {
	switch c.TLS.Mode {
	case "self-signed":
		return []Finding{{Level: Warning, Area: "tls", Key: "tls.mode", Text: "the certificate is self-signed: other servers accept it, people's programs warn",
			Remedy: `set tls.mode = "acme", or name files`}}
	case "acme":
		return []Finding{{Level: Fine, Area: "tls", Text: "certificates are obtained by ACME for " + strings.Join(c.TLSNames(), ", ")}}
	}
	var out []Finding
	covered := false
	for i, p := range c.TLS.Certificates {
		key := fmt.Sprintf("tls.certificate[%d]", i)
		pair, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			out = append(out, Finding{Level: Failed, Area: "tls", Key: key, Text: err.Error(), Remedy: "both files must exist, belong together, and be readable by the server's user"})
			continue
		}
		covered = covered || pair.Leaf.VerifyHostname(c.Hostname) == nil
		out = append(out, expiry(key, p.Cert, pair.Leaf))
	}
	if !covered && len(out) > 0 {
		out = append(out, Finding{Level: Warning, Area: "tls", Key: "tls.certificate", Text: "no certificate is for " + c.Hostname, Remedy: "people's programs will warn: add one with that name"})
	}
	return out
}

func expiry(key, file string, leaf *x509.Certificate) Finding {
	left := time.Until(leaf.NotAfter)
	f := Finding{Level: Fine, Area: "tls", Key: key, Text: fmt.Sprintf("%s is good for %d days", file, int(left.Hours()/24))}
	switch {
	case left < 0:
		f.Level, f.Text, f.Remedy = Failed, fmt.Sprintf("%s has ended on %s", file, leaf.NotAfter.Format(time.DateOnly)), "replace it, then reload the server (SIGHUP)"
	case left < 14*24*time.Hour:
		f.Level, f.Remedy = Warning, "renew it, then reload the server (SIGHUP)"
	}
	return f
}

// CheckDNS looks at the host's addresses and their reverse names, and at each
// domain's MX records, as far as DNS answers.
func CheckDNS(ctx context.Context, c *config.Config, r resolver.Resolver, domains []string) []Finding {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out := checkHostDNS(ctx, c, r)
	for _, d := range domains {
		out = append(out, checkDomainDNS(ctx, c, r, d)...)
	}
	return out
}

func checkHostDNS(ctx context.Context, c *config.Config, r resolver.Resolver) []Finding {
	addrs, err := resolver.Addrs(ctx, r, c.Hostname)
	if err != nil {
		return []Finding{dnsTrouble(err, "address of "+c.Hostname, fmt.Sprintf("add an A (and AAAA) record for %s with this host's public address", c.Hostname))}
	}
	var out []Finding
	for _, a := range addrs {
		names, err := resolver.Reverse(ctx, r, a)
		switch {
		case err != nil:
			out = append(out, dnsTrouble(err, "reverse name (PTR) of "+a.String(), fmt.Sprintf("have your provider set it to %s: many servers refuse mail without it", c.Hostname)))
		case !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, c.Hostname) }):
			out = append(out, Finding{Level: Warning, Area: "dns", Text: fmt.Sprintf("the reverse name of %s is %s, not %s", a, strings.Join(names, ", "), c.Hostname),
				Remedy: "have your provider set it to " + c.Hostname})
		default:
			out = append(out, Finding{Level: Fine, Area: "dns", Text: fmt.Sprintf("%s is %s and back", c.Hostname, a)})
		}
	}
	return out
}

func checkDomainDNS(ctx context.Context, c *config.Config, r resolver.Resolver, domain string) []Finding {
	mx, err := resolver.Exchangers(ctx, r, domain)
	if err != nil {
		return []Finding{dnsTrouble(err, "MX of "+domain, fmt.Sprintf("add: %s. MX 10 %s.", domain, c.Hostname))}
	}
	ours, err := resolver.Addrs(ctx, r, c.Hostname)
	if err != nil {
		ours = nil
	}
	for _, m := range mx {
		if strings.EqualFold(m.Host, c.Hostname) {
			return []Finding{{Level: Fine, Area: "dns", Text: fmt.Sprintf("mail for %s comes to %s", domain, m.Host)}}
		}
		theirs, err := resolver.Addrs(ctx, r, m.Host)
		if err == nil && slices.ContainsFunc(theirs, func(a netip.Addr) bool { return slices.Contains(ours, a) }) {
			return []Finding{{Level: Fine, Area: "dns", Text: fmt.Sprintf("mail for %s comes to %s, another name of this host", domain, m.Host)}}
		}
	}
	var hosts []string
	for _, m := range mx {
		hosts = append(hosts, m.Host)
	}
	return []Finding{{Level: Warning, Area: "dns", Text: fmt.Sprintf("mail for %s goes to %s, not here", domain, strings.Join(hosts, ", ")),
		Remedy: fmt.Sprintf("add: %s. MX 10 %s.", domain, c.Hostname)}}
}

// dnsTrouble tells an absent record from a server that gave no answer.
func dnsTrouble(err error, what, remedy string) Finding {
	if errors.Is(err, resolver.ErrNotFound) {
		return Finding{Level: Warning, Area: "dns", Text: what + ": there is none", Remedy: remedy}
	}
	return Finding{Level: Warning, Area: "dns", Text: fmt.Sprintf("%s: not known, since DNS gave no answer (%v)", what, err), Remedy: "check dns.servers, then run poczta check again"}
}
