package mua_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/mua/vault"
)

// ring is a keyring in memory.
type ring struct {
	mu sync.Mutex
	m  map[string]string
}

func (r *ring) Get(service, name string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.m[service+"/"+name]
	if !ok {
		return "", vault.ErrNotFound
	}
	return s, nil
}

func (r *ring) Set(service, name, secret string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.m[service+"/"+name] = secret
	return nil
}

func (r *ring) Delete(service, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.m, service+"/"+name)
	return nil
}

// house is a person's open mail, with a desk that remembers what was printed.
type house struct {
	*mua.Mail
	t        *testing.T
	folder   string
	out, err bytes.Buffer
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, folder: t.TempDir()}
	var err error
	h.Mail, err = mua.Open(t.Context(), mua.Config{Folder: h.folder, VaultFile: true, VaultWork: 10, Ask: func(bool) (string, error) { return "correct horse battery", nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// desk prints into h.out, which it empties.
func (h *house) desk(in string, asJSON bool) *mua.Desk {
	h.out.Reset()
	h.err.Reset()
	return &mua.Desk{Mail: h.Mail, In: strings.NewReader(in), Out: &h.out, Err: &h.err, JSON: asJSON, Language: "en"}
}

// must wants no error.
func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("%v\n%s%s", err, &h.out, &h.err)
	}
}

// rows are the letters that a listing shows.
func (h *house) rows(l mua.Listing) (rows []mua.LetterRow) {
	h.t.Helper()
	h.must(h.desk("", true).List(h.t.Context(), l))
	h.must(json.Unmarshal(h.out.Bytes(), &rows))
	return rows
}

// add saves an account whose incoming server is real, as add does after its trial.
func (h *house) add(r *poppeer.Real, keep profile.Keep) profile.Account {
	h.t.Helper()
	host, port := "127.0.0.1", uint16(0)
	if _, err := fmt.Sscanf(r.Plain[strings.LastIndex(r.Plain, ":")+1:], "%d", &port); err != nil {
		h.t.Fatal(err)
	}
	a := profile.Account{Address: "ala@house.example", Policy: profile.Policy{Keep: keep},
		Incoming: profile.Server{Server: clientconfig.Server{Protocol: clientconfig.POP3, Host: host, Port: port, Security: clientconfig.Plain}, Login: "ala"},
		Outgoing: profile.Server{Server: clientconfig.Server{Protocol: clientconfig.SMTP, Host: host, Port: 465, Security: clientconfig.TLS}, Login: "ala"}}
	text, err := json.Marshal(mua.NewAccount{Account: a, Password: "secret"})
	h.must(err)
	h.must(h.desk(string(text), false).AccountAdd(h.t.Context()))
	a, err = h.Accounts.Find(h.t.Context(), "")
	h.must(err)
	return a
}

func letters(n int) []poppeer.Message {
	all := poppeer.Letters(n, 900)
	all = append(all, poppeer.Message{ID: "zolw", Data: []byte("From: Ola <ola@example.org>\r\nTo: ala@house.example\r\nSubject: =?utf-8?Q?=C5=BB=C3=B3=C5=82w?=\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n" +
		"Message-ID: <zolw@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n" +
		"--c\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nplain words\x1b[2J\r\n--c\r\nContent-Type: text/html\r\n\r\n<p>html words</p>\r\n--c--\r\n" +
		"--b\r\nContent-Type: text/plain; name=\"../../a:b.txt\"\r\nContent-Disposition: attachment; filename=\"../../a:b.txt\"\r\n\r\npelican\r\n--b--\r\n")})
	return all
}

// TestRealServers fetches, finds, reads, files and removes with servers of other houses.
func TestRealServers(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB, []poppeer.Message) *poppeer.Real{"Dovecot": poppeer.Dovecot, "Courier": poppeer.Courier} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := letters(20)
			h := newHouse(t)
			a := h.add(start(t, all), profile.Leave)
			h.must(h.desk("", true).Sync(t.Context(), nil))
			var synced []mua.SyncRow
			h.must(json.Unmarshal(h.out.Bytes(), &synced))
			if len(synced) != 1 || synced[0].Result.Fetched != len(all) || synced[0].Error != "" {
				t.Fatalf("sync: %+v", synced)
			}
			h.must(h.desk("", false).Sync(t.Context(), []string{"ala"}))
			if !strings.Contains(h.out.String(), "nothing new") {
				t.Errorf("second sync: %s", &h.out)
			}
			h.holds(all)
			h.reads()
			h.files()
			h.removes(a)
		})
	}
}

// holds compares what is here with what the server has.
func (h *house) holds(all []poppeer.Message) {
	h.t.Helper()
	var got, want []string
	for _, r := range h.rows(mua.Listing{Limit: 1000}) {
		h.must(h.desk("", false).Read(h.t.Context(), fmt.Sprint(r.ID), mua.Reading{Raw: true, Peek: true}))
		got = append(got, h.out.String())
	}
	for _, m := range all {
		want = append(want, string(m.Data))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		h.t.Errorf("%d letters are here, want %d, the same octets", len(got), len(want))
	}
}

// reads finds a letter by its attachment's text, shows and saves it.
func (h *house) reads() {
	h.t.Helper()
	found := h.rows(mua.Listing{Text: "pelican"})
	if len(found) != 1 || found[0].Subject != "Żółw" || found[0].Attachments != 1 {
		h.t.Fatalf("found %+v", found)
	}
	files := filepath.Join(h.t.TempDir(), "files")
	h.must(h.desk("", false).Read(h.t.Context(), fmt.Sprint(found[0].ID), mua.Reading{Save: files}))
	for _, want := range []string{"Subject: Żółw\n", "plain words\uFFFD[2J", "a_b.txt (text/plain"} {
		if !strings.Contains(h.out.String(), want) {
			h.t.Errorf("no %q in %s", want, &h.out)
		}
	}
	if strings.Contains(h.out.String(), "html words") || strings.Contains(h.out.String(), "\x1b") {
		h.t.Errorf("read: %q", &h.out)
	}
	list, err := os.ReadDir(files)
	if err != nil || len(list) != 1 || !strings.HasSuffix(list[0].Name(), "a_b.txt") {
		h.t.Errorf("saved %v %v", list, err)
	}
	if unread := h.rows(mua.Listing{Text: "pelican", Unread: true}); len(unread) != 0 {
		h.t.Error("the letter that was read is unread")
	}
}

// files moves, marks, deletes, restores, applies rules, exports and imports.
func (h *house) files() {
	h.t.Helper()
	ctx := h.t.Context()
	rows := h.rows(mua.Listing{})
	one := []string{fmt.Sprint(rows[0].ID)}
	h.must(h.desk("", false).Move(ctx, "Work/Old", one))
	h.must(h.desk("", false).Mark(ctx, one, mua.Marking{Flag: true, Answered: true}))
	if got := h.rows(mua.Listing{Folder: "Work/Old", Flagged: true}); len(got) != 1 || got[0].ID != rows[0].ID || !slices.Contains(got[0].Flags, "answered") {
		h.t.Errorf("moved and marked: %+v", got)
	}
	h.must(h.desk("", false).Delete(ctx, one))
	h.must(h.desk("", false).Delete(ctx, one))
	if got := h.rows(mua.Listing{Removed: true}); len(got) != 1 || got[0].Removed == nil {
		h.t.Errorf("in retention: %+v", got)
	}
	h.must(h.desk("", false).Restore(ctx, one))
	if got := h.rows(mua.Listing{Folder: "Work/Old"}); len(got) != 1 {
		h.t.Errorf("restored: %+v", got)
	}
	h.must(h.desk("", false).RuleAdd(ctx, store.Rule{Name: "turtles", Conditions: []store.Condition{{Field: "subject", Op: "contains", Value: "zolw"}}, Move: "Turtles", Stop: true}, nil))
	h.must(h.desk("", false).RulesApply(ctx, mua.Listing{}))
	if got := h.rows(mua.Listing{Folder: "Turtles"}); len(got) != 1 {
		h.t.Errorf("filed: %+v", got)
	}
	box := filepath.Join(h.t.TempDir(), "box")
	h.must(h.desk("", false).Export(ctx, box, "mbox", mua.Listing{}))
	if err := h.desk("", false).Export(ctx, box, "mbox", mua.Listing{}); !errors.Is(err, os.ErrExist) {
		h.t.Errorf("export over a file: %v", err)
	}
	for range 2 { // the second time nothing comes
		h.must(h.desk("", false).Import(ctx, mua.ImportFrom{Path: box, Folder: "Imported"}))
	}
	if got := h.rows(mua.Listing{Folder: "Imported", Limit: 100}); len(got) != len(rows) {
		h.t.Errorf("imported %d, want %d", len(got), len(rows))
	}
	h.must(h.desk("", false).Threads(ctx, mua.Listing{Folder: "Turtles"}))
	if !strings.Contains(h.out.String(), "Żółw") {
		h.t.Errorf("threads: %s", &h.out)
	}
	h.must(h.desk("", false).Folders(ctx))
	if !strings.Contains(h.out.String(), "Work/Old") {
		h.t.Errorf("folders: %s", &h.out)
	}
}

// removes forgets the account, its secrets and its letters.
func (h *house) removes(a profile.Account) {
	h.t.Helper()
	ctx := h.t.Context()
	days := mua.PolicyChange{Keep: "days:7"}
	h.must(h.desk("", false).Policy(ctx, "ala", days))
	for _, bad := range []string{"days:0", "days:x", "days:7x", "sometimes"} {
		if err := h.desk("", false).Policy(ctx, "ala", mua.PolicyChange{Keep: bad}); !errors.Is(err, mua.ErrUsage) {
			h.t.Errorf("--keep %s: %v", bad, err)
		}
	}
	if p, err := h.Secrets.Password(ctx, &a, true); err != nil || p != "secret" {
		h.t.Errorf("password: %q %v", p, err)
	}
	h.must(h.desk("", false).Remove(ctx, "ala@house.example", true))
	if _, err := h.Secrets.Password(ctx, &a, false); err == nil {
		h.t.Error("the password is known after the account was removed")
	}
	if left := h.rows(mua.Listing{Everyone: true}); len(left) != 0 {
		h.t.Errorf("%d letters are left", len(left))
	}
	if list, err := h.Accounts.List(ctx); err != nil || len(list) != 0 {
		h.t.Errorf("accounts: %v %v", list, err)
	}
}

// TestSecretsAreEncrypted looks for the password in every file of the folder.
func TestSecretsAreEncrypted(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := profile.Account{Address: "ala@house.example", ID: 7}
	h.must(h.Secrets.SetPassword(&a, "Very-Secret-Word", ""))
	err := filepath.WalkDir(h.folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte("Very-Secret-Word")) {
			t.Errorf("the password stands in %s", path)
		}
		return err
	})
	h.must(err)
}

// TestWatchEnds watches and stops, and does not watch twice.
func TestWatchEnds(t *testing.T) {
	t.Parallel()
	peer := poppeer.Start(t, poppeer.Config{Messages: poppeer.Letters(3, 100)})
	h := newHouse(t)
	h.add(&poppeer.Real{Plain: peer.Listen(t).String()}, profile.Leave)
	ctx, stop := context.WithCancel(t.Context())
	looked, done := make(chan fetch.Round, 1), make(chan error, 1)
	go func() {
		done <- h.Run(ctx, true, nil, func(r fetch.Round) {
			select {
			case looked <- r:
			default:
			}
		})
	}()
	if r := <-looked; r.Err == nil && r.Result.Fetched != 3 {
		t.Errorf("round: %+v", r)
	}
	if err := h.Run(ctx, true, nil, nil); !errors.Is(err, mua.ErrRunning) {
		t.Errorf("a second one: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestBusy opens a folder twice.
func TestBusy(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, err := mua.Open(t.Context(), mua.Config{Folder: h.folder, Keyring: &ring{m: map[string]string{}}})
	if !errors.Is(err, store.ErrBusy) {
		t.Errorf("got %v", err)
	}
}

// TestWaiting puts letters into the outbox that are not sent yet, undoes one, and keeps a draft.
func TestWaiting(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.add(&poppeer.Real{Plain: "127.0.0.1:1"}, profile.Leave)
	text := "text"
	file := filepath.Join(t.TempDir(), "menu.txt")
	h.must(os.WriteFile(file, []byte("soup"), 0o600))
	w := mua.Writing{To: []string{"Ola <ola@house.example>"}, Subject: "Żółw", Text: &text, Files: []string{file}, Unchecked: true}
	w.At = time.Now().Add(time.Hour)
	h.must(h.desk("", false).Send(t.Context(), w))
	if !strings.Contains(h.out.String(), "waits in the outbox until") {
		t.Errorf("send later: %s", &h.out)
	}
	w.At, w.Wait = time.Time{}, time.Hour
	h.must(h.desk("", false).Send(t.Context(), w))
	if !strings.Contains(h.out.String(), "waits in the outbox until") {
		t.Errorf("send with time to undo: %s", &h.out)
	}
	h.must(h.desk("", false).OutgoingUndo(t.Context(), 2))
	w.Draft = true
	h.must(h.desk("", false).Send(t.Context(), w))
	if got := h.rows(mua.Listing{Folder: store.Drafts}); len(got) != 2 || got[0].Subject != "Żółw" {
		t.Errorf("drafts: %+v", got)
	}
	h.must(h.desk("", false).Outgoing(t.Context()))
	if got := h.out.String(); strings.Count(got, "waiting") != 1 || !strings.Contains(got, "ola@house.example") {
		t.Errorf("outbox: %s", got)
	}
	for name, bad := range map[string]mua.Writing{
		"nobody":     {Text: &text, Subject: "x"},
		"no address": {To: []string{"ola"}, Text: &text},
		"no file":    {To: []string{"ola@house.example"}, Text: &text, Files: []string{file + "x"}},
		"a folder":   {To: []string{"ola@house.example"}, Text: &text, Files: []string{t.TempDir()}},
		"no letter":  {Reply: "99", Text: &text},
		"both":       {Reply: "1", Forward: "1", Text: &text},
		"whose":      {Account: "nobody@house.example", To: []string{"ola@house.example"}, Text: &text},
	} {
		if err := h.desk("", false).Send(t.Context(), bad); err == nil {
			t.Errorf("%s: sent", name)
		}
	}
}
