package account_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
)

func benchEach(b *testing.B, fn func(b *testing.B, a *account.Accounts)) {
	for name, openDB := range map[string]func(testing.TB) db.Database{
		"sqlite":     func(tb testing.TB) db.Database { return dbtest.SQLite(tb) },
		"postgresql": func(tb testing.TB) db.Database { return dbtest.Postgres(tb) },
	} {
		b.Run(name, func(b *testing.B) {
			d := openDB(b)
			if err := db.Migrate(context.Background(), d, components); err != nil {
				b.Fatal(err)
			}
			a := open(b, d, nil)
			addDomain(b, a, "example.org")
			for i := range 100 {
				add(b, a, fmt.Sprintf("u%d@example.org", i), "", "")
			}
			b.ReportAllocs()
			fn(b, a)
		})
	}
}

// BenchmarkLoginAgain is a login that was right before.
func BenchmarkLoginAgain(b *testing.B) {
	benchEach(b, func(b *testing.B, a *account.Accounts) {
		add(b, a, "ala@example.org", "", "korek-butelka")
		for b.Loop() {
			if _, err := a.VerifyPlain(context.Background(), peer, "", "ala@example.org", "korek-butelka"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRoute is a route known before, and one that has to be read.
func BenchmarkRoute(b *testing.B) {
	benchEach(b, func(b *testing.B, a *account.Accounts) {
		path := address.NewForwardPath(mustAddr(b, "u50+shop@example.org"))
		b.Run("again", func(b *testing.B) {
			for b.Loop() {
				if _, err := a.Route(context.Background(), path); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("first", func(b *testing.B) {
			for b.Loop() {
				a.Forget()
				if _, err := a.Route(context.Background(), path); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

func BenchmarkMaySend(b *testing.B) {
	benchEach(b, func(b *testing.B, a *account.Accounts) {
		acc, err := a.Get(context.Background(), "u50@example.org")
		if err != nil {
			b.Fatal(err)
		}
		addr := mustAddr(b, "u50@example.org")
		for b.Loop() {
			if ok, err := a.MaySend(context.Background(), acc.ID, addr); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
}

// BenchmarkPassword is a person's first login: one derivation of 210,000 iterations.
func BenchmarkPassword(b *testing.B) {
	for b.Loop() {
		if err := account.Derive("korek-butelka", account.DefaultIterations); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkImport reports the time for one account with a foreign hash.
func BenchmarkImport(b *testing.B) {
	benchEach(b, func(b *testing.B, a *account.Accounts) {
		var lines strings.Builder
		for i := range b.N {
			fmt.Fprintf(&lines, "i%d@example.org:{SSHA}Y1LTx5syOodzYoXeRjBmJt0xUKazaIqh\n", i)
		}
		b.ResetTimer()
		r, err := a.Import(context.Background(), strings.NewReader(lines.String()), account.ImportOptions{})
		if err != nil || r.Added != b.N {
			b.Fatal(r, err)
		}
	})
}
