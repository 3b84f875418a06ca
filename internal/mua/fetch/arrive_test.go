package fetch_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
)

// refuseTables has letters not get into the tables any more, or again.
func (h *house) refuseTables(t *testing.T, refuse bool) {
	t.Helper()
	sql := `DROP TRIGGER bad`
	if refuse {
		sql = `CREATE TRIGGER bad BEFORE INSERT ON landed BEGIN SELECT RAISE(ABORT, 'a bad disk'); END`
	}
	err := h.store.DB().Update(t.Context(), func(tx db.Tx) error {
		_, err := tx.Exec(sql)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// arriving are the files of letters that have come.
func (h *house) arriving(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(h.folder, "arriving-*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// known are letters that came and need not be asked for again.
func (h *house) known(t *testing.T) []string {
	t.Helper()
	ids, err := fetch.Known(t.Context(), h.store, h.account)
	if err != nil || len(ids) == 0 {
		t.Fatalf("%d letters are known: %v", len(ids), err)
	}
	return ids
}

// came has letters come that do not get into the tables, and returns the house.
func came(t *testing.T, mail []poppeer.Message) *house {
	t.Helper()
	h := newHouse(t, poppeer.Config{Messages: mail}, profile.Leave)
	h.refuseTables(t, true)
	if _, err := h.Sync(t.Context(), h.account); err == nil || !strings.Contains(err.Error(), "a bad disk") {
		t.Fatalf("tables that refuse: %v", err)
	}
	h.refuseTables(t, false)
	if len(h.arriving(t)) == 0 {
		t.Fatal("nothing is kept of what came")
	}
	return h
}

// TestNotAskedAgain fetches after a fetch whose letters came and got into no table: the server is not
// asked for them again, whatever their size, and afterwards no file of them is left.
func TestNotAskedAgain(t *testing.T) {
	t.Parallel()
	mail := append(many(30, 900), poppeer.Message{ID: "large", Data: bytes.Repeat([]byte("Subject: a large letter\r\n"), 3<<20/25)})
	h := came(t, mail)
	known, before := h.known(t), h.peer.Given()
	if res := h.sync(t); res.Fetched != len(mail) {
		t.Errorf("the next fetch: %+v", res)
	}
	after := h.peer.Given()
	for _, id := range known {
		if after[id] != before[id] {
			t.Errorf("%s was asked for again", id)
		}
	}
	h.mustHold(t, "the next fetch", mail)
	if files := h.arriving(t); len(files) > 0 {
		t.Errorf("these are left: %q", files)
	}
}

// TestCameDamaged changes octets of what came, its server and its sizes: such letters are asked for again.
func TestCameDamaged(t *testing.T) {
	t.Parallel()
	mail := many(20, 900)
	for what, change := range map[string]func(h *house){
		"octets": func(h *house) {
			for _, name := range h.arriving(t) {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, bytes.ReplaceAll(b, []byte("Subject"), []byte("subject")), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		},
		"the server": func(h *house) { h.account.Incoming.Host = "pop.elsewhere.example" },
		"sizes": func(h *house) {
			other := make([]poppeer.Message, len(mail))
			for i, m := range mail {
				other[i] = poppeer.Message{ID: m.ID, Data: append([]byte("X-Other: letter\r\n"), m.Data...)}
			}
			h.peer.SetMessages(other...)
		},
		"the file": func(h *house) {
			for _, name := range h.arriving(t) {
				if err := os.WriteFile(name, []byte("PAR1 and what no one wrote"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		h := came(t, mail)
		known, before := h.known(t), h.peer.Given()
		change(h)
		want := h.peer.Messages()
		if res := h.sync(t); res.Fetched != len(mail) || len(res.Remarks) != 0 {
			t.Errorf("%s changed: %+v", what, res)
		}
		h.mustHold(t, what+" changed", want)
		after := h.peer.Given()
		for _, id := range known {
			if after[id] != before[id]+1 {
				t.Errorf("%s changed: %s was handed out %d times more", what, id, after[id]-before[id])
			}
		}
		if files := h.arriving(t); len(files) > 0 {
			t.Errorf("%s changed: these are left: %q", what, files)
		}
	}
}

// TestCameAndLeft: what came and is not on the server any more is given up, and so is what came for an
// account that was removed.
func TestCameAndLeft(t *testing.T) {
	t.Parallel()
	h := came(t, many(20, 900))
	h.peer.SetMessages()
	if res := h.sync(t); res.Fetched != 0 || len(h.arriving(t)) > 0 {
		t.Errorf("nothing on the server: %+v, files %q", res, h.arriving(t))
	}
	h = came(t, many(20, 900))
	if err := h.Forget(t.Context(), h.account.ID); err != nil || len(h.arriving(t)) > 0 {
		t.Errorf("an account is forgotten: %v, files %q", err, h.arriving(t))
	}
}
