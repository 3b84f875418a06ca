package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mailtest/mortal"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// many are letters whose unique-ids are none the beginning of another.
func many(n, octets int) []poppeer.Message {
	mail := poppeer.Letters(n, octets)
	for i := range mail {
		mail[i].ID = fmt.Sprintf("id-%05d", i)
	}
	return mail
}

// TestTablesFailWhileOthersAreWritten has the transaction of a batch fail while the octets of the next are
// written: that one does not get into the tables either, nothing is deleted on the server, and the next fetch brings
// each letter once.
func TestTablesFailWhileOthersAreWritten(t *testing.T) {
	t.Parallel()
	mail := many(1500, 300)
	for _, bad := range []int{0, 7, 400, 1200, 1499} {
		h := newHouse(t, poppeer.Config{Messages: mail}, profile.Fetched)
		change := func(sql string) {
			t.Helper()
			err := h.store.DB().Update(t.Context(), func(tx db.Tx) error {
				_, err := tx.Exec(sql)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		change(`CREATE TRIGGER bad BEFORE INSERT ON landed WHEN instr(NEW.letters, CAST('` + mail[bad].ID + `' AS BLOB)) > 0 BEGIN SELECT RAISE(ABORT, 'a bad batch'); END`)
		_, err := h.Sync(t.Context(), h.account)
		if err == nil || !strings.Contains(err.Error(), "a bad batch") || !strings.Contains(err.Error(), "nothing was deleted on the server") {
			t.Fatalf("letter %d: %v", bad, err)
		}
		here := letters(t, h.store, h.account.ID)
		for i, m := range mail {
			if _, there := slices.BinarySearch(here, string(m.Data)); there && i >= bad {
				t.Errorf("letter %d is here, though the batch of letter %d failed", i, bad)
			}
		}
		if n := len(h.peer.Deleted()); n != 0 {
			t.Errorf("letter %d: %d letters were deleted on the server", bad, n)
		}
		change(`DROP TRIGGER bad`)
		if res := h.sync(t); res.Fetched+len(here) != len(mail) || res.Deleted != len(mail) {
			t.Errorf("letter %d: the next fetch: %+v, %d were here", bad, res, len(here))
		}
		h.mustHold(t, fmt.Sprintf("letter %d failed, the next fetch", bad), mail)
	}
}

// killSync tells the process to die at a sync of its letters' octets: its number, negative for behind it.
const killSync = "POCZTA_TEST_FETCH_KILL_SYNC"

// deadly is a file system whose process dies at a sync.
type deadly struct {
	disk.FS
	at    int64
	syncs *atomic.Int64
}

func (d deadly) Create(name string) (disk.File, error) {
	f, err := d.FS.Create(name)
	return deadlyFile{f, d}, err
}

type deadlyFile struct {
	disk.File
	d deadly
}

func (f deadlyFile) Sync() error {
	n := f.d.syncs.Add(1)
	if n == f.d.at {
		die()
	}
	err := f.File.Sync()
	if n == -f.d.at {
		die()
	}
	return err
}

// die ends the process as a power cut would, without a word.
func die() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill()
	}
	select {}
}

// openDeadly is openFolder in a process that is to die.
func openDeadly(ctx context.Context, folder string) (*store.Store, error) {
	at, err := strconv.ParseInt(os.Getenv(killSync), 10, 64)
	if err != nil {
		return openFolder(ctx, folder)
	}
	files, err := disk.OS(folder)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Config{Folder: folder, FS: deadly{files, at, &atomic.Int64{}}, Components: []db.Component{profile.Schema, fetch.Schema}, Filed: fetch.Filed})
}

// TestKilledAtEachSync kills the process in front of and behind each sync of its letters' octets, while the
// tables of the batch before are on their way to the disk: nothing is lost and nothing comes twice.
func TestKilledAtEachSync(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("kills some thirty processes")
	}
	mail := many(700, 400)
	for _, side := range []int{1, -1} {
		for k := 1; ; k++ {
			p := poppeer.Start(t, poppeer.Config{Messages: mail})
			server := p.Listen(t).String()
			folder := t.TempDir()
			s := openStore(t, folder)
			addAccount(t, s, profile.Fetched)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			told := []string{killFolder + "=" + folder, killServer + "=" + server}
			c := exec.Command(os.Args[0])
			c.Env, c.Stderr = append(append(os.Environ(), told...), fmt.Sprintf("%s=%d", killSync, side*k)), os.Stderr
			err := c.Run()
			if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.Exited()) {
				t.Fatalf("sync %d: %v", side*k, err)
			}
			mustHave(t, folder, p, mail)
			whole := asked{}
			whole.note(t, folder, p)
			if !mortal.Run(t, time.Minute, told...) {
				t.Fatalf("sync %d: the next fetch takes a minute", side*k)
			}
			s = openStore(t, folder)
			if got := letters(t, s); !slices.Equal(got, texts(mail)) {
				t.Errorf("sync %d: %d letters are here, want %d: %s", side*k, len(got), len(mail), differ(got, texts(mail)))
			}
			if n := len(p.Messages()); n != 0 {
				t.Errorf("sync %d: %d letters stay on the server", side*k, n)
			}
			whole.check(t, p)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err == nil {
				t.Logf("%d syncs", k-1)
				break
			}
		}
	}
}
