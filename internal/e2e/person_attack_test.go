package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/store"
)

// siege is a person at the command line between servers that misbehave as they are told.
type siege struct {
	*laptop
	pop  *poppeer.Peer
	smtp *peer.Peer
	bin  string
	mail string // the folder

	measured int // commands whose memory is known
}

const person = "ala@house.example"

// newSiege sets an account up. Its folder lies in dir; "" is a new one.
func newSiege(t *testing.T, dir string, mail []poppeer.Message, flags ...string) *siege {
	t.Helper()
	s := &siege{laptop: newLaptop(t), pop: poppeer.Start(t, poppeer.Config{Login: person, Password: password, Messages: mail}),
		smtp: peer.Start(t, peer.Config{Login: person, Password: password})}
	if dir == "" {
		dir = s.dir
	}
	s.mail = filepath.Join(dir, "mail")
	s.env = append(s.env, "POCZTA_MAIL="+s.mail)
	var err error
	if s.bin, err = binary(); err != nil {
		t.Fatal(err)
	}
	s.does("", append([]string{"add", person, "--security", "none", "--incoming", s.pop.Listen(t).String(), "--outgoing", s.smtp.Listen(t).String(), "--password-file", "password"}, flags...)...)
	return s
}

// ran is what became of a command.
type ran struct {
	code     int
	out      string        // all that it printed
	octets   int64         // the most memory that it had at once; 0 when it ended before anybody looked
	worked   time.Duration // by processors
	took     time.Duration
	commands string
}

// runs runs a command to its end.
func (s *siege) runs(stdin string, args ...string) ran {
	s.t.Helper()
	begin := time.Now()
	cmd, out := s.start(stdin, args...)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	r := ran{commands: strings.Join(args, " ")}
	for running := true; running; {
		// What wait4 tells of memory counts that of the process which forked: the tests'.
		r.octets = max(r.octets, mostMemory(cmd.Process.Pid))
		select {
		case <-ended:
			running = false
		case <-time.After(10 * time.Millisecond):
		}
	}
	r.code, r.out, r.took = cmd.ProcessState.ExitCode(), out.String(), time.Since(begin)
	r.worked = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	s.measured += boolean(r.octets > 0)
	return r
}

// mostMemory is the most memory that a process has had at once, in octets; 0 when it has ended.
func mostMemory(pid int) (octets int64) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
		_, _ = fmt.Sscan(rest, &octets)
	}
	return octets << 10
}

// plainly fails unless a command failed and said so as people are told: with one of the words, and
// without what only programmers read.
func (s *siege) plainly(r ran, words ...string) {
	s.t.Helper()
	if r.code != 1 || !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(r.out, w) }) {
		s.t.Errorf("%s: exit %d, want 1 and one of %q:\n%s", r.commands, r.code, words, r.out)
	}
	for _, bad := range []string{"panic", "goroutine ", "runtime error", "0x", "%!", "<nil>", "errno"} {
		if strings.Contains(r.out, bad) {
			s.t.Errorf("%s says %q:\n%s", r.commands, bad, r.out)
		}
	}
}

// holds are the octets of the letters here, in the order of their text.
func (s *siege) holds() []string {
	s.t.Helper()
	box := filepath.Join(s.t.TempDir(), "box")
	s.does("", "export", box, "--format", "eml", "--everywhere")
	var all []string
	err := filepath.WalkDir(box, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all = append(all, string(text))
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// kept fails unless each of the letters is here once, or on the server, and none is nowhere.
func (s *siege) kept(when string, mail []poppeer.Message) (here int) {
	s.t.Helper()
	all := s.holds()
	for _, m := range mail {
		n := 0
		for _, text := range all {
			if text == string(m.Data) {
				n++
			}
		}
		there := slices.ContainsFunc(s.pop.Messages(), func(o poppeer.Message) bool { return bytes.Equal(o.Data, m.Data) })
		if n > 1 || n == 0 && !there {
			s.t.Errorf("%s: %s is here %d times, on the server: %v", when, m.ID, n, there)
		}
		here += n
	}
	return here
}

// TestPersonOnFullDisk fetches and sends on a disk that is full, at first almost and then wholly,
// and goes on when there is room: nothing is lost, nothing is deleted on the server that is not here,
// nothing is sent twice.
func TestPersonOnFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 64)
	mail := append(poppeer.Letters(300, 20_000), large("large", 5<<20))
	s := newSiege(t, disk, mail, "--keep", "fetched")
	full := []string{"no space left", "disk is full"}

	release := hog(t, disk, 3<<20)
	s.plainly(s.runs("", "sync"), full...)
	here := s.kept("on an almost full disk", mail) // none, when the first letters that came together found no room
	if here == len(mail) {
		t.Errorf("all %d letters are here: the disk was not full", here)
	}
	rest := filepath.Join(disk, "rest")
	fillUp(t, rest)
	for _, args := range [][]string{{"sync"}, {"send", "ola@peer.example", "-s", "full", "--text", "no room", "--unchecked"}, {"password", "--password-file", "passphrase", "--untried"}} {
		s.plainly(s.runs("", args...), full...)
	}
	little := [][]string{{"list"}, {"policy", "--every", "7m"}} // for which there may be room yet
	if here > 0 {
		little = append(little, []string{"read", "1"}, []string{"move", "Work", "1"})
	}
	for _, args := range little {
		if r := s.runs("", args...); r.code != 0 {
			s.plainly(r, full...)
		}
	}
	if n := len(s.smtp.Messages()); n != 0 {
		t.Errorf("%d letters were sent that were never durable", n)
	}
	if err := os.Remove(rest); err != nil {
		t.Fatal(err)
	}
	release()
	s.does("", "sync")
	s.does("", "sync")
	if here := s.kept("when there is room", mail); here != len(mail) || len(s.pop.Messages()) != 0 {
		t.Errorf("%d of %d letters are here, %d on the server", here, len(mail), len(s.pop.Messages()))
	}
	s.does("", "send", "ola@peer.example", "-s", "room", "--text", "there is room", "--unchecked")
	if n := len(s.smtp.Messages()); n != 1 {
		t.Errorf("%d letters were sent, want 1", n)
	}
}

// large is a letter of so many octets.
func large(id string, octets int) poppeer.Message {
	return poppeer.Message{ID: id, Data: []byte("From: ola@peer.example\r\nSubject: " + id + "\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", octets/72))}
}

// TestPersonSendsOnFullDisk fills the disk below a process that is about to send: what the server has
// taken is not sent again, whatever could not be written down, and what was not sent is.
func TestPersonSendsOnFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 32)
	s := newSiege(t, disk, nil)
	s.smtp.SetRules(peer.Rule{Stage: peer.Connect, Do: peer.Drop()})
	const letters = 6
	for i := range letters {
		s.does("", "send", "ola@peer.example", "-s", fmt.Sprint(i), "--text", strings.Repeat("more ", 1000*i), "--unchecked")
	}
	watch, out := s.start("", "sync", "--watch")
	await(t, "the accounts are watched", func() bool { return strings.Contains(out.String(), "Watching 1 accounts") })
	rest := filepath.Join(disk, "rest")
	fillUp(t, rest)
	s.smtp.SetRules()
	s.runs("", "outbox", "retry", "1")
	s.runs("", "outbox", "retry", "2")
	_ = watch.Process.Kill()
	_ = watch.Wait()
	if err := os.Remove(rest); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.runs("", "sync")
	}
	list := s.does("", "outbox")
	got := map[string]int{}
	for _, m := range s.smtp.Messages() {
		if got[m.ID]++; got[m.ID] > 1 {
			t.Errorf("%s was sent %d times", m.ID, got[m.ID])
		}
	}
	if len(got) != letters && !strings.Contains(list, "perhaps") {
		t.Errorf("%d of %d letters were sent, and nobody is asked:\n%s", len(got), letters, list)
	}
}

// await waits until something is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second * patience); !is(); {
		if time.Now().After(end) {
			t.Fatalf("not so in time: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// TestPersonFolders meets folders that can't be used as they are: on a disk that can't be written, of
// another user, of a newer version, in use by a process that is killed or can't be asked.
func TestPersonFolders(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 256)
	s := newSiege(t, dir, poppeer.Letters(5, 1000))
	s.does("", "sync")
	t.Run("read-only", func(t *testing.T) {
		mount(t, "remount,ro", dir)
		for _, args := range [][]string{{"list"}, {"sync"}, {"send", "ola@peer.example", "--text", "x"}} {
			s.plainly(s.runs("", args...), "make it writable")
		}
		mount(t, "remount,rw", dir)
		s.does("", "list")
	})
	t.Run("another user's", func(t *testing.T) {
		watch, out := s.start("", "sync", "--watch")
		await(t, "the accounts are watched", func() bool { return strings.Contains(out.String(), "Watching 1 accounts") })
		for _, mode := range []os.FileMode{0o700, 0o755} {
			for _, path := range []string{s.mail, dir, s.dir, filepath.Dir(s.dir), filepath.Dir(dir)} {
				if err := os.Chmod(path, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(s.mail, mode); err != nil {
				t.Fatal(err)
			}
			s.plainly(s.asNobody("list"), "another user")
		}
		_ = watch.Process.Kill()
		_ = watch.Wait()
		s.plainly(s.asNobody("list"), "another user") // the socket is there, nobody listens
		if err := os.Chmod(s.mail, 0o700); err != nil {
			t.Fatal(err)
		}
		s.does("", "list")
	})
	t.Run("killed while a command waits", func(t *testing.T) {
		s.pop.SetRules(poppeer.Rule{Stage: poppeer.List, Do: poppeer.Stall()})
		watch, out := s.start("", "sync", "--watch")
		await(t, "the accounts are watched", func() bool { return strings.Contains(out.String(), "Watching 1 accounts") })
		waits, said := s.start("", "import", s.write("one.eml", "Subject: one\n\nx\n"))
		other, said2 := s.start("", "sync") // meets the look of the watch
		await(t, "the server is asked", func() bool { return s.pop.Seen(poppeer.List) > 1 })
		_ = watch.Process.Kill()
		_ = watch.Wait()
		s.pop.SetRules()
		for cmd, text := range map[*exec.Cmd]*lockedBuffer{waits: said, other: said2} {
			if err := cmd.Wait(); err != nil && !strings.Contains(text.String(), "look what was done") && !strings.Contains(text.String(), "being fetched already") {
				t.Errorf("%v: %v\n%s", cmd.Args, err, text)
			}
		}
		s.does("", "import", filepath.Join(s.dir, "one.eml"))
		s.does("", "sync")
		if n := len(s.lists("list", "--folder", "INBOX")); n != 6 {
			t.Errorf("%d letters are here, want 6", n)
		}
	})
	t.Run("a path too long for a socket", func(t *testing.T) {
		long := filepath.Join(dir, strings.Repeat("d", 120))
		if err := os.Rename(s.mail, long); err != nil {
			t.Fatal(err)
		}
		s.env = append(s.env, "POCZTA_MAIL="+long)
		watch, out := s.start("", "sync", "--watch")
		await(t, "others are said to wait", func() bool {
			return strings.Contains(out.String(), "wait until this one ends") && strings.Contains(out.String(), "Watching")
		})
		list, said := s.start("", "list")
		_ = watch.Process.Signal(os.Interrupt)
		if err := watch.Wait(); err != nil {
			t.Errorf("watch: %v\n%s", err, out)
		}
		if err := list.Wait(); err != nil {
			t.Errorf("list: %v\n%s", err, said)
		}
		if err := os.Rename(long, s.mail); err != nil {
			t.Fatal(err)
		}
		s.env = append(s.env, "POCZTA_MAIL="+s.mail)
	})
	t.Run("a newer version's", func(t *testing.T) {
		d, err := db.OpenSQLite(t.Context(), db.SQLiteConfig{Path: filepath.Join(s.mail, store.DatabaseFile), SnapshotDir: filepath.Join(s.mail, store.SnapshotFolder)})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Update(t.Context(), func(tx db.Tx) error {
			_, err := tx.Exec(`INSERT INTO schema_step (component, number, applied, incompatible) VALUES ('mua-store', 999, 0, 1)`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		s.plainly(s.runs("", "list"), "newer version")
	})
}

func mount(t *testing.T, how, dir string) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", how, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount -o %s: %v: %s", how, err, out)
	}
}

// asNobody runs a command as another user, who reaches the folder's parents.
func (s *siege) asNobody(args ...string) ran {
	s.t.Helper()
	bin := filepath.Join(filepath.Dir(s.mail), "poczta")
	if _, err := os.Stat(bin); err != nil {
		text, err := os.ReadFile(s.bin)
		if err == nil {
			err = os.WriteFile(bin, text, 0o755)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(s.t.Context(), bin, append([]string{"mail", "--data", s.mail}, args...)...)
	cmd.Env, cmd.Dir = []string{"LANG=C.UTF-8", "HOME=/nonexistent"}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return ran{code: cmd.ProcessState.ExitCode(), out: string(out), commands: strings.Join(args, " ")}
}
