package pgtest_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"poczta.example/poczta/internal/mailtest/pgtest"
)

func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for range 2 {
		c, err := pgx.Connect(ctx, pgtest.URL(t, pgtest.Options{NoSync: true}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec(ctx, "CREATE TABLE t (a bigint)"); err != nil {
			t.Error(err)
		}
		c.Close(ctx)
	}
}

func TestSyncIsOnUnlessRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, pgtest.URL(t, pgtest.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	var v string
	if err := c.QueryRow(ctx, "SHOW fsync").Scan(&v); err != nil || v != "on" {
		t.Errorf("fsync is %q, %v; want on", v, err)
	}
}

// childEnv makes this binary a victim that starts a server and waits to be killed.
const childEnv = "PGTEST_CHILD"

func TestServerDiesWithKilledTests(t *testing.T) {
	t.Parallel()
	if os.Getenv(childEnv) == "1" {
		fmt.Println(pgtest.Start(t, pgtest.Options{NoSync: true}).URL("postgres"))
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestServerDiesWithKilledTests$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var url string
	for lines := bufio.NewScanner(out); url == "" && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "postgres://") {
			url = lines.Text()
		}
		if strings.Contains(lines.Text(), "SKIP") {
			cmd.Wait()
			t.Skip("skipped: no PostgreSQL")
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	_, dir, found := strings.Cut(url, "host=")
	if !found {
		t.Fatalf("child gave no address, but %q", url)
	}
	limit := time.After(2 * time.Minute)
	for tick := time.Tick(10 * time.Millisecond); ; {
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			return // the guard removes the folder after the server's end
		}
		select {
		case <-tick:
		case <-limit:
			t.Fatalf("the server in %s outlives its killed tests", dir)
		}
	}
}
