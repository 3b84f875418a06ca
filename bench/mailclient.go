package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/pop3client"
)

// mailClientRows let the mail client fetch a maildrop into a new store. The load generator keeps
// nothing; against it both are told: until every letter is durable, and until every one is journalled and listed too. The other
// programs are held against the second.
func mailClientRows() []row {
	const what = "mail client: 10,000 × 4 KiB fetched from Dovecot into a new store, "
	rows := []row{
		{what + "all durable, against a load generator", "≥ 80 %", mailClientRow("the load generator", untilDurable, generatorFetch)},
		{what + "all listed, against a load generator", "", mailClientRow("the load generator", untilListed, generatorFetch)},
	}
	for _, f := range []fetcher{{"getmail6", "/usr/bin/getmail", getmailFetch}, {"mpop", "/usr/bin/mpop", mpopFetch}, {"fetchmail", "/usr/bin/fetchmail", fetchmailFetch}} {
		rows = append(rows, row{what + "against " + f.name, "> 1 ×", mailClientRow(f.name, untilListed, f.run)})
	}
	return rows
}

// fetcher is another program that fetches mail.
type fetcher struct {
	name, path string
	run        fetching
}

// fetching fetches the whole maildrop once and returns the messages a second.
type fetching func(ctx context.Context, b *bench, p *pair, user string) (float64, error)

// boxOf is the maildrop of the rows, and how many messages it has.
const (
	fetchBox   = "big%03d"
	fetchCount = 10_000

	getmailCount = 200 // of these
)

func mailClientRow(peer string, until moment, other fetching) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		res := result{unit: "messages/s", peerOf: peer}
		p, err := b.startPair(ctx, false, true)
		if err != nil {
			return res, err
		}
		if err := p.fill(ctx, fetchBox); err != nil {
			return res, err
		}
		user := fmt.Sprintf(fetchBox, 1) + "@" + domain
		if _, err := generatorFetch(ctx, b, p, user); err != nil { // indexes and caches made
			return res, err
		}
		for range b.runs {
			ours, err := ourFetch(ctx, b, p, user, until)
			if err != nil {
				return res, err
			}
			theirs, err := other(ctx, b, p, user)
			if err != nil {
				return res, err
			}
			res.ours, res.peer = append(res.ours, ours), append(res.peer, theirs)
		}
		return res, nil
	}
}

func perSecond(n int, begin time.Time) float64 { return float64(n) / time.Since(begin).Seconds() }

// moment is when the clock of ourFetch stops.
type moment int

const (
	untilListed  moment = iota // the end of the session
	untilDurable               // each letter and what the journal says of it is on the disk
)

// ourFetch is the client's fetch, from an open store to the moment.
func ourFetch(ctx context.Context, b *bench, p *pair, user string, until moment) (float64, error) {
	dir, err := os.MkdirTemp(b.dir, "mail-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(ctx, store.Config{Folder: dir, Components: []db.Component{profile.Schema, fetch.Schema}, Filed: fetch.Filed})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	var durable time.Time
	told := func(p fetch.Progress) {
		if durable.IsZero() && p.TotalLetters > 0 && p.Letters == p.TotalLetters {
			durable = time.Now()
		}
	}
	f, err := fetch.New(fetch.Config{Store: s, Progress: told, Open: func(ctx context.Context, _ profile.Account) (*pop3client.Session, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.pop3)
		if err != nil {
			return nil, err
		}
		c, err := pop3client.Open(ctx, conn, pop3client.Config{Plaintext: true})
		if err != nil {
			return nil, err
		}
		return c, c.Login(ctx, pop3client.Credentials{Username: user, Password: password})
	}})
	if err != nil {
		return 0, err
	}
	server := func(kind clientconfig.Protocol) profile.Server {
		return profile.Server{Server: clientconfig.Server{Protocol: kind, Host: "127.0.0.1", Port: 1, Security: clientconfig.Plain}}
	}
	a, err := profile.New(s.DB()).Add(ctx, profile.Account{Address: user, Incoming: server(clientconfig.POP3), Outgoing: server(clientconfig.SMTP), Policy: profile.Policy{Keep: profile.Leave}})
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	res, err := f.Sync(ctx, a)
	if err == nil && res.Fetched != fetchCount {
		err = fmt.Errorf("fetched %d of %d letters", res.Fetched, fetchCount)
	}
	if until == untilDurable {
		return fetchCount / durable.Sub(begin).Seconds(), err
	}
	return perSecond(fetchCount, begin), err
}

// generatorFetch draws the maildrop with all commands sent ahead, and keeps nothing.
func generatorFetch(ctx context.Context, _ *bench, p *pair, user string) (float64, error) {
	l := popLoad{sessions: 1, user: fetchBox + "@" + domain, users: 1, messages: fetchCount, retrieve: true, pipeline: true, addr: p.pop3}
	t, err := l.run(ctx, time.Millisecond)
	_ = user // the same one
	return t.messages, err
}

// nobody is the user that the other programs run as when we are root.
const nobody = 65534

// program runs another client in a folder of its own and checks that it got everything.
func program(ctx context.Context, b *bench, want int, count func(dir string) (int, error), args func(dir string) ([]string, error)) (float64, error) {
	dir, err := os.MkdirTemp(b.dir, "client-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	for _, d := range []string{"Maildir/new", "Maildir/cur", "Maildir/tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return 0, err
		}
	}
	argv, err := args(dir)
	if err != nil {
		return 0, err
	}
	if _, err := os.Stat(argv[0]); err != nil {
		return 0, fmt.Errorf("%s: %w", argv[0], errMissing)
	}
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Env, c.Dir = append(os.Environ(), "HOME="+dir), dir
	if os.Getuid() == 0 { // getmail delivers nothing as root
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Chown(name, nobody, nobody))
		})
		if err != nil {
			return 0, err
		}
	}
	begin := time.Now()
	out, err := c.CombinedOutput()
	rate := perSecond(want, begin)
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %.300s", argv[0], err, out)
	}
	if n, err := count(dir); err != nil || n != want {
		return 0, fmt.Errorf("%s fetched %d of %d messages: %w: %.300s", argv[0], n, want, err, out)
	}
	return rate, nil
}

func maildirCount(dir string) (int, error) {
	files, err := os.ReadDir(filepath.Join(dir, "Maildir", "new"))
	return len(files), err
}

func hostPort(addr string) (host, port string) {
	host, port, _ = net.SplitHostPort(addr)
	return host, port
}

// getmailFetch fetches the first letters only: getmail6 starts a process for each, and misses its
// end now and then (it waits for a signal that has come already), which costs a minute and the run.
func getmailFetch(ctx context.Context, b *bench, p *pair, user string) (float64, error) {
	return program(ctx, b, getmailCount, maildirCount, func(dir string) ([]string, error) {
		host, port := hostPort(p.pop3)
		rc := fmt.Sprintf("[retriever]\ntype = SimplePOP3Retriever\nserver = %s\nport = %s\nusername = %s\npassword = %s\n[destination]\ntype = Maildir\npath = %s/Maildir/\n[options]\nread_all = true\nmax_messages_per_session = %d\ndelete = false\nverbose = 0\ndelivered_to = false\nreceived = false\n",
			host, port, user, password, dir, getmailCount)
		err := os.WriteFile(filepath.Join(dir, "rc"), []byte(rc), 0o600)
		return []string{"/usr/bin/getmail", "--getmaildir", dir, "--rcfile", filepath.Join(dir, "rc")}, err
	})
}

func mpopFetch(ctx context.Context, b *bench, p *pair, user string) (float64, error) {
	return program(ctx, b, fetchCount, maildirCount, func(dir string) ([]string, error) {
		host, port := hostPort(p.pop3)
		rc := fmt.Sprintf("defaults\ntls off\nkeep on\nuidls_file %s/uidls\naccount default\nhost %s\nport %s\nuser %s\npassword %s\nauth user\ndelivery maildir %s/Maildir\nreceived_header off\n",
			dir, host, port, user, password, dir)
		err := os.WriteFile(filepath.Join(dir, "rc"), []byte(rc), 0o600)
		return []string{"/usr/bin/mpop", "--file=" + filepath.Join(dir, "rc"), "--quiet"}, err
	})
}

// fetchmailFetch writes one file in batched SMTP form: handing each letter to a program or server
// would measure that.
func fetchmailFetch(ctx context.Context, b *bench, p *pair, user string) (float64, error) {
	count := func(dir string) (int, error) {
		text, err := os.ReadFile(filepath.Join(dir, "out"))
		n := 0
		for i := 0; i+10 < len(text); i++ {
			if (i == 0 || text[i-1] == '\n') && string(text[i:i+10]) == "MAIL FROM:" {
				n++
			}
		}
		return n, err
	}
	return program(ctx, b, fetchCount, count, func(dir string) ([]string, error) {
		host, port := hostPort(p.pop3)
		rc := fmt.Sprintf("poll %s port %s protocol pop3 user %q password %q keep fetchall sslproto \"\" bsmtp %q\n", host, port, user, password, filepath.Join(dir, "out"))
		err := os.WriteFile(filepath.Join(dir, "rc"), []byte(rc), 0o600)
		return []string{"/usr/bin/fetchmail", "-f", filepath.Join(dir, "rc"), "--silent", "--nosyslog", "--pidfile", filepath.Join(dir, "pid")}, err
	})
}
