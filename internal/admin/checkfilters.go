package admin

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"poczta.example/poczta/internal/clamd"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/milter"
)

// oldSignatures is from what age on the virus scanner's signatures are worth a warning.
const oldSignatures = 7 * 24 * time.Hour

// reachIn bounds the visit to another filter.
const reachIn = 5 * time.Second

// CheckFilters looks whether the other filters that are named are there.
func CheckFilters(ctx context.Context, c *config.Config) []Finding {
	var out []Finding
	if c.Clamd.Address != "" {
		out = append(out, checkClamd(ctx, &c.Clamd))
	}
	for i, m := range c.Milters {
		network, address, err := milter.ParseAddress(m.Address)
		out = append(out, reaches(ctx, fmt.Sprintf("milter[%d].address", i), "milter "+m.Name, network, address, m.WhenDown, err))
	}
	if c.Rspamd.URL != "" {
		network, address, err := addressOf(c.Rspamd.URL)
		out = append(out, reaches(ctx, "rspamd.url", "Rspamd", network, address, c.Rspamd.WhenDown, err))
		if c.Rspamd.Learn {
			network, address, err := addressOf(c.Rspamd.Controller)
			f := reaches(ctx, "rspamd.controller", "Rspamd's controller", network, address, "", err)
			if f.Level != Fine {
				f.Level, f.Remedy = Warning, "start it, or correct the address; until then Rspamd learns nothing"
			}
			out = append(out, f)
		}
		if c.Rspamd.PasswordFile != "" {
			out = append(out, checkSecretFile("rspamd.password_file", c.Rspamd.PasswordFile)...)
		}
	}
	if c.Hook.URL != "" {
		network, address, err := addressOf(c.Hook.URL)
		out = append(out, reaches(ctx, "hook.url", "the hook", network, address, c.Hook.WhenDown, err))
		if c.Hook.SecretFile != "" {
			out = append(out, checkSecretFile("hook.secret_file", c.Hook.SecretFile)...)
		}
	}
	return out
}

// checkClamd asks the virus scanner who it is.
func checkClamd(ctx context.Context, c *config.Clamd) Finding {
	f := Finding{Level: Fine, Area: "filters", Key: "clamd.address"}
	network, address := "tcp", c.Address
	if path, ok := strings.CutPrefix(c.Address, "unix:"); ok {
		network, address = "unix", path
	}
	client, err := clamd.New(clamd.Config{Network: network, Address: address, Timeout: reachIn})
	if err == nil {
		var v clamd.Version
		if v, err = client.Version(ctx); err == nil {
			f.Text = "clamd answers: ClamAV " + v.Engine
			if age := time.Since(v.Built); !v.Built.IsZero() && age > oldSignatures {
				f.Level, f.Text = Warning, fmt.Sprintf("%s, with signatures of %d days ago", f.Text, int(age.Hours()/24))
				f.Remedy = "run freshclam, and let it run by itself"
			}
			return f
		}
	}
	f.Level, f.Text, f.Remedy = Failed, err.Error(), "start clamd, or correct clamd.address; until then mail is treated as clamd.when_down says: "+c.WhenDown
	return f
}

// reaches connects to another filter.
func reaches(ctx context.Context, key, what, network, address, whenDown string, err error) Finding {
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, reachIn)
		defer cancel()
		var d net.Dialer
		conn, derr := d.DialContext(ctx, network, address)
		if derr == nil {
			_ = conn.Close()
			return Finding{Level: Fine, Area: "filters", Key: key, Text: what + " is there"}
		}
		err = derr
	}
	return Finding{Level: Failed, Area: "filters", Key: key, Text: what + " can't be reached: " + err.Error(),
		Remedy: "start it, or correct the address; until then mail is treated as when_down says: " + whenDown}
}

// addressOf is where a URL of ours leads: http, https, or unix:FILE with a path behind another colon.
func addressOf(s string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		file, _, _ := strings.Cut(path, ":")
		return "unix", file, nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", "", err
	}
	if u.Port() != "" {
		return "tcp", u.Host, nil
	}
	return "tcp", net.JoinHostPort(u.Hostname(), u.Scheme), nil // by the service's name
}
