package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/bucket"
)

// servers are S3 servers with an empty bucket "mail": one in this process, and a real one.
func servers() map[string]func(t *testing.T) bucket.Config {
	return map[string]func(t *testing.T) bucket.Config{"gofakes3": inProcess, "versitygw": versity}
}

// inProcess starts an S3 server in this process.
func inProcess(t *testing.T) bucket.Config {
	t.Helper()
	return behind(t, func(h http.Handler) http.Handler { return h })
}

// behind starts one behind another handler.
func behind(t *testing.T, wrap func(http.Handler) http.Handler) bucket.Config {
	t.Helper()
	back := s3mem.New()
	if err := back.CreateBucket("mail"); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(wrap(gofakes3.New(back, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()))
	t.Cleanup(s.Close)
	return bucket.Config{Endpoint: s.URL, Bucket: "mail", AccessKey: "key", SecretKey: "secret", Region: "us-east-1"}
}

func target(t *testing.T, c bucket.Config, prefix string) *bucket.Target {
	t.Helper()
	c.Prefix = prefix
	b, err := bucket.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTarget(t *testing.T) {
	t.Parallel()
	for name, start := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			for _, prefix := range []string{"", "a/b"} {
				keeps(t, target(t, c, prefix), name == "versitygw")
			}
		})
	}
}

// keeps tries all that a Target promises. A server that is not atomic ignores that an object must be new.
func keeps(t *testing.T, b *bucket.Target, atomic bool) {
	t.Helper()
	ctx := t.Context()
	if _, err := b.Get(ctx, "none", 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	for _, octets := range []string{"0123456789", "abcdefghij"} {
		if err := b.Put(ctx, "packs/ab/one", []byte(octets)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		from, n int64
		want    string
	}{{0, -1, "abcdefghij"}, {3, 4, "defg"}, {8, 40, "ij"}, {4, -1, "efghij"}, {0, 1, "a"}, {10, 5, ""}} {
		got, err := b.Get(ctx, "packs/ab/one", tt.from, tt.n)
		if err != nil || string(got) != tt.want {
			t.Errorf("from %d, %d octets: %q, %v; want %q", tt.from, tt.n, got, err, tt.want)
		}
	}
	if err := b.Create(ctx, "lock", []byte("1")); err != nil {
		t.Error(err)
	}
	if err := b.Create(ctx, "lock", []byte("2")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created twice: %v", err)
	}
	var names []string
	err := b.List(ctx, "packs/", func(o backup.Object) error { names = append(names, o.Name); return nil })
	if err != nil || !slices.Equal(names, []string{"packs/ab/one"}) {
		t.Errorf("list: %v, %v", names, err)
	}
	for range 2 {
		if err := b.Remove(ctx, "lock"); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	created := make(chan error, 8) // of many at once, one makes the lock
	for i := range cap(created) {
		go func() { created <- b.Create(ctx, "lock", []byte{byte(i)}) }()
	}
	made := 0
	for range cap(created) {
		if err := <-created; err == nil {
			made++
		} else if !errors.Is(err, fs.ErrExist) {
			t.Errorf("created at once: %v", err)
		}
	}
	if made != 1 && atomic || made == 0 {
		t.Errorf("%d of %d created the lock at once", made, cap(created))
	}
	if err := b.Remove(ctx, "lock"); err != nil {
		t.Error(err)
	}
}

// TestConfig refuses what can't be.
func TestConfig(t *testing.T) {
	t.Parallel()
	for _, bad := range []bucket.Config{{Endpoint: "host", Bucket: "a"}, {Endpoint: "ftp://host", Bucket: "a"}, {}} {
		if _, err := bucket.New(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

// things is a small Source.
type things map[string]string

func (things) Kind() string                               { return "things" }
func (things) Origin() string                             { return "one" }
func (things) Facts() ([]byte, error)                     { return []byte("{}"), nil }
func (things) Sections(context.Context) ([]string, error) { return []string{"all"}, nil }
func (s things) Items(_ context.Context, _ string, fn func(backup.Item) error) error {
	for _, k := range []string{"a", "b", "c"} {
		octets := strings.Repeat(s[k], 400_000)
		err := fn(backup.Item{Key: []byte(k), Octets: int64(len(octets)), Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(octets)), nil
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// TestRepository makes, verifies, reads and prunes backups in a bucket.
func TestRepository(t *testing.T) {
	t.Parallel()
	for name, start := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repository(t, start(t))
		})
	}
}

func repository(t *testing.T, in bucket.Config) {
	t.Helper()
	c := backup.Config{Target: target(t, in, "poczta"), Key: backup.Key{Passphrase: "correct horse", WorkFactor: 4}}
	r, err := backup.OpenOrInit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := things{"a": "one ", "b": "two ", "c": "three "}
	if _, err := r.Create(t.Context(), s, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	report, err := r.Create(t.Context(), s, time.Time{})
	if err != nil || report.NewItems != 0 {
		t.Fatalf("second backup: %+v, %v", report, err)
	}
	if done, err := r.Prune(t.Context(), backup.Rules{Last: 1}); err != nil || len(done.Forgotten) != 1 {
		t.Errorf("prune: %+v, %v", done, err)
	}
	v, err := r.Verify(t.Context(), func(f backup.Fault) { t.Errorf("fault: %s", f.Text()) })
	if err != nil || v.Items != 3 {
		t.Errorf("verify: %+v, %v", v, err)
	}
	again, err := backup.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	snap, err := again.At(t.Context(), "things", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	it, err := again.Item(t.Context(), snap, "all", []byte("b"))
	if err != nil {
		t.Fatal(err)
	}
	rd, err := it.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(rd); err != nil || !bytes.Equal(got, bytes.Repeat([]byte("two "), 400_000)) {
		t.Errorf("read %d octets: %v", len(got), err)
	}
}
