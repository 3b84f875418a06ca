package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/profile"
)

// mortal runs the program until it ends or is killed, and says which of the two and what it said.
// The random instants are spread over a little more than what the command took the last time.
type mortal struct {
	t     *testing.T
	rnd   *rand.Rand
	env   []string
	dir   string
	whole map[string]time.Duration // by command, how long it takes
	kills int
}

func newMortal(t *testing.T) *mortal {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return &mortal{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), whole: map[string]time.Duration{}, dir: t.TempDir(), env: os.Environ()}
}

// start starts a command line.
func (m *mortal) start(args ...string) (*exec.Cmd, *lockedBuffer) {
	m.t.Helper()
	bin, err := binary()
	if err != nil {
		m.t.Fatal(err)
	}
	out := &lockedBuffer{}
	cmd := exec.CommandContext(m.t.Context(), bin, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = m.dir, m.env, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	return cmd, out
}

// does runs a command that must succeed, and notes how long it takes.
func (m *mortal) does(name string, args ...string) string {
	m.t.Helper()
	began := time.Now()
	cmd, out := m.start(args...)
	if err := cmd.Wait(); err != nil {
		m.t.Fatalf("poczta %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	m.whole[name] = time.Since(began)
	return out.String()
}

// instant is when to kill a command.
func (m *mortal) instant(name string) time.Duration {
	return time.Duration(m.rnd.Int64N(int64(m.whole[name]*11/10) + int64(10*time.Millisecond)))
}

// killed runs a command and kills it by kill, at a random instant, unless it has ended before.
func (m *mortal) killed(name string, kill func(*exec.Cmd), args ...string) (said string, err error) {
	m.t.Helper()
	cmd, out := m.start(args...)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-time.After(m.instant(name)):
		kill(cmd)
		m.kills++
		err = <-ended
	}
	return out.String(), err
}

// itself kills the command's own process.
func itself(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

// backedUp is a server with backups, for kills.
type backedUp struct {
	*server
	*mortal
	place []string
	kept  []string // the unique-ids of an account that stays as it is
}

const keptMail = "kept@" + domain

// args is a command line of poczta backup.
func (b *backedUp) args(conf string, words ...string) []string {
	return slices.Concat([]string{"backup"}, words, b.place, []string{"--config", conf})
}

// ids are the backups that there are.
func (b *backedUp) ids() (ids []string) {
	b.server.t.Helper()
	for _, row := range b.list(append([]string{"backup", "list"}, b.place...)...) {
		ids = append(ids, row["id"].(string))
	}
	return ids
}

// sound wants every backup whole, and all of before but those that may go.
func (b *backedUp) sound(before []string, mayGo bool) []string {
	t := b.server.t
	t.Helper()
	now := b.ids()
	for i, id := range before {
		if !slices.Contains(now, id) && (!mayGo || i == len(before)-1) {
			t.Fatalf("backup %s is gone; there are %v", id, now)
		}
	}
	if out, errOut, code := b.command("", append([]string{"backup", "verify"}, b.place...)...); code != 0 {
		t.Fatalf("verify after a kill: exit %d\n%s%s", code, out, errOut)
	}
	return now
}

// TestBackupKilled kills the server at random instants while it makes a backup under load, with mail
// that is deleted, purged and merged meanwhile, and the commands that prune and restore. Each time
// the backups are those of before or one more, all whole; the same command again finishes.
func TestBackupKilled(t *testing.T) {
	t.Parallel()
	s := setup(t, plaintext, unlimited, "[spam]\ngreylist = false", "[conduct]\nenabled = false", "[backup]\nkeep_last = 1\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0")
	s.run(password+"\n", "account", "add", "ola@"+domain)
	s.run(password+"\n", "account", "add", keptMail)
	s.run(password+"\n", "account", "add", "again@"+domain)
	maildir(t, filepath.Join(s.dir, "old"), 400, 6000)
	s.run("", "mailbox", "import", keptMail, filepath.Join(s.dir, "old"))
	key := filepath.Join(s.dir, "backup.key")
	s.run("", "backup", "key", key)
	b := &backedUp{server: s, mortal: newMortal(t), place: []string{"--to", filepath.Join(s.dir, "copies"), "--key-file", key}}
	s.start()
	b.kept = uidl(t, s, keptMail)
	b.does("create", b.args(s.conf, "create", "--fast")...)
	b.creates()
	b.prunes()
	b.restoresAccount()
	s.stop()
	b.restoresAll()
	if b.kills < 4 {
		t.Errorf("only %d commands were killed", b.kills)
	}
	t.Logf("%d kills", b.kills)
}

// creates kills the server that makes a backup.
func (b *backedUp) creates() {
	t := b.server.t
	l := newLedger()
	for round := range 4 {
		before := b.ids()
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() { sendUntilDead(b.addr(25), l, fmt.Sprintf("b%d-c%d", round, i)) })
		}
		wg.Go(func() { deleteUntilDead(b.addr(110), l, "ala@"+domain) })
		wg.Go(func() { b.merging() })
		b.await("letters come in", 20*time.Second, func() bool { return l.accepted() >= 5*(round+1) })
		_, _ = b.killed("create", func(*exec.Cmd) { b.kill() }, b.args(b.conf, "create", "--fast")...)
		b.kill()
		wg.Wait()
		b.server.start()
		if after := b.sound(before, false); len(after) > len(before)+1 {
			t.Fatalf("one command made %d backups", len(after)-len(before))
		}
		b.does("create", b.args(b.conf, "create", "--fast")...)
	}
	b.sound(nil, false)
}

// merging purges and merges once.
func (b *backedUp) merging() {
	for _, args := range [][]string{{"mailbox", "purge", "ala@" + domain, "--yes"}, {"store", "merge"}} {
		cmd, _ := b.mortal.start(append(args, "--config", b.conf)...)
		_ = cmd.Wait() // the server may die meanwhile
	}
}

// prunes kills prune.
func (b *backedUp) prunes() {
	for range 3 {
		b.send(newLog(), post{id: fmt.Sprintf("%d@test", b.rnd.Uint64()), to: []string{"ala@" + domain}})
		b.run("", "mailbox", "purge", "ala@"+domain, "--yes")
		b.does("create", b.args(b.conf, "create", "--fast")...)
		before := b.ids()
		if b.whole["prune"] == 0 {
			b.does("prune", b.args(b.conf, "prune", "--yes")...)
			continue
		}
		_, _ = b.killed("prune", itself, b.args(b.conf, "prune", "--yes")...)
		b.sound(before, true)
		b.does("prune", b.args(b.conf, "prune", "--yes")...)
		if left := b.sound(before, true); len(left) != 1 {
			b.server.t.Errorf("after a prune there are %v", left)
		}
	}
	err := filepath.WalkDir(b.place[1], func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, ".part") || filepath.Base(path) == "lock" {
			b.server.t.Errorf("%s is left behind after the last prune", path)
		}
		return err
	})
	if err != nil {
		b.server.t.Error(err)
	}
}

// restoresAccount kills the server that restores an account, until the whole mail is there, once.
func (b *backedUp) restoresAccount() {
	t := b.server.t
	args := b.args(b.conf, "restore", keptMail, "--into", "again@"+domain)
	b.whole["account"] = time.Second
	for range 2 {
		_, _ = b.killed("account", func(*exec.Cmd) { b.kill() }, args...)
		b.kill()
		b.server.start()
	}
	b.does("account", args...)
	got := uidl(t, b.server, "again@"+domain)
	slices.Sort(got)
	want := slices.Sorted(slices.Values(b.kept))
	if !slices.Equal(got, want) {
		t.Errorf("restored by and by there are %d letters, want the %d of %s", len(got), len(want), keptMail)
	}
}

// restoresAll kills the restore of everything onto a new machine.
func (b *backedUp) restoresAll() {
	t := b.server.t
	data, conf := filepath.Join(b.server.dir, "data"), filepath.Join(b.server.dir, "new.toml")
	text := strings.ReplaceAll(readFile(t, b.conf), data, data+"2")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	args := b.args(conf, "restore", "--all")
	b.does("all", args...)
	for range 3 {
		if err := os.RemoveAll(data + "2"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.killed("all", itself, args...); err == nil {
			continue
		}
		cmd, out := b.mortal.start(args...)
		if err := cmd.Wait(); err == nil {
			continue
		}
		if said := out.String(); !strings.Contains(said, "move that one away") && !strings.Contains(said, "remove what it left") {
			t.Errorf("over a half restore it says: %s", said)
		}
		b.refuses(conf)
	}
	if err := os.RemoveAll(data + "2"); err != nil {
		t.Fatal(err)
	}
	b.does("all", args...)
	n := &server{t: t, dir: b.server.dir, conf: conf, base: b.base}
	n.start()
	if got := uidl(t, n, keptMail); !slices.Equal(got, b.kept) {
		t.Errorf("UIDL on the new machine: %d letters, on the old one %d", len(got), len(b.kept))
	}
	n.stop()
	n.run("", "store", "check")
}

// refuses wants a half restore refused by the server; one that was killed behind its last step
// is whole.
func (b *backedUp) refuses(conf string) {
	t := b.server.t
	cmd, out := b.mortal.start("serve", "--config", conf)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s := &server{t: t, dir: b.server.dir, conf: conf, base: b.base, log: out}
	over := false
	s.await("the server refuses what was half restored, or serves what is whole", 20*time.Second, func() bool {
		select {
		case err := <-ended:
			over = true
			if err == nil || !strings.Contains(out.String(), "remove what it left") {
				t.Errorf("a half restore: %v\n%s", err, out)
			}
		default:
		}
		return over || strings.Contains(out.String(), "msg=ready")
	})
	if over {
		return
	}
	if got := uidl(t, s, keptMail); !slices.Equal(got, b.kept) {
		t.Errorf("a half restore was served: %d letters, want %d\n%s", len(got), len(b.kept), out)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-ended
}

// TestMailBackupKilled kills the person's backup, prune and restore at random instants.
func TestMailBackupKilled(t *testing.T) {
	t.Parallel()
	m := newMortal(t)
	mail, copies := filepath.Join(m.dir, "mail"), filepath.Join(m.dir, "copies")
	m.env = append(m.env, "POCZTA_MAIL="+mail, "POCZTA_MAIL_BACKUP="+copies, "POCZTA_MAIL_PASSPHRASE_FILE="+keep(t, m.dir, "passphrase", "correct horse\n"),
		"DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent", "LANG=C.UTF-8")
	furnish(t, mail)
	maildir(t, filepath.Join(m.dir, "old"), 300, 6000)
	m.does("import", "mail", "import", filepath.Join(m.dir, "old"))
	want := m.letters()
	if len(want) != 300 {
		t.Fatalf("%d letters were imported", len(want))
	}
	m.does("create", "mail", "backup", "create")
	m.does("verify", "mail", "backup", "verify")
	for i := range 4 {
		if err := os.RemoveAll(copies); err != nil { // a whole backup each time, and one that follows in the last two
			t.Fatal(err)
		}
		if i >= 2 {
			m.does("create", "mail", "backup", "create")
		}
		_, _ = m.killed("create", itself, "mail", "backup", "create")
		m.does("create", "mail", "backup", "create")
		m.does("verify", "mail", "backup", "verify")
	}
	for range 2 {
		m.does("create", "mail", "backup", "create")
		_, _ = m.killed("verify", itself, "mail", "backup", "prune", "--yes", "--keep", "last=1")
		m.does("verify", "mail", "backup", "verify")
	}
	m.does("prune", "mail", "backup", "prune", "--yes", "--keep", "last=1")
	m.restoresMail(mail, want)
	if m.kills < 4 {
		t.Errorf("only %d commands were killed", m.kills)
	}
	t.Logf("%d kills", m.kills)
}

// restoresMail kills the restore of everything into a new folder, and of an account.
func (m *mortal) restoresMail(mail string, want []mua.LetterRow) {
	t := m.t
	t.Helper()
	fresh := filepath.Join(m.dir, "new")
	all := []string{"mail", "--data", fresh, "backup", "restore", "--all"}
	m.does("all", all...)
	for range 3 {
		if err := os.RemoveAll(fresh); err != nil {
			t.Fatal(err)
		}
		if _, err := m.killed("all", itself, all...); err != nil {
			if _, err := os.Stat(fresh); err == nil {
				continue // killed behind the last step: it must be whole, see below
			}
			m.does("all", all...)
		}
		m.env = append(m.env, "POCZTA_MAIL="+fresh)
		if got := m.letters(); !slices.EqualFunc(got, want, func(a, b mua.LetterRow) bool {
			return a.UniqueID == b.UniqueID && a.ID == b.ID && a.Folder == b.Folder && slices.Equal(a.Flags, b.Flags)
		}) {
			t.Errorf("restored: %d letters, want the %d that there were", len(got), len(want))
		}
	}
	empty := filepath.Join(m.dir, "empty")
	furnish(t, empty)
	one := []string{"mail", "--data", empty, "backup", "restore", "ala@" + domain}
	m.whole["one"] = m.whole["all"]
	for range 2 {
		_, _ = m.killed("one", itself, one...)
	}
	m.does("one", one...)
	m.env = append(m.env, "POCZTA_MAIL="+empty)
	ids := func(rows []mua.LetterRow) (all []string) {
		for _, r := range rows {
			all = append(all, r.UniqueID)
		}
		return slices.Sorted(slices.Values(all))
	}
	if got := m.letters(); !slices.Equal(ids(got), ids(want)) {
		t.Errorf("the account has %d letters, want the %d that it had", len(got), len(want))
	}
}

// letters are all letters of the mail.
func (m *mortal) letters() (rows []mua.LetterRow) {
	m.t.Helper()
	bin, err := binary()
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.CommandContext(m.t.Context(), bin, "mail", "list", "-n", "500", "--json")
	cmd.Env = m.env
	var notes bytes.Buffer
	cmd.Stderr = &notes
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &rows)
	}
	if err != nil {
		m.t.Fatalf("list: %v: %s", err, &notes)
	}
	return rows
}

// furnish makes a folder for mail with the account ala, which no server knows.
func furnish(t *testing.T, folder string) {
	t.Helper()
	m, err := mua.Open(t.Context(), mua.Config{Folder: folder, VaultFile: true, VaultWork: 10, Ask: func(bool) (string, error) { return "correct horse", nil }})
	if err != nil {
		t.Fatal(err)
	}
	nowhere := func(p clientconfig.Protocol) profile.Server {
		return profile.Server{Server: clientconfig.Server{Protocol: p, Host: "127.0.0.1", Port: 9, Security: clientconfig.TLS}, Login: "ala"}
	}
	a, err := m.Accounts.Add(t.Context(), profile.Account{Address: "ala@" + domain, Incoming: nowhere(clientconfig.POP3), Outgoing: nowhere(clientconfig.SMTP), Policy: profile.Policy{Keep: profile.Leave, Every: 600}})
	if err == nil {
		err = m.Store.AddAccount(t.Context(), a.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMailBackupSchedule has a person wish backups by the command line: sync --watch makes them; one
// whose octets were damaged is repaired and stored again.
func TestMailBackupSchedule(t *testing.T) {
	t.Parallel()
	m := newMortal(t)
	mail, copies := filepath.Join(m.dir, "mail"), filepath.Join(m.dir, "copies")
	m.env = append(m.env, "POCZTA_MAIL="+mail, "POCZTA_MAIL_PASSPHRASE_FILE="+keep(t, m.dir, "passphrase", "correct horse\n"), "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent", "LANG=C.UTF-8")
	furnish(t, mail)
	maildir(t, filepath.Join(m.dir, "old"), 60, 3000)
	m.does("import", "mail", "import", filepath.Join(m.dir, "old"))
	if said := m.does("show", "mail", "backup", "schedule"); !strings.Contains(said, "No backup is made by itself") {
		t.Errorf("before: %s", said)
	}
	if said := m.does("schedule", "mail", "backup", "schedule", "--to", "copies", "--every", "12h", "--keep", "last=2"); !strings.Contains(said, copies) || !strings.Contains(said, "last=2") {
		t.Errorf("schedule says %s", said)
	}
	watch, out := m.start("mail", "sync", "--watch", "--json")
	ended := make(chan error, 1)
	go func() { ended <- watch.Wait() }()
	s := &server{t: t, log: out}
	s.await("the backup is made", 20*time.Second, func() bool { return strings.Contains(out.String(), `"backup":{"schedule"`) })
	if said := m.does("show", "mail", "backup", "schedule", "--show", "--json"); !strings.Contains(said, `"made":`) || strings.Contains(said, `"failing"`) {
		t.Errorf("while it watches: %s", said)
	}
	if err := watch.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("watch ended with %v\n%s", err, out)
	}
	place := []string{"--to", copies}
	m.does("verify", append([]string{"mail", "backup", "verify"}, place...)...)
	damagePack(t, copies)
	cmd, bad := m.start(append([]string{"mail", "backup", "verify", "--json"}, place...)...)
	if err := cmd.Wait(); err == nil || !strings.Contains(bad.String(), `"problem"`) || !strings.Contains(bad.String(), "--repair") {
		t.Errorf("damage was not found: %v\n%s", err, bad)
	}
	cmd, bad = m.start(append([]string{"mail", "backup", "verify", "--repair"}, place...)...)
	if err := cmd.Wait(); err == nil || !strings.Contains(bad.String(), "make a new backup, which stores again") {
		t.Errorf("repair: %v\n%s", err, bad)
	}
	m.does("create", append([]string{"mail", "backup", "create"}, place...)...)
	m.does("verify", append([]string{"mail", "backup", "verify"}, place...)...)
	if said := m.does("off", "mail", "backup", "schedule", "--off"); !strings.Contains(said, "No backup is made by itself") {
		t.Errorf("off: %s", said)
	}
}

// damagePack changes an octet in the middle of the largest pack.
func damagePack(t *testing.T, copies string) {
	t.Helper()
	var largest string
	var size int64
	err := filepath.WalkDir(filepath.Join(copies, "packs"), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil || largest == "" {
		t.Fatalf("no pack: %v", err)
	}
	octets, err := os.ReadFile(largest)
	if err != nil {
		t.Fatal(err)
	}
	octets[len(octets)/2] ^= 0x55
	if err := os.WriteFile(largest, octets, 0o600); err != nil {
		t.Fatal(err)
	}
}
