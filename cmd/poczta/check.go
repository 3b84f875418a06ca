package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/control"
	"poczta.example/poczta/internal/daemon"
)

type checkCmd struct {
	asJSON
	NoDNS bool     `help:"Leave DNS out."`
	Probe []string `help:"Connect to the MX hosts of this domain, to see whether port 25 is open on its way out; may be given several times." placeholder:"DOMAIN"`
}

// Run implements local.
func (c *checkCmd) Run(ctx context.Context, p *process, top *cli) error {
	conf, err := config.Load(top.Config)
	if err != nil {
		return c.print(p, configFindings(top.Config, err))
	}
	running := serverRuns(ctx, conf)
	var sockets []daemon.Listening
	if running {
		_ = askServer(ctx, p, conf, []string{"sockets", "--json", "--config", top.Config}, &sockets) // else the configuration says where
	}
	findings := append(admin.CheckHost(ctx, conf, running, sockets), admin.CheckRelay(conf)...)
	findings = append(findings, admin.CheckFilters(ctx, conf)...)
	domains, err := c.domains(ctx, p, conf, top)
	if err != nil {
		findings = append(findings, admin.Finding{Level: admin.Failed, Area: "store", Text: err.Error(), Remedy: "repair what it names, then run poczta check again"})
	}
	if err == nil && len(domains) == 0 {
		findings = append(findings, admin.Finding{Level: admin.Warning, Area: "domains", Text: "no domain is served", Remedy: "add one with poczta domain add example.org"})
	}
	if err == nil {
		var suspended []admin.SuspendedRow
		if err := ask(ctx, p, top, conf, &suspendedCmd{asJSON{JSON: true}}, []string{"account", "suspended", "--json", "--config", top.Config}, &suspended); err == nil {
			findings = append(findings, admin.CheckForwards(suspended)...)
		}
	}
	if running {
		var more []admin.Finding
		if err := askServer(ctx, p, conf, []string{"gateway", "--json", "--config", top.Config}, &more); err == nil {
			findings = append(findings, more...)
		}
	}
	if !c.NoDNS {
		r, err := daemon.NewStub(conf)
		if err != nil {
			return err
		}
		findings = append(findings, admin.CheckDNS(ctx, conf, r, names(domains))...)
		findings = append(findings, admin.CheckPrograms(ctx, conf, r, names(domains))...)
		findings = append(findings, admin.CheckLists(ctx, conf, r)...)
		if conf.DKIM.Sign {
			findings = append(findings, admin.CheckKeys(ctx, r, domains)...)
		}
		if len(c.Probe) > 0 {
			findings = append(findings, admin.CheckWayOut(ctx, conf, r, c.Probe)...)
		}
	}
	return c.print(p, findings)
}

// configFindings turns the problems of a configuration into findings.
func configFindings(file string, err error) []admin.Finding {
	var out []admin.Finding
	for _, pr := range config.Problems(err) {
		out = append(out, admin.Finding{Level: admin.Failed, Area: "configuration", File: pr.File, Line: pr.Line, Key: pr.Key, Text: pr.Text,
			Remedy: "every key is described in docs/configuration.md"})
	}
	if len(out) == 0 {
		out = append(out, admin.Finding{Level: admin.Failed, Area: "configuration", File: file, Text: err.Error()})
	}
	return out
}

// serverRuns reports whether a server answers on the control socket.
func serverRuns(ctx context.Context, conf *config.Config) bool {
	uid, _, exists, err := daemon.Owner(conf.Data)
	if err != nil || !exists {
		return false
	}
	conn, err := control.Dial(ctx, conf.ControlSocket(), uid)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// domains asks for the list of domains, in the server or here.
func (c *checkCmd) domains(ctx context.Context, p *process, conf *config.Config, top *cli) ([]admin.DomainRow, error) {
	var rows []admin.DomainRow
	cmd := &domainListCmd{asJSON{JSON: true}}
	if err := ask(ctx, p, top, conf, cmd, []string{"domain", "list", "--json", "--config", top.Config}, &rows); err != nil {
		return nil, err
	}
	return rows, nil
}

func names(rows []admin.DomainRow) []string {
	var out []string
	for _, r := range rows {
		out = append(out, r.Domain)
	}
	return out
}

// ask runs a command, in the server or here, and reads its list.
func ask(ctx context.Context, p *process, top *cli, conf *config.Config, cmd desk, args []string, rows any) error {
	return listed(p, args, rows, func(p *process, s control.Streams) error { return runSomewhere(ctx, p, top, conf, cmd, s) })
}

// askServer runs a command in the server, whatever the store, and reads its list.
func askServer(ctx context.Context, p *process, conf *config.Config, args []string, rows any) error {
	return listed(p, args, rows, func(p *process, s control.Streams) error { return runInServer(ctx, p, conf, s) })
}

// listed reads the list that a command prints.
func listed(p *process, args []string, rows any, run func(*process, control.Streams) error) error {
	var out, errs bytes.Buffer
	asked := *p
	asked.args = args
	if err := run(&asked, control.Streams{In: eof{}, Out: &out, Err: &errs}); err != nil {
		return errors.Join(err, nonEmpty(errs.String()))
	}
	if err := json.Unmarshal(out.Bytes(), rows); err != nil {
		return fmt.Errorf("read answer of poczta %s: %w", args[0], err)
	}
	return nil
}

// gatewayCmd is asked by check; it is not for people.
type gatewayCmd struct{ asJSON }

// Work implements desk.
func (c *gatewayCmd) Work(ctx context.Context, d *admin.Desk) error { return c.on(d).Gateway(ctx) }

// socketsCmd is asked by check; it is not for people.
type socketsCmd struct{ asJSON }

// Work implements desk.
func (c *socketsCmd) Work(ctx context.Context, d *admin.Desk) error { return c.on(d).Listening(ctx) }

func nonEmpty(s string) error {
	if s == "" {
		return nil
	}
	return errors.New(s)
}

// print prints the findings; the exit code is 1 if one of them is an error.
func (c *checkCmd) print(p *process, findings []admin.Finding) error {
	failed := 0
	for _, f := range findings {
		if f.Level == admin.Failed {
			failed++
		}
	}
	if c.JSON {
		e := json.NewEncoder(p.stdout)
		e.SetEscapeHTML(false)
		if findings == nil {
			findings = []admin.Finding{}
		}
		if err := e.Encode(findings); err != nil {
			return fmt.Errorf("write findings: %w", err)
		}
	} else {
		var text strings.Builder
		for _, f := range findings {
			fmt.Fprintln(&text, f)
		}
		fmt.Fprintf(&text, "Findings: %d. Errors among them: %d.\n", len(findings), failed)
		if _, err := io.WriteString(p.stdout, text.String()); err != nil {
			return fmt.Errorf("write findings: %w", err)
		}
	}
	if failed > 0 {
		return exitCode(exitFailed)
	}
	return nil
}
