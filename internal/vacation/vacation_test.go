package vacation_test

import (
	"bytes"
	"context"
	"fmt"
	"net/mail"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/vacation"
)

var start = time.Date(2026, 11, 23, 3, 35, 9, 0, time.UTC)

func addr(t testing.TB, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestWhy(t *testing.T) {
	t.Parallel()
	mine := func(a address.Address) bool { return a.Key() == "ala@example.org" || a.Key() == "alicja@example.org" }
	const to = "To: Ala <ala@example.org>\r\n"
	for _, tt := range []struct{ name, from, header, want string }{
		{"a letter", "jan@example.net", to, ""},
		{"a copy", "jan@example.net", "To: x@y.example\r\nCC: z@y.example, (me) Alicja@example.org\r\n", ""},
		{"resent", "jan@example.net", "Resent-To: ala@example.org\r\nTo: x@y.example\r\n", ""},
		{"in a group", "jan@example.net", "To: friends: x@y.example, ala@example.org;\r\n", ""},
		{"says it is no automatic message", "jan@example.net", to + "Auto-Submitted: No\r\n", ""},
		{"null reverse-path", "", to, "null reverse-path"},
		{"own address", "Alicja@example.org", to, "own address"},
		{"mailer-daemon", "MAILER-DAEMON@example.net", to, "sender is a program"},
		{"owner", "owner-list@example.net", to, "sender is a program"},
		{"request", "list-REQUEST@example.net", to, "sender is a program"},
		{"bounces", "bounces+17-ala=example.org@example.net", to, "sender is a program"},
		{"noreply", "noreply@example.net", to, "sender is a program"},
		{"auto-replied", "jan@example.net", to + "Auto-Submitted: auto-replied (vacation)\r\n", "automatic message"},
		{"auto-generated", "jan@example.net", "Auto-submitted: auto-generated; x=y\r\n" + to, "automatic message"},
		{"list", "jan@example.net", to + "List-Id: <l.example.net>\r\n", "mailing list"},
		{"newsletter", "jan@example.net", to + "list-unsubscribe: <mailto:x@y.example>\r\n", "mailing list"},
		{"precedence", "jan@example.net", to + "Precedence: Bulk\r\n", "bulk mail"},
		{"suppressed", "jan@example.net", to + "X-Auto-Response-Suppress: DR, OOF\r\n", "replies are not wanted"},
		{"report", "jan@example.net", to + "Content-Type: Multipart/Report; boundary=a\r\n", "report"},
		{"spam", "jan@example.net", to + "X-Spam-Flag: YES\r\n", "spam"},
		{"to others", "jan@example.net", "To: team@example.org\r\nSubject: ala@example.org\r\n", "not addressed to the person"},
		{"to nobody", "jan@example.net", "Subject: Hi\r\n", "not addressed to the person"},
		{"unreadable", "jan@example.net", "To: ala@example.org, <<\r\n", "not addressed to the person"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from := address.ReversePath{}
			if tt.from != "" {
				from = address.NewReversePath(addr(t, tt.from))
			}
			if got := vacation.Why(from, []byte(tt.header), mine); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzWhy(f *testing.F) {
	f.Add([]byte("To: ala@example.org\r\nAuto-Submitted: no\r\n"))
	from := address.NewReversePath(addr(f, "jan@example.net"))
	f.Fuzz(func(t *testing.T, header []byte) {
		calls := 0
		_ = vacation.Why(from, header, func(address.Address) bool { calls++; return false })
		if calls > 20_000 {
			t.Fatalf("%d addresses were compared", calls)
		}
		r := vacation.Reply{From: addr(t, "ala@example.org"), To: addr(t, "jan@example.net"), Header: header, Now: start}
		var b bytes.Buffer
		if err := r.Write(&b); err != nil {
			t.Fatal(err)
		}
		m, err := mail.ReadMessage(&b)
		if err != nil || m.Header.Get("Auto-Submitted") != "auto-replied" || m.Header.Get("To") != "<jan@example.net>" || len(m.Header) > 11 {
			t.Fatalf("%v: %v", err, m)
		}
	})
}

func TestClaim(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, []db.Component{vacation.Schema}, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		now := start
		m, err := vacation.New(vacation.Config{DB: d, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		v := account.Vacation{Days: 7, Changed: start.Add(-time.Hour)}
		claim := func(what, to string, want bool) {
			t.Helper()
			got, err := m.Claim(ctx, 1, addr(t, to), v)
			if err != nil || got != want {
				t.Errorf("%s: %v, %v, want %v", what, got, err, want)
			}
		}
		claim("first", "jan@example.net", true)
		claim("second", "Jan@Example.net", false)
		claim("another sender", "ola@example.net", true)
		if yes, err := m.Claim(ctx, 2, addr(t, "jan@example.net"), v); !yes || err != nil {
			t.Errorf("another account: %v, %v", yes, err)
		}
		now = start.Add(7*24*time.Hour - time.Minute)
		claim("within seven days", "jan@example.net", false)
		now = start.Add(7*24*time.Hour + time.Minute)
		claim("after seven days", "jan@example.net", true)
		now = now.Add(time.Hour)
		v.Changed = now.Add(-time.Minute)
		claim("a new text", "jan@example.net", true)
		claim("once", "jan@example.net", false)
		for i := 1; i < vacation.MaxPerDay; i++ {
			claim("many", fmt.Sprintf("u%d@example.net", i), true)
		}
		claim("too many", "more@example.net", false)
		now = now.Add(25 * time.Hour)
		claim("the next day", "more@example.net", true)
		now = now.Add(account.MaxVacationDays*24*time.Hour + time.Hour)
		claim("much later", "last@example.net", true)
		var rows int64
		err = d.View(ctx, func(tx db.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM vacation_answer`).Scan(&rows) })
		if err != nil || rows != 1 {
			t.Errorf("%d rows are left, %v", rows, err)
		}
		var group sync.WaitGroup
		var yes atomic.Int32
		for range 8 {
			group.Go(func() {
				got, err := m.Claim(ctx, 3, addr(t, "jan@example.net"), v)
				if err != nil {
					t.Error(err)
				}
				if got {
					yes.Add(1)
				}
			})
		}
		group.Wait()
		if yes.Load() != 1 {
			t.Errorf("%d of 8 at once may answer", yes.Load())
		}
	})
}

func TestReply(t *testing.T) {
	t.Parallel()
	id, err := message.NewID(start, strings.NewReader("0123456789"))
	if err != nil {
		t.Fatal(err)
	}
	reply := func(change func(*vacation.Reply)) string {
		t.Helper()
		r := vacation.Reply{ID: id, Host: addr(t, "x@mx.example.org").Domain(), From: addr(t, "ala@example.org"), To: addr(t, "jan@example.net"), Now: start,
			Header: []byte("Subject: =?utf-8?q?Za=C5=BC=C3=B3=C5=82=C4=87?=\r\nMessage-ID: <2@x>\r\nReferences: <0@x>\r\n <1@x> bad\r\n")}
		change(&r)
		var b bytes.Buffer
		if err := r.Write(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	got := reply(func(r *vacation.Reply) { r.Name = `Ala "A" Nowak` })
	for _, want := range []string{
		"From: \"Ala \\\"A\\\" Nowak\" <ala@example.org>\r\n", "To: <jan@example.net>\r\n", "Subject: =?UTF-8?B?QXV0bzogWmHFvMOzxYLEhw==?=\r\n", "In-Reply-To: <2@x>\r\n",
		"References: <0@x> <1@x> <2@x>\r\n", "Auto-Submitted: auto-replied\r\n", "\r\n\r\nHello,\r\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the reply lacks %q: %s", want, got)
		}
	}
	got = reply(func(r *vacation.Reply) {
		r.Language, r.Vacation.Until, r.Header = "pl", time.Date(2026, 12, 16, 0, 0, 0, 0, time.Local), nil
	})
	for _, want := range []string{"Subject: Auto:\r\n", "do 2026-12-15.", "Dzie=C5=84 dobry"} {
		if !strings.Contains(got, want) || strings.Contains(got, "In-Reply-To") {
			t.Errorf("the reply lacks %q: %s", want, got)
		}
	}
	got = reply(func(r *vacation.Reply) { r.Name, r.Vacation.Subject, r.Vacation.Text = "Żaneta", "Urlop", "Jutro.\n" })
	if !strings.Contains(got, "Subject: Urlop\r\n") || !strings.HasSuffix(got, "\r\n\r\nJutro.\r\n") || message.NeedsUTF8([]byte(got)) {
		t.Errorf("the reply is %s", got)
	}
}
