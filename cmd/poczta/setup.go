package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/control"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/db"
)

type setupCmd struct {
	Data     string   `help:"Folder of everything that lasts." default:"/var/lib/poczta" placeholder:"FOLDER"`
	Hostname string   `help:"This host's name." required:"" placeholder:"HOST"`
	Domain   []string `help:"Domain whose mail is ours; may be given several times." required:"" placeholder:"DOMAIN"`
	Account  string   `help:"Address of the first account." required:"" placeholder:"ADDRESS"`
	secret
	ListenHost []string `help:"Address to listen on; may be given several times." placeholder:"IP"`
	PortBase   int      `help:"Added to every standard port." default:"0" placeholder:"N"`
	TLS        string   `name:"tls" help:"Where certificates come from: acme, self-signed or files." enum:"acme,self-signed,files" default:"self-signed"`
	AcmeEmail  string   `help:"Where the ACME authority may write." placeholder:"ADDRESS"`
	Postgres   string   `help:"Keep everything in PostgreSQL at this URL instead of SQLite." placeholder:"URL"`
	yes
}

// Run implements local.
func (s *setupCmd) Run(ctx context.Context, p *process, c *cli) error {
	conf, text, err := s.configuration(c.Config)
	if err != nil {
		return err
	}
	if err := s.mayReplace(p, c.Config, text); err != nil {
		return err
	}
	account, err := address.Parse(s.Account)
	if err != nil {
		return fmt.Errorf("%w: --account %q is not an address: %w; write as in ala@%s", admin.ErrUsage, s.Account, err, s.Domain[0])
	}
	password, err := s.secret.read(p)
	if err != nil {
		return err
	}
	if err := writeConfiguration(c.Config, text); err != nil {
		return err
	}
	if err := s.dataFolder(); err != nil {
		return err
	}
	if err := daemon.BecomeOwner(conf.Data); err != nil {
		return err
	}
	records, err := s.fill(ctx, p, conf, account, password)
	if err != nil {
		return err
	}
	s.tell(p, c.Config, conf, records)
	return nil
}

// configuration makes the text of the file, and checks it as serve will.
func (s *setupCmd) configuration(file string) (*config.Config, string, error) {
	in := config.Initial{Hostname: s.Hostname, Data: s.Data, ListenHosts: s.ListenHost, PortBase: s.PortBase, TLSMode: s.TLS,
		ACMEEmail: s.AcmeEmail, PostgresURL: s.Postgres, Metrics: "127.0.0.1:9025"}
	if !filepath.IsAbs(in.Data) {
		abs, err := filepath.Abs(in.Data)
		if err != nil {
			return nil, "", fmt.Errorf("find data folder: %w", err)
		}
		in.Data, s.Data = abs, abs
	}
	text := in.Text()
	conf, err := config.Parse(file, []byte(text))
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", admin.ErrUsage, err)
	}
	return conf, text, nil
}

// mayReplace asks before a configuration that says something else is replaced.
func (s *setupCmd) mayReplace(p *process, file, text string) error {
	old, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if string(old) == text {
		return nil
	}
	return s.yes.confirm(p, fmt.Sprintf("The configuration %s exists and will be replaced (the old one is kept as %s.old).", file, file))
}

func writeConfiguration(file, text string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("make folder of configuration: %w", err)
	}
	if old, err := os.ReadFile(file); err == nil && string(old) != text {
		if err := os.WriteFile(file+".old", old, 0o644); err != nil {
			return fmt.Errorf("keep old configuration: %w", err)
		}
	}
	if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// dataFolder makes the data folder. Root gives a new one at the default place to the
// user poczta, whom the Debian package and the systemd unit use, if there is one.
func (s *setupCmd) dataFolder() error {
	_, _, exists, err := daemon.Owner(s.Data)
	if err != nil || exists {
		return err
	}
	if err := os.MkdirAll(s.Data, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	if os.Geteuid() != 0 || s.Data != config.Default().Data {
		return nil
	}
	u, err := user.Lookup("poczta")
	if err != nil {
		return nil // not installed from the package: the folder stays root's
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(s.Data, uid, gid); err != nil {
		return fmt.Errorf("give data folder to user poczta: %w", err)
	}
	return nil
}

// fill makes the domains, their keys and the account; what is there already stays.
// It returns the DNS records of the domains.
func (s *setupCmd) fill(ctx context.Context, p *process, conf *config.Config, account address.Address, password string) (records [][]admin.RecordRow, err error) {
	r, err := daemon.OpenRooms(ctx, conf, daemon.RoomOptions{Migrate: true})
	if errors.Is(err, db.ErrConnect) {
		return nil, fmt.Errorf("%w; setup may be repeated, and goes on from here", err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	d := newDesk(r, control.Streams{In: strings.NewReader(password + "\n"), Out: p.stdout, Err: p.stderr})
	domains := append([]string{}, s.Domain...)
	if !contains(domains, account.Domain().String()) {
		domains = append(domains, account.Domain().String())
	}
	for _, name := range domains {
		dom, err := address.ParseDomain(name)
		if err != nil {
			return nil, fmt.Errorf("%w: --domain %q: %w", admin.ErrUsage, name, err)
		}
		rows, err := d.DomainOpen(ctx, dom)
		if err != nil {
			return nil, err
		}
		records = append(records, rows)
	}
	if _, err := r.Accounts.Get(ctx, s.Account); err == nil {
		return records, d.AccountPassword(ctx, s.Account)
	}
	return records, d.AccountAdd(ctx, s.Account, admin.AccountOptions{})
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if strings.EqualFold(x, s) {
			return true
		}
	}
	return false
}

// tell prints what is left to do.
func (s *setupCmd) tell(p *process, file string, conf *config.Config, records [][]admin.RecordRow) {
	fmt.Fprintf(p.stdout, "\nThe configuration is %s, everything that lasts lies in %s.\n\nAdd these DNS records:\n\n", file, s.Data)
	for _, rows := range records {
		fmt.Fprintln(p.stdout, admin.ZoneLines(rows, conf.Hostname))
	}
	fmt.Fprintf(p.stdout, "Then start the server:  poczta serve --config %s   (or: systemctl enable --now poczta)\nand look at the rest:   poczta check --config %s\n", file, file)
}
