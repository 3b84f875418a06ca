package db_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailtest/pgtest"
)

// TestConnectErrors: why there is no connection stands on one line, each cause
// once, and without the password.
func TestConnectErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ url, want string }{
		"nobody listens": {"postgres://ala:hush@127.0.0.1:1/mail",
			`open database: PostgreSQL takes no connection for user "ala" to database "mail": 127.0.0.1:1: connection refused`},
		"two hosts": {"postgres://ala:hush@127.0.0.1:1,127.0.0.1:2/mail?sslmode=disable",
			`open database: PostgreSQL takes no connection for user "ala" to database "mail": 127.0.0.1:1: connection refused; 127.0.0.1:2: connection refused`},
		"no socket": {"postgres://ala:hush@/mail?host=/none",
			`open database: PostgreSQL takes no connection for user "ala" to database "mail": /none/.s.PGSQL.5432: no such file or directory`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := db.OpenPostgres(t.Context(), db.PostgresConfig{URL: tt.url})
			if err == nil || err.Error() != tt.want || !errors.Is(err, db.ErrConnect) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// TestConnectRefused: what PostgreSQL itself says is told.
func TestConnectRefused(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(pgtest.URL(t, pgtest.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/nothere"
	_, err = db.OpenPostgres(t.Context(), db.PostgresConfig{URL: u.String()})
	if !errors.Is(err, db.ErrConnect) || !strings.Contains(err.Error(), `database "nothere" does not exist`) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one line that names the database", err)
	}
}
