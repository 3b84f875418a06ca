package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store"
)

func TestRules(t *testing.T) {
	t.Parallel()
	const one = "From: Łukasz Żak <lz@example.org>\nTo: ala@example.org\nCc: jan@example.org\nSubject: Faktura nr 7/2026\nList-Id: Dev list <dev.example.org>\n" +
		"X-Spam: yes\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\ntext\n--b\nContent-Type: application/pdf; name=\"Umowa.PDF\"\n\nx\n--b--\n"
	for _, c := range []struct {
		name string
		when string // field op value
		want bool
	}{
		{"author's address", "from is LZ@example.org", true},
		{"author's name, folded", "from contains lukasz zak", true},
		{"not the author", "from is ala@example.org", false},
		{"recipients", "to ends example.org", true},
		{"subject", "subject begins FAKTURA NR", true},
		{"subject with punctuation", "subject contains nr 7/2026", true},
		{"subject by pattern", `subject matches \d/20\d\d$`, true},
		{"list", "list-id contains dev.example.org", true},
		{"a field", "header:x-spam is yes", true},
		{"a field that is not there", "header:X-None exists", false},
		{"attachment's name", "attachment ends .pdf", true},
		{"any attachment", "attachment exists", true},
		{"size", "size larger 100", true},
		{"size, not", "size smaller 100", false},
	} {
		f := strings.SplitN(c.when, " ", 3)
		cond := store.Condition{Field: f[0], Op: f[1]}
		if len(f) > 2 {
			cond.Value = f[2]
			_, _ = fmt.Sscan(f[2], &cond.Octets)
		}
		for _, not := range []bool{false, true} {
			h := open(t)
			cond.Not = not
			if _, err := h.SaveRule(t.Context(), store.Rule{Name: "r", Conditions: []store.Condition{cond}, Move: "There", Flag: true}); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			h.add(ala, "", one)
			want := "INBOX 0"
			if c.want != not {
				want = fmt.Sprintf("There %d", mailbox.Flagged)
			}
			page, err := h.List(t.Context(), store.Query{})
			if err != nil || len(page.Letters) != 1 {
				t.Fatal(err, page)
			}
			if got := fmt.Sprintf("%s %d", page.Letters[0].Folder, page.Letters[0].Flags); got != want {
				t.Errorf("%s (not %v): %s, want %s", c.name, not, got, want)
			}
		}
	}
}

func TestRulesInOrder(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	old := h.add(ala, "", letter("news old", "\nx\n"))
	subject := func(word string) []store.Condition {
		return []store.Condition{{Field: "subject", Op: "contains", Value: word}}
	}
	news, err := h.SaveRule(ctx, store.Rule{Name: "news", Conditions: subject("news"), Move: "News", MarkRead: true})
	if err != nil {
		t.Fatal(err)
	}
	spam, err := h.SaveRule(ctx, store.Rule{Name: "spam", Any: true, Conditions: append(subject("spam"), subject("viagra")...), Delete: true, Stop: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.SaveRule(ctx, store.Rule{Name: "ewa's", Accounts: []envelope.AccountID{ewa}, Move: "Hers"}); err != nil {
		t.Fatal(err)
	}
	where := func() string {
		t.Helper()
		page, err := h.List(ctx, store.Query{Everywhere: true, Sort: store.Oldest})
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for _, m := range page.Letters {
			s = append(s, fmt.Sprintf("%s:%s:%d", m.Subject, m.Folder, m.Flags))
		}
		return strings.Join(s, ", ")
	}
	h.add(ala, "", letter("news one", "\n1\n"), letter("news spam", "\n2\n"), letter("plain", "\n3\n"))
	h.add(ewa, "", letter("news two", "\n4\n"))
	h.add(ala, store.Inbox, letter("news put", "\n5\n"))
	if got, want := where(), "news old:INBOX:0, news one:News:1, news spam:Trash:1, plain:INBOX:0, news two:Hers:1, news put:INBOX:0"; got != want {
		t.Errorf("filed as %s, want %s", got, want)
	}
	if err := h.OrderRules(ctx, []int64{spam, news}); err != nil {
		t.Fatal(err)
	}
	h.add(ala, "", letter("spam news", "\n6\n"))
	if got := where(); !strings.HasSuffix(got, "spam news:Trash:0") {
		t.Errorf("in another order: %s", got)
	}
	all, err := h.Rules(ctx)
	if err != nil || len(all) != 3 || all[0].ID != spam || all[1].ID != news {
		t.Errorf("rules: %+v, %v", all, err)
	}
	found, cursor, err := h.TryRule(ctx, store.Rule{Name: "try", Conditions: subject("old"), Move: "Old"}, store.Query{})
	if err != nil || cursor != "" || len(found) != 1 || found[0].ID != old[0] || !cmp.Equal(found[0].Filing, store.Filing{Rules: []string{"try"}, Folder: "Old"}) {
		t.Errorf("tried: %+v, %v", found, err)
	}
	if n, _, err := h.ApplyRules(ctx, store.Query{Folder: store.Inbox, Accounts: []envelope.AccountID{ala}}); n != 2 || err != nil {
		t.Errorf("applied to %d, %v: %s", n, err, where())
	}
	all[1].Disabled = true
	if _, err := h.SaveRule(ctx, all[1]); err != nil {
		t.Fatal(err)
	}
	if err := h.RemoveRule(ctx, spam); err != nil {
		t.Fatal(err)
	}
	h.add(ala, "", letter("spam news 2", "\n7\n"))
	if got := where(); !strings.HasSuffix(got, "spam news 2:INBOX:0") {
		t.Errorf("without rules: %s", got)
	}
	if err := h.RemoveRule(ctx, spam); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := h.SaveRule(ctx, store.Rule{ID: 99, Name: "x", Flag: true}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no such rule: %v", err)
	}
}

func TestBadRules(t *testing.T) {
	t.Parallel()
	h := open(t)
	with := func(c store.Condition) store.Rule {
		return store.Rule{Name: "r", Flag: true, Conditions: []store.Condition{c}}
	}
	for name, r := range map[string]store.Rule{
		"no name":           {Flag: true},
		"no action":         {Name: "r"},
		"two places":        {Name: "r", Move: "X", Delete: true},
		"bad folder":        {Name: "r", Move: "a//b"},
		"unknown field":     with(store.Condition{Field: "colour", Op: "is", Value: "x"}),
		"unknown op":        with(store.Condition{Field: "from", Op: "like", Value: "x"}),
		"size contains":     with(store.Condition{Field: "size", Op: "contains", Value: "x"}),
		"bad pattern":       with(store.Condition{Field: "from", Op: "matches", Value: "("}),
		"nothing to find":   with(store.Condition{Field: "from", Op: "contains"}),
		"header of no name": with(store.Condition{Field: "header:", Op: "exists"}),
	} {
		if _, err := h.SaveRule(t.Context(), r); !errors.Is(err, store.ErrRule) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
