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
	"poczta.example/poczta/internal/resolver"
)

type checkCmd struct {
	asJSON
	NoDNS bool `help:"Leave DNS out."`
}

// Run implements local.
func (c *checkCmd) Run(ctx context.Context, p *process, top *cli) error {
	conf, err := config.Load(top.Config)
	if err != nil {
		return c.print(p, configFindings(top.Config, err))
	}
	running := serverRuns(ctx, conf)
	findings := admin.CheckHost(ctx, conf, running)
	domains, err := c.domains(ctx, p, conf, top)
	if err != nil {
		findings = append(findings, admin.Finding{Level: admin.Failed, Area: "store", Text: err.Error(), Remedy: "repair what it names, then run poczta check again"})
	}
	if err == nil && len(domains) == 0 {
		findings = append(findings, admin.Finding{Level: admin.Warning, Area: "domains", Text: "no domain is served", Remedy: "add one with poczta domain add example.org"})
	}
	if running {
		var more []admin.Finding
		if err := ask(ctx, p, top, conf, &gatewayCmd{asJSON{JSON: true}}, []string{"gateway", "--json", "--config", top.Config}, &more); err == nil {
			findings = append(findings, more...)
		}
	}
	if !c.NoDNS {
		r, err := resolver.New(resolver.Config{Servers: conf.DNS.Servers, Timeout: conf.DNS.Timeout.Duration()})
		if err != nil {
			return err
		}
		findings = append(findings, admin.CheckDNS(ctx, conf, r, names(domains))...)
		if conf.DKIM.Sign {
			findings = append(findings, admin.CheckKeys(ctx, r, domains)...)
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
	var out, errs bytes.Buffer
	asked := *p
	asked.args = args
	if err := runSomewhere(ctx, &asked, top, conf, cmd, control.Streams{In: eof{}, Out: &out, Err: &errs}); err != nil {
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
