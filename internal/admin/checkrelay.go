package admin

import (
	"context"
	"fmt"
	"os"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/relay"
	"poczta.example/poczta/internal/resolver"
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
	area := "filters"
	if strings.HasPrefix(key, "relay.") {
		area = "relay"
	}
	info, err := os.Stat(file)
	if err != nil {
		return []Finding{{Level: Failed, Area: area, Key: key, Text: err.Error(), Remedy: "write the password into its first line"}}
	}
	if info.Mode().Perm()&0o077 != 0 {
		return []Finding{{Level: Warning, Area: area, Key: key, Text: fmt.Sprintf("%s may be read by others than its owner", file), Remedy: "chmod 600 " + file}}
	}
	return nil
}

// CheckWayOut connects to a mail host of each domain that the operator names, and tells
// whether port 25 is open on its way out. Nothing is sent.
func CheckWayOut(ctx context.Context, c *config.Config, r resolver.Resolver, names []string) []Finding {
	l, err := mx.New(mx.Config{Resolver: r, AllowLoopback: c.Relay.AllowLoopback, NoIPv4: c.Relay.Families == "ipv6", NoIPv6: c.Relay.Families == "ipv4"})
	if err != nil {
		return []Finding{{Level: Failed, Area: "relay", Text: err.Error()}}
	}
	var out []Finding
	var domains []address.Domain
	for _, name := range names {
		d, err := address.ParseDomain(name)
		if err != nil {
			out = append(out, Finding{Level: Failed, Area: "relay", Text: fmt.Sprintf("%q is not a domain: %s", name, err), Remedy: "name domains that take mail"})
			continue
		}
		domains = append(domains, d)
	}
	if len(domains) == 0 {
		return out
	}
	prober := relay.Prober{MX: l, Port: uint16(c.Relay.Port)}
	found := prober.Probe(ctx, domains)
	f := Finding{Level: Failed, Area: "relay", Text: found.String(), Remedy: "name several domains that take mail, and look at this host's firewall"}
	for _, h := range found.Hosts {
		if h.Err == nil {
			f.Level, f.Remedy = Fine, ""
		}
	}
	if found.Blocked {
		f = blockedFinding(fmt.Sprintf("none of the mail hosts of %d domains answers on port %d, while DNS works", len(domains), c.Relay.Port))
	}
	return append(out, f)
}

// blockedFinding says what to do about a blocked port.
func blockedFinding(text string) Finding {
	return Finding{Level: Failed, Area: "relay", Key: "relay.route", Text: text + ": your provider seems to block outgoing mail",
		Remedy: "ask it to open port 25, or send through a smart host: [[relay.route]] with its host, user and password_file"}
}
