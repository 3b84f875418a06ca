package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/pop3client"
)

// faulty is a house whose letters lie on a disk that fails as it is told.
type faulty struct {
	*house
	disk *disk.Fault
}

func (f *faulty) open(t *testing.T) {
	t.Helper()
	var err error
	f.store, err = store.Open(t.Context(), store.Config{Folder: f.folder, FS: f.disk, Components: []db.Component{profile.Schema, fetch.Schema}, Filed: fetch.Filed})
	if err != nil {
		t.Fatal(err)
	}
	f.Fetcher, err = fetch.New(fetch.Config{Store: f.store, Open: func(ctx context.Context, _ profile.Account) (*pop3client.Session, error) {
		return login(ctx, f.peer.Dial(), pop3client.Timeouts{})
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func newFaulty(t *testing.T, mail []poppeer.Message) *faulty {
	t.Helper()
	f := &faulty{house: &house{peer: poppeer.Start(t, poppeer.Config{Messages: mail}), folder: t.TempDir()}, disk: disk.NewFault(1)}
	f.open(t)
	f.account = addAccount(t, f.store, profile.Fetched)
	return f
}

// TestDiskFailsAtEachCall has the disk fail each write and each sync in turn while letters are fetched
// and deleted on the server: none is deleted that can't be read here, none comes twice, and after the
// program was started anew all come.
func TestDiskFailsAtEachCall(t *testing.T) {
	t.Parallel()
	mail := append(poppeer.Letters(6, 700), poppeer.Message{ID: "large", Data: slices.Concat([]byte("Subject: large\r\n\r\n"), make([]byte, 2<<20), []byte("\r\n"))})
	for _, kind := range []disk.Op{disk.OpWrite, disk.OpSync} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			for k := 1; ; k++ {
				f := newFaulty(t, mail)
				first, calls := f.disk, f.disk.CallsOf(kind)
				f.disk.FailAt(kind, k, cause)
				_, err := f.Sync(t.Context(), f.account)
				when := fmt.Sprintf("%v at %v %d", cause, kind, k)
				f.lossless(t, when, mail)
				_, again := f.Sync(t.Context(), f.account) // what a store may do after a failed sync is its own matter
				f.lossless(t, when+", the second time", mail)
				closed := f.store.Close()
				f.disk = f.disk.Reopen(uint64(k))
				f.open(t)
				f.sync(t)
				f.sync(t)
				f.mustHold(t, when+", started anew", mail)
				if n := len(f.peer.Messages()); n != 0 {
					t.Errorf("%s: %d letters stay on the server", when, n)
				}
				if cerr := f.store.Close(); cerr != nil {
					t.Errorf("%s: close: %v", when, cerr)
				}
				if first.CallsOf(kind)-calls < k { // it did not come to that
					if err != nil || again != nil || closed != nil {
						t.Errorf("nothing failed: %v, %v, %v", err, again, closed)
					}
					break
				}
				if k > 200 || errors.Is(err, context.Canceled) {
					t.Fatalf("%s: %v", when, err)
				}
			}
		}
	}
}

// lossless fails when the server has deleted what is not here, or something is here twice.
func (f *faulty) lossless(t *testing.T, when string, mail []poppeer.Message) {
	t.Helper()
	here := letters(t, f.store, f.account.ID)
	if len(slices.Compact(slices.Clone(here))) != len(here) {
		t.Errorf("%s: something is here twice", when)
	}
	for _, id := range f.peer.Deleted() {
		k := slices.IndexFunc(mail, func(m poppeer.Message) bool { return m.ID == id })
		if _, ok := slices.BinarySearch(here, string(mail[k].Data)); !ok {
			t.Errorf("%s: %s was deleted and is not here", when, id)
		}
	}
}
