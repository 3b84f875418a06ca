package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/mailbox"
)

type demoCmd struct {
	PortBase int `help:"Added to every standard port." default:"10000" placeholder:"N"`
}

// The demo's people.
const (
	demoDomain   = "example.org"
	demoPassword = "poczta-demo"
)

var demoPeople = []struct{ address, name string }{{"ala@" + demoDomain, "Ala"}, {"ola@" + demoDomain, "Ola"}}

// Run implements local.
func (c *demoCmd) Run(ctx context.Context, p *process, _ *cli) (err error) {
	dir, err := os.MkdirTemp("", "poczta-demo-")
	if err != nil {
		return fmt.Errorf("make folder for the demo: %w", err)
	}
	defer func() {
		if gone := os.RemoveAll(dir); gone != nil {
			err = errors.Join(err, fmt.Errorf("remove the demo's folder: %w", gone))
		}
	}()
	text := config.Initial{Hostname: "mail." + demoDomain, Data: filepath.Join(dir, "data"), ListenHosts: []string{"127.0.0.1"}, PortBase: c.PortBase,
		TLSMode: "self-signed", PlaintextFrom: []string{"127.0.0.0/8"}, Metrics: "127.0.0.1:9025"}.Text() +
		"\n[store]\nreserve = \"16MiB\"\n\n[log]\nlevel = \"warn\"\n" + demoWayOut(filepath.Join(dir, "elsewhere"))
	file, secret := filepath.Join(dir, "poczta.toml"), filepath.Join(dir, "password")
	conf, err := config.Parse(file, []byte(text))
	if err != nil {
		return err
	}
	for name, text := range map[string]string{file: text, secret: demoPassword + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write the demo's files: %w", err)
		}
	}
	d, err := daemon.New(daemon.Config{File: file, Config: conf, Output: p.stderr, Version: version, Commands: commands,
		Prepared: prepareDemo, Ready: func() { c.tell(p, file, secret) }})
	if err != nil {
		return err
	}
	end, err := startElsewhere(ctx, filepath.Join(dir, "elsewhere"), p.stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	if err := runDaemon(ctx, d); err != nil {
		return fmt.Errorf("%w\n(poczta demo --port-base 20000 moves all ports)", err)
	}
	fmt.Fprintln(p.stdout, "\nThe demo is over; its folder is removed.")
	return nil
}

// demoWayOut sends everything that leaves the server to a socket of this process, and
// asks no name server: whatever is tried, nothing leaves the machine.
func demoWayOut(socket string) string {
	return fmt.Sprintf("\n[dns]\nservers = [\"127.0.0.1:1\"]\n\n[tls_reports]\nsend = false\n\n"+
		"[[relay.route]]\nname = \"demo\"\nhost = %q\ntls = \"none\"\n", "unix:"+socket)
}

// prepareDemo makes the domain, the people and their first mail.
func prepareDemo(ctx context.Context, r *daemon.Rooms) error {
	domain, err := address.ParseDomain(demoDomain)
	if err != nil {
		return err
	}
	if err := r.Accounts.AddDomain(ctx, domain); err != nil {
		return fmt.Errorf("add domain: %w", err)
	}
	if _, err := r.Keys.Create(ctx, domain); err != nil {
		return err
	}
	for _, who := range demoPeople {
		a, err := address.Parse(who.address)
		if err != nil {
			return err
		}
		acc, err := r.Accounts.Add(ctx, account.NewAccount{Address: a, Name: who.name, Password: demoPassword})
		if err != nil {
			return fmt.Errorf("add account %s: %w", who.address, err)
		}
		if err := sampleMail(ctx, r, acc); err != nil {
			return fmt.Errorf("add sample mail: %w", err)
		}
	}
	return nil
}

// sampleMail puts three messages into a mailbox.
func sampleMail(ctx context.Context, r *daemon.Rooms, acc account.Account) error {
	now := time.Now()
	letters := []struct{ subject, text string }{
		{"Welcome to Poczta", "This mailbox is real: what comes in by SMTP lies here, and POP3 hands it out.\r\nCtrl-C in the demo's window removes all of it.\r\n"},
		{"Dots and =?utf-8?Q?=C5=BC=C3=B3=C5=82=C4=87?=", "A line that begins with a dot:\r\n.hidden\r\n..and two\r\n.\r\nNone of them is lost on the way.\r\n"},
		{"A longer letter", strings.Repeat("The quick brown fox jumps over the lazy dog.\r\n", 200)},
	}
	var batch []mailbox.Import
	defer func() {
		for _, m := range batch {
			m.Staged.Discard()
		}
	}()
	for i, l := range letters {
		staged, err := r.Body.Stage(ctx, int64(len(l.text)))
		if err != nil {
			return err
		}
		at := now.Add(time.Duration(i-len(letters)) * time.Hour)
		batch = append(batch, mailbox.Import{Received: at, Staged: staged})
		_, err = fmt.Fprintf(staged, "From: The Postmaster <postmaster@%s>\r\nTo: %s <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <sample-%d-%d@%s>\r\n"+
			"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s",
			demoDomain, acc.Name, acc.Address, l.subject, at.Format(time.RFC1123Z), i, acc.ID, demoDomain, l.text)
		if err != nil {
			return err
		}
	}
	_, err := r.Mailboxes.Append(ctx, acc.ID, acc.Login, batch)
	return err
}

// demoText says how to use the demo; its lines can be pasted.
var demoText = template.Must(template.New("demo").Parse(`
Poczta is running on loopback. Accounts: {{range .People}}{{.}} {{end}}(password: {{.Password}})

Send as a stranger (SMTP, port {{.SMTP}}):
  swaks --server 127.0.0.1:{{.SMTP}} --from stranger@elsewhere.test --to ala@example.org --header "Subject: hello"
Send as Ola (submission, port {{.Submission}}):
  swaks --server 127.0.0.1:{{.Submission}} --auth PLAIN --auth-user ola@example.org --auth-password {{.Password}} --from ola@example.org --to ala@example.org
The same with curl, under TLS:
  printf 'From: ola@example.org\r\nTo: ala@example.org\r\nSubject: by curl\r\n\r\nHello.\r\n' | curl -sS smtp://127.0.0.1:{{.Submission}} --ssl-reqd -k -u ola@example.org:{{.Password}} --mail-from ola@example.org --mail-rcpt ala@example.org -T -

Send to other servers: the demo plays all of them and throws away what they take, so nothing leaves this machine. <{{.Nobody}}@…>
is refused there, which brings a report into Ola's mailbox; mail for <{{.Busy}}@…> waits in the queue and is tried again:
  swaks --server 127.0.0.1:{{.Submission}} --auth PLAIN --auth-user ola@example.org --auth-password {{.Password}} --from ola@example.org --to bea@elsewhere.test,{{.Nobody}}@elsewhere.test,{{.Busy}}@elsewhere.test

Fetch Ala's mail (POP3, port {{.POP3}}; under TLS, port {{.POP3S}}):
  curl -sS pop3://127.0.0.1:{{.POP3}} -u ala@example.org:{{.Password}}
  curl -sS pop3://127.0.0.1:{{.POP3}}/1 -u ala@example.org:{{.Password}}
  curl -sS -k pop3s://127.0.0.1:{{.POP3S}}/1 -u ala@example.org:{{.Password}}

The same mail in Poczta's own mail program, kept in the demo's folder ("open" in place of "list" shows it in your browser):
  {{.Program}} mail add ala@example.org {{.Mail}} --secrets-file --incoming 127.0.0.1:{{.POP3}} --outgoing 127.0.0.1:{{.Submission}} --security none --password-file {{.PasswordFile}}
  {{.Program}} mail sync {{.Mail}}
  {{.Program}} mail list {{.Mail}}
  {{.Program}} mail send ola@example.org -s "By my mail program" --text "Hello." {{.Mail}}

Ask the server, in another terminal:
  {{.Program}} trace ala@example.org --config {{.File}}
  {{.Program}} trace bea@elsewhere.test --config {{.File}}
  {{.Program}} queue list --config {{.File}}
  {{.Program}} account list --config {{.File}}
  curl -sS http://127.0.0.1:{{.Metrics}}/metrics

Ctrl-C ends the demo and removes everything.
`))

// programName is what calls this program in a shell: its bare name when it lies in
// PATH, else where it lies, as with go run.
func programName() string {
	self, err := os.Executable()
	if err != nil {
		return "poczta"
	}
	here, err := os.Stat(self)
	if err != nil {
		return self
	}
	if found, err := exec.LookPath("poczta"); err == nil {
		if there, err := os.Stat(found); err == nil && os.SameFile(here, there) {
			return "poczta"
		}
	}
	return self
}

func (c *demoCmd) tell(p *process, file, secret string) {
	var people []string
	for _, x := range demoPeople {
		people = append(people, x.address)
	}
	err := demoText.Execute(p.stdout, map[string]any{"People": people, "Password": demoPassword, "File": file, "Program": programName(), "PasswordFile": secret,
		"Mail": fmt.Sprintf("--data %s --passphrase-file %s", filepath.Join(filepath.Dir(file), "mail"), secret), "Nobody": nobodyElsewhere, "Busy": busyElsewhere,
		"SMTP": c.PortBase + 25, "Submission": c.PortBase + 587, "POP3": c.PortBase + 110, "POP3S": c.PortBase + 995, "Metrics": c.PortBase + 9025})
	if err != nil {
		fmt.Fprintf(p.stderr, "poczta: print how to use the demo: %v\n", err)
	}
}
