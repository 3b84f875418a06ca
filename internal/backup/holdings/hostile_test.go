package holdings_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/disk"
)

// liar is a Source whose facts and items are whatever a test says.
type liar struct {
	facts    string
	sections map[string][]backup.Item
}

func (liar) Kind() string             { return "server" }
func (liar) Origin() string           { return "liar" }
func (l liar) Facts() ([]byte, error) { return []byte(l.facts), nil }

func (l liar) Sections(context.Context) ([]string, error) {
	var out []string
	for name := range l.sections {
		out = append(out, name)
	}
	return out, nil
}

func (l liar) Items(_ context.Context, section string, fn func(backup.Item) error) error {
	for _, it := range l.sections[section] {
		if err := fn(it); err != nil {
			return err
		}
	}
	return nil
}

// TestLies restores backups that somebody made by hand: what they say never becomes SQL, and
// nothing panics.
func TestLies(t *testing.T) {
	t.Parallel()
	const steps = `"steps":{"account":2,"body":1,"mailbox":1,"queue":4,"trace":1}`
	row := []backup.Item{{Key: []byte{1}, Data: []byte{1, 2}}}
	tests := []struct {
		name  string
		liar  liar
		error string
	}{
		{"steps below none", liar{facts: `{"steps":{"account":-1}}`}, "not known"},
		{"steps beyond all", liar{facts: `{"steps":{"account":1000}}`}, "not known"},
		{"a component of its own", liar{facts: `{"steps":{"evil":1}}`}, "not known"},
		{"a table that is SQL", liar{facts: `{` + steps + `,"tables":[{"name":"account; DROP TABLE entry; --","columns":[{"name":"id","kind":"int"}],"key":["id"]}]}`}, "not known"},
		{"a column that is SQL", liar{facts: `{` + steps + `,"tables":[{"name":"body","columns":[{"name":"id) SELECT 1; DROP TABLE entry; --","kind":"blob"}],"key":["id"]}]}`}, "not known"},
		{"rows of rubbish", liar{facts: `{` + steps + `,"tables":[{"name":"restored_id","columns":[{"name":"id","kind":"blob"}],"key":["id"]}]}`,
			sections: map[string][]backup.Item{"table/restored_id": {{Key: []byte{1}, Data: []byte{3, 200}}}}}, "damaged"},
		{"a row too long", liar{facts: `{` + steps + `,"tables":[{"name":"restored_id","columns":[{"name":"id","kind":"blob"}],"key":["id"]}]}`,
			sections: map[string][]backup.Item{"table/restored_id": {{Key: []byte{1}, Data: []byte{3, 1, 1, 0, 0}}}}}, "damaged"},
		{"a body without a number", liar{facts: `{` + steps + `}`, sections: map[string][]backup.Item{"bodies": row}}, "damaged"},
		{"an account that is none", liar{facts: `{` + steps + `}`, sections: map[string][]backup.Item{"accounts": row}}, "damaged"},
		{"no facts", liar{facts: `[]`}, "what backup"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := repository(t, disk.NewFault(1))
			report, err := r.Create(t.Context(), tt.liar, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			s, err := r.Snapshot(t.Context(), report.Snapshot)
			if err != nil {
				t.Fatal(err)
			}
			h := open(t, dbtest.SQLite(t))
			_, err = holdings.All(t.Context(), r, s, holdings.Into{DB: h.db, Body: h.body, Components: components(), Mailboxes: h.mail})
			if err == nil || !strings.Contains(err.Error(), tt.error) {
				t.Errorf("got %v, want an error with %q", err, tt.error)
			}
			_, err = holdings.Mail(t.Context(), r, s, holdings.Selection{Account: "a"}, holdings.Mailroom{Body: h.body, Mailboxes: h.mail, Account: 1, Login: "a"})
			if err == nil || errors.Is(err, context.Canceled) {
				t.Errorf("mail of nobody: %v", err)
			}
		})
	}
}
