package mua_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// settle gives the house an account whose servers are never asked, and letters by import.
func (h *house) settle(n int) profile.Account {
	h.t.Helper()
	server := func(protocol clientconfig.Protocol) profile.Server {
		return profile.Server{Server: clientconfig.Server{Protocol: protocol, Host: "127.0.0.1", Port: 1, Security: clientconfig.TLS}, Login: "ala"}
	}
	a := profile.Account{Address: "ala@house.example", Policy: profile.Policy{Keep: profile.Leave}, Incoming: server(clientconfig.POP3), Outgoing: server(clientconfig.SMTP)}
	a, err := h.Accounts.Add(h.t.Context(), a)
	h.must(err)
	h.must(h.Store.AddAccount(h.t.Context(), a.ID))
	dir := h.t.TempDir()
	for i := range n {
		text := fmt.Sprintf("From: ola@example.org\r\nTo: ala@house.example\r\nSubject: letter %d\r\nDate: Mon, 23 Nov 2026 10:%02d:00 +0000\r\nMessage-ID: <%d@example.org>\r\n\r\nkawa\r\n", i, i, i)
		h.must(os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.eml", i)), []byte(text), 0o600))
	}
	h.must(h.desk("", false).Import(h.t.Context(), mua.ImportFrom{Path: dir}))
	return a
}

// TestNothingFound says that lists are empty, and refuses what names nothing that is there.
func TestNothingFound(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.settle(2)
	for name, c := range map[string]struct {
		l    mua.Listing
		want error // nil: it is said that nothing was found
	}{
		"a word":            {mua.Listing{Text: "nowhere"}, nil},
		"a conversation":    {mua.Listing{Thread: 99999999}, nil},
		"an empty folder":   {mua.Listing{Folder: "Archive"}, nil},
		"no such folder":    {mua.Listing{Folder: "Nope"}, store.ErrNotFound},
		"in: no folder":     {mua.Listing{Text: "in:Nope kawa"}, store.ErrNotFound},
		"account: nobody":   {mua.Listing{Text: "account:nobody kawa"}, profile.ErrNotFound},
		"a search for none": {mua.Listing{Text: "from:"}, mua.ErrUsage},
		"no date":           {mua.Listing{Text: "after:2026-02-31"}, mua.ErrUsage},
	} {
		for kind, list := range map[string]func(*mua.Desk) error{
			"list":    func(d *mua.Desk) error { return d.List(t.Context(), c.l) },
			"threads": func(d *mua.Desk) error { return d.Threads(t.Context(), c.l) },
		} {
			err := list(h.desk("", false))
			said := strings.Contains(h.err.String(), "Nothing was found.")
			if !errors.Is(err, c.want) || (c.want == nil) != said || h.out.Len() > 0 {
				t.Errorf("%s, %s: %v %q %q", name, kind, err, &h.out, &h.err)
			}
		}
	}
	h.must(h.desk("", false).List(t.Context(), mua.Listing{Text: "in:anywhere kawa"}))
	if n := strings.Count(h.out.String(), "letter "); n != 2 || h.err.Len() > 0 {
		t.Errorf("anywhere: %s %s", &h.out, &h.err)
	}
}

// TestMissingLetters changes those that are here, and fails for the others.
func TestMissingLetters(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.settle(2)
	ctx := t.Context()
	all := h.rows(mua.Listing{})
	one, two := fmt.Sprint(all[0].ID), fmt.Sprint(all[1].ID)
	for _, c := range []struct {
		name       string
		do         func(*mua.Desk) error
		says, fail string // "" for none
	}{
		{"no folder", func(d *mua.Desk) error { return d.Move(ctx, "", []string{one}) }, "", "a folder needs a name"},
		{"move none", func(d *mua.Desk) error { return d.Move(ctx, "Work", []string{"99999999"}) }, "", "there is no letter 99999999"},
		{"move one of two, twice", func(d *mua.Desk) error { return d.Move(ctx, "Work", []string{one, one, "99999999"}) }, "1 letter moved to Work.", "there is no letter 99999999"},
		{"move what lies there", func(d *mua.Desk) error { return d.Move(ctx, "Work", []string{one, two}) }, "1 letter moved to Work; 1 lay there already.", ""},
		{"mark none", func(d *mua.Desk) error { return d.Mark(ctx, []string{"99999999"}, mua.Marking{Read: true}) }, "", "there is no letter"},
		{"delete none", func(d *mua.Desk) error { return d.Delete(ctx, []string{"99999998", "99999999"}) }, "", "there is no letter 99999998; poczta mail list shows those that are here; there is no letter 99999999"},
		{"restore what is not deleted", func(d *mua.Desk) error { return d.Restore(ctx, []string{one}) }, "", "is not deleted: it lies in Work"},
		{"delete one", func(d *mua.Desk) error { return d.Delete(ctx, []string{one}) }, "1 letter deleted; poczta mail restore brings it back.", ""},
		{"delete it from Trash", func(d *mua.Desk) error { return d.Delete(ctx, []string{one}) }, "1 letter deleted", ""},
		{"move what is deleted", func(d *mua.Desk) error { return d.Move(ctx, "Work", []string{one}) }, "", "is deleted; poczta mail restore"},
		{"restore it", func(d *mua.Desk) error { return d.Restore(ctx, []string{one}) }, "1 letter restored.", ""},
		{"read none", func(d *mua.Desk) error { return d.Read(ctx, "99999999", mua.Reading{}) }, "", "there is no letter 99999999; poczta mail list"},
	} {
		err := c.do(h.desk("", false))
		if c.fail == "" && err != nil || c.fail != "" && (err == nil || !strings.Contains(err.Error(), c.fail)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.fail)
		}
		if !strings.Contains(h.out.String(), c.says) || c.says == "" && h.out.Len() > 0 {
			t.Errorf("%s: says %q, want %q", c.name, &h.out, c.says)
		}
	}
}

// TestSendSaved sends a letter from Drafts: as it is, or changed.
func TestSendSaved(t *testing.T) {
	t.Parallel()
	text, other := "At one?", "At two!"
	for name, c := range map[string]struct {
		w       mua.Writing
		subject string
		to      []string
		text    string
	}{
		"as it is": {mua.Writing{}, "Lunch", []string{"ola@example.org"}, text},
		"changed":  {mua.Writing{Subject: "Dinner", Text: &other, Cc: []string{"ewa@example.org"}}, "Dinner", []string{"ola@example.org", "ewa@example.org"}, other},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, ctx := newHouse(t), t.Context()
			h.settle(1)
			h.must(h.desk("", false).Send(ctx, mua.Writing{To: []string{"ola@example.org"}, Subject: "Lunch", Text: &text, Draft: true}))
			drafts := h.rows(mua.Listing{Folder: store.Drafts})
			if len(drafts) != 1 {
				t.Fatalf("drafts: %+v", drafts)
			}
			c.w.Saved, c.w.Unchecked = fmt.Sprint(drafts[0].ID), true
			h.must(h.desk("this is not read", false).Send(ctx, c.w))
			if got := h.rows(mua.Listing{Folder: store.Drafts}); len(got) != 0 {
				t.Errorf("left in Drafts: %+v", got)
			}
			items, err := h.Outbox.List(ctx)
			h.must(err)
			if len(items) != 1 || items[0].Subject != c.subject || len(items[0].Recipients) != len(c.to) {
				t.Fatalf("outbox: %+v", items)
			}
			for i, r := range items[0].Recipients {
				if r.Address != c.to[i] {
					t.Errorf("to %s, want %s", r.Address, c.to[i])
				}
			}
			h.must(h.desk("", false).OutgoingUndo(ctx, int64(items[0].ID)))
			h.must(h.desk("", false).Read(ctx, fmt.Sprint(h.rows(mua.Listing{Folder: store.Drafts})[0].ID), mua.Reading{}))
			if !strings.HasSuffix(h.out.String(), "\n\n"+c.text+"\n") {
				t.Errorf("text: %s", &h.out)
			}
		})
	}
}

// TestSendRefused sends nothing that was not meant.
func TestSendRefused(t *testing.T) {
	t.Parallel()
	h, text := newHouse(t), "x"
	h.settle(1)
	one := fmt.Sprint(h.rows(mua.Listing{})[0].ID)
	for name, w := range map[string]mua.Writing{
		"in the past":         {At: time.Now().AddDate(-1, 0, 0)},
		"no draft":            {Saved: one},
		"an answer and draft": {Saved: one, Reply: one},
	} {
		w.To, w.Text, w.Unchecked = []string{"ola@example.org"}, &text, true
		if err := h.desk("", false).Send(t.Context(), w); !errors.Is(err, mua.ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if items, err := h.Outbox.List(t.Context()); err != nil || len(items) != 0 {
		t.Errorf("outbox: %+v, %v", items, err)
	}
}

// TestFolders makes, renames and removes folders.
func TestFolders(t *testing.T) {
	t.Parallel()
	h, ctx := newHouse(t), t.Context()
	h.settle(3)
	h.must(h.desk("", false).RuleAdd(ctx, store.Rule{Name: "old", Move: "Work/Old"}, nil))
	all := h.rows(mua.Listing{})
	for _, c := range []struct {
		name       string
		do         func(*mua.Desk) error
		says, fail string // "" for none
	}{
		{"make", func(d *mua.Desk) error { return d.FolderMake(ctx, "ala", " Work / Old ") }, "The folder Work/Old is made.", ""},
		{"make it again", func(d *mua.Desk) error { return d.FolderMake(ctx, "", "Work/Old") }, "", "there is a folder Work/Old already"},
		{"make one like INBOX", func(d *mua.Desk) error { return d.FolderMake(ctx, "", "inbox") }, "", "there is a folder inbox already"},
		{"make one without a name", func(d *mua.Desk) error { return d.FolderMake(ctx, "", " ") }, "", "can't be a folder's name"},
		{"move there", func(d *mua.Desk) error {
			return d.Move(ctx, "Work/Old", []string{fmt.Sprint(all[0].ID), fmt.Sprint(all[1].ID)})
		}, "2 letters moved", ""},
		{"rename into itself", func(d *mua.Desk) error { return d.FolderRename(ctx, "", "Work/Old", "Work/Old/er") }, "", "would lie in itself"},
		{"rename one that is not there", func(d *mua.Desk) error { return d.FolderRename(ctx, "", "Nope", "Yes") }, "", `there is no folder "Nope"`},
		{"rename INBOX", func(d *mua.Desk) error { return d.FolderRename(ctx, "", "INBOX", "Mine") }, "", "every account has the folder INBOX"},
		{"rename", func(d *mua.Desk) error { return d.FolderRename(ctx, "", "Work/Old", "Done") }, "The folder Work/Old is now Done.", ""},
		{"its rule followed", func(d *mua.Desk) error { return d.Rules(ctx) }, "move to Done", ""},
		{"remove Trash", func(d *mua.Desk) error { return d.FolderRemove(ctx, "", "Trash") }, "", "every account has the folder Trash"},
		{"remove the outbox", func(d *mua.Desk) error { return d.FolderRemove(ctx, "", "Outbox") }, "", "is the outbox's"},
		{"remove", func(d *mua.Desk) error { return d.FolderRemove(ctx, "", "Done") }, "The folder Done is removed; what lay there is in Trash: 2 letters.", ""},
		{"remove it again", func(d *mua.Desk) error { return d.FolderRemove(ctx, "", "Done") }, "", `there is no folder "Done"`},
	} {
		err := c.do(h.desk("", false))
		if c.fail == "" && err != nil || c.fail != "" && (err == nil || !strings.Contains(err.Error(), c.fail)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.fail)
		}
		if !strings.Contains(h.out.String(), c.says) || c.says == "" && h.out.Len() > 0 {
			t.Errorf("%s: says %q, want %q", c.name, &h.out, c.says)
		}
	}
	if got := h.rows(mua.Listing{Folder: store.Trash}); len(got) != 2 {
		t.Errorf("in Trash: %+v", got)
	}
}

// TestRulesByName removes and orders rules by what people call them.
func TestRulesByName(t *testing.T) {
	t.Parallel()
	h, ctx := newHouse(t), t.Context()
	h.settle(1)
	for _, name := range []string{"Invoices", "Lists", "twice", "Twice"} {
		h.must(h.desk("", false).RuleAdd(ctx, store.Rule{Name: name, Flag: true}, nil))
	}
	h.must(h.desk("", false).RuleOrder(ctx, []string{"lists", "lists"}))
	rules, err := h.Store.Rules(ctx)
	h.must(err)
	if rules[0].Name != "Lists" || len(rules) != 4 {
		t.Errorf("order: %+v", rules)
	}
	for word, want := range map[string]error{"nope": store.ErrNotFound, "77": store.ErrNotFound, "twice": mua.ErrUsage} {
		if err := h.desk("", false).RuleRemove(ctx, []string{"Lists", word}); !errors.Is(err, want) {
			t.Errorf("remove %s: %v", word, err)
		}
	}
	h.must(h.desk("", false).RuleRemove(ctx, []string{"invoices", fmt.Sprint(rules[0].ID)}))
	if rules, err = h.Store.Rules(ctx); err != nil || len(rules) != 2 {
		t.Errorf("left: %+v, %v", rules, err)
	}
}

// TestExportStopped leaves nothing, and says so.
func TestExportStopped(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.settle(3)
	ctx, stop := context.WithCancel(t.Context())
	path := filepath.Join(t.TempDir(), "box")
	d := h.desk("", false)
	d.Path = func(p string) string { stop(); return p } // Ctrl-C before the first letter
	if err := d.Export(ctx, path, "mbox", mua.Listing{}); !errors.Is(err, context.Canceled) || err.Error() != "stopped; nothing was written" {
		t.Errorf("stopped: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
	if err := h.desk("", false).Export(t.Context(), path, "mbox", mua.Listing{Folder: "Nope"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no such folder: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("made for nothing: %v", err)
	}
	h.must(h.desk("", false).Export(t.Context(), path, "mbox", mua.Listing{Folder: "Archive"}))
	if !strings.Contains(h.err.String(), "Nothing was found.") {
		t.Errorf("an empty folder: %s", &h.err)
	}
}
