package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/resolver"
)

// Bounds of a probe of the way out.
const (
	probeHosts   = 6 // addresses that are tried
	probeTimeout = 8 * time.Second
)

// CheckRelay looks at what the sending side is configured to use: files, name servers.
func CheckRelay(c *config.Config) []Finding {
	if !c.Relay.Enabled {
		return []Finding{{Level: Warning, Area: "relay", Key: "relay.enabled", Text: "mail for other hosts stays in the queue", Remedy: "set relay.enabled = true"}}
	}
	var out []Finding
	for i, r := range c.Relay.Routes {
		if r.PasswordFile != "" {
			out = append(out, checkSecretFile(fmt.Sprintf("relay.route[%d].password_file", i), r.PasswordFile)...)
		}
	}
	for i, d := range c.Relay.Domains {
		key := fmt.Sprintf("relay.domain[%d]", i)
		if d.RecipientFile != "" {
			if _, err := os.Stat(d.RecipientFile); err != nil {
				out = append(out, Finding{Level: Failed, Area: "relay", Key: key + ".recipient_file", Text: err.Error(), Remedy: "the server's user must be able to read it"})
			}
		}
		if d.Recipients == "any" {
			out = append(out, Finding{Level: Warning, Area: "relay", Key: key + ".recipients", Text: fmt.Sprintf("mail for every recipient of %s is taken; what its host refuses comes back to forged senders", d.Domain),
				Remedy: `use recipients = "call" or "list"`})
		}
	}
	if !c.DNS.Trusted {
		out = append(out, Finding{Level: Warning, Area: "relay", Key: "dns.trusted", Text: "DANE is not used: no name server is trusted with DNSSEC",
			Remedy: "run a validating one (unbound) on this host, name it in dns.servers and set dns.trusted = true"})
	}
	if c.MTASTS.Mode != "none" && c.TLS.Mode == "self-signed" {
		out = append(out, Finding{Level: Failed, Area: "relay", Key: "mta_sts.mode", Text: "others can't verify the self-signed certificate that the policy demands", Remedy: `set tls.mode = "acme", or name files`})
	}
	return out
}

// checkSecretFile wants a file that the owner alone may read.
func checkSecretFile(key, file string) []Finding {
	info, err := os.Stat(file)
	if err != nil {
		return []Finding{{Level: Failed, Area: "relay", Key: key, Text: err.Error(), Remedy: "write the password into its first line"}}
	}
	if info.Mode().Perm()&0o077 != 0 {
		return []Finding{{Level: Warning, Area: "relay", Key: key, Text: fmt.Sprintf("%s may be read by others than its owner", file), Remedy: "chmod 600 " + file}}
	}
	return nil
}

// CheckWayOut connects to the MX hosts of domains that the operator names, and tells
// whether port 25 is open on its way out. Nothing is sent.
func CheckWayOut(ctx context.Context, c *config.Config, r resolver.Resolver, domains []string) []Finding {
	targets, out := wayTargets(ctx, c, r, domains)
	if len(targets) == 0 {
		return out
	}
	type outcome struct {
		addr netip.Addr
		err  error
	}
	results := make(chan outcome, len(targets))
	for _, a := range targets {
		go func() {
			d := net.Dialer{Timeout: probeTimeout}
			conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(a.String(), strconv.Itoa(c.Relay.Port)))
			if err == nil {
				_ = conn.Close()
			}
			results <- outcome{a, err}
		}()
	}
	var silent, reached []string
	for range targets {
		o := <-results
		var timeout net.Error
		if o.err != nil && errors.As(o.err, &timeout) && timeout.Timeout() {
			silent = append(silent, o.addr.String())
		} else { // a refusal came from somewhere, too
			reached = append(reached, o.addr.String())
		}
	}
	if len(reached) > 0 {
		return append(out, Finding{Level: Fine, Area: "relay", Text: fmt.Sprintf("port %d is open on its way out: %s answered", c.Relay.Port, strings.Join(reached, ", "))})
	}
	return append(out, blockedFinding(fmt.Sprintf("none of %s answers on port %d, while DNS works", strings.Join(silent, ", "), c.Relay.Port)))
}

// wayTargets are the addresses to try, at most probeHosts.
func wayTargets(ctx context.Context, c *config.Config, r resolver.Resolver, domains []string) (targets []netip.Addr, out []Finding) {
	bad := func(text string) {
		out = append(out, Finding{Level: Failed, Area: "relay", Text: text, Remedy: "name a domain that takes mail"})
	}
	l, err := mx.New(mx.Config{Resolver: r, AllowLoopback: c.Relay.AllowLoopback, NoIPv4: c.Relay.Families == "ipv6", NoIPv6: c.Relay.Families == "ipv4"})
	if err != nil {
		return nil, []Finding{{Level: Failed, Area: "relay", Text: err.Error()}}
	}
	for _, name := range domains {
		d, err := address.ParseDomain(name)
		if err != nil {
			bad(fmt.Sprintf("%q is not a domain: %s", name, err))
			continue
		}
		route, err := l.Hosts(ctx, d)
		if err != nil {
			bad(err.Error())
			continue
		}
		for _, h := range route.Hosts[:min(2, len(route.Hosts))] {
			if len(targets) < probeHosts {
				targets = append(targets, h.Addrs[0])
			}
		}
	}
	return targets, out
}

// blockedFinding says what to do about a blocked port.
func blockedFinding(text string) Finding {
	return Finding{Level: Failed, Area: "relay", Key: "relay.route", Text: text + ": your provider seems to block outgoing mail",
		Remedy: "ask it to open port 25, or send through a smart host: [[relay.route]] with its host, user and password_file"}
}
