package bucket_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/bucket"
)

// faulty is an S3 server in this process that misbehaves at one kind of request.
type faulty struct {
	next http.Handler

	mu          sync.Mutex
	kind, fault string
	skip, left  int // requests of the kind that go well before, and those that do not then
	met         int // that did not
}

// arm has left requests of a kind fail, behind skip that do not.
func (f *faulty) arm(kind, fault string, skip, left int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kind, f.fault, f.skip, f.left, f.met = kind, fault, skip, left, 0
}

// forever is more requests than a test makes.
const forever = 1 << 30

// kindOf names requests: CREATE is a PUT of what must be new, LIST a GET of a bucket.
func kindOf(r *http.Request) string {
	switch {
	case r.Method == http.MethodPut && r.Header.Get("If-None-Match") != "":
		return "CREATE"
	case r.Method == http.MethodGet && r.URL.Query().Get("list-type") != "":
		return "LIST"
	}
	return r.Method
}

// strikes says which fault a request meets; "" is none.
func (f *faulty) strikes(r *http.Request) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault == "" || kindOf(r) != f.kind || f.left == 0 {
		return ""
	}
	if f.skip > 0 {
		f.skip--
		return ""
	}
	f.left--
	f.met++
	return f.fault
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch fault := f.strikes(r); fault {
	case "":
		f.next.ServeHTTP(w, r)
	case "500", "503":
		code, _ := strconv.Atoi(fault)
		name := map[int]string{500: "InternalError", 503: "SlowDown"}[code]
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>`+name+`</Code><Message>not now</Message></Error>`)
	case "refused": // the line drops before anything is done
		panic(http.ErrAbortHandler)
	case "lost", "cut": // it is done, but the answer is lost, or its second half
		done := httptest.NewRecorder()
		f.next.ServeHTTP(done, r)
		if body := done.Body.Bytes(); fault == "cut" && len(body) > 1 {
			for name, values := range done.Header() {
				w.Header()[name] = values
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.WriteHeader(done.Code)
			_, _ = w.Write(body[:len(body)/2])
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	case "silent": // nothing is answered until the client leaves
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
}

// bench is a bucket with one backup, behind faults.
type bench struct {
	t     *testing.T
	f     *faulty
	in    bucket.Config
	c     backup.Config
	first string // the backup
	now   time.Time
}

// newBench makes the first backup with the time that a busy machine takes; what follows has patience only.
func newBench(t *testing.T, patience time.Duration) *bench {
	t.Helper()
	b := &bench{t: t, f: &faulty{}, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	c := behind(t, func(h http.Handler) http.Handler { b.f.next = h; return b.f })
	b.in = c
	b.c = backup.Config{Target: target(t, c, "poczta"), Now: func() time.Time { b.now = b.now.Add(time.Second); return b.now }}
	if err := b.create(things{"a": "one ", "b": "two ", "c": "three "}); err != nil {
		t.Fatal(err)
	}
	c.Patience = patience
	b.c.Target = target(t, c, "poczta")
	return b
}

func (b *bench) create(s things) error {
	r, err := backup.OpenOrInit(b.t.Context(), b.c)
	if err != nil {
		return err
	}
	defer r.Close()
	report, err := r.Create(b.t.Context(), s, b.now)
	if b.first == "" {
		b.first = report.Snapshot
	}
	return err
}

// works makes a backup, prunes, reads every octet and one item.
func (b *bench) works() error {
	if err := b.create(things{"a": "one ", "b": "two ", "c": "four "}); err != nil {
		return err
	}
	ctx := b.t.Context()
	r, err := backup.Open(ctx, b.c)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := r.Prune(ctx, backup.Rules{Last: 1}); err != nil {
		return err
	}
	if err := b.sound(r); err != nil {
		return err
	}
	s, err := r.At(ctx, "things", time.Time{})
	if err != nil {
		return err
	}
	it, err := r.Item(ctx, s, "all", []byte("b"))
	if err != nil {
		return err
	}
	rd, err := it.Open(ctx)
	if err != nil {
		return err
	}
	octets, err := io.ReadAll(rd)
	if err == nil && !bytes.Equal(octets, bytes.Repeat([]byte("two "), 400_000)) {
		b.t.Errorf("%d octets that are not what they were", len(octets))
	}
	return err
}

func (b *bench) sound(r *backup.Repository) error {
	v, err := r.Verify(b.t.Context(), func(f backup.Fault) { b.t.Errorf("fault: %s", f.Text()) })
	if err == nil && v.Snapshots == 0 {
		b.t.Error("no backup is there")
	}
	return err
}

// TestFaultsPass meets each fault once, at each kind of request, the first and later ones:
// nobody sees anything of it.
func TestFaultsPass(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"PUT", "CREATE", "GET", "HEAD", "LIST", "DELETE"} {
		for _, fault := range []string{"500", "503", "refused", "lost", "cut"} {
			t.Run(kind+" "+fault, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, 5*time.Minute)
				for skip := range 3 {
					b.f.arm(kind, fault, skip, 1)
					err := b.works()
					if err != nil {
						t.Errorf("request %d: %v", skip+1, err)
					}
					if b.f.met == 0 && skip < 2 {
						t.Errorf("request %d was not made", skip+1)
					}
				}
			})
		}
	}
}

// TestFaultsStay has a kind of request fail from some request on: the work ends in time with an error
// in words, what was backed up before is whole, and when the server is well again the same work is done.
func TestFaultsStay(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"PUT", "CREATE", "GET", "HEAD", "LIST", "DELETE"} {
		for _, fault := range []string{"503", "lost", "cut", "silent"} {
			t.Run(kind+" "+fault, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, 400*time.Millisecond)
				b.f.arm(kind, fault, 1, forever)
				err := b.works()
				if err == nil {
					t.Fatal("it went well")
				}
				for text := range strings.Lines(err.Error()) { // the lock that can't be given back has a line of its own
					if len(text) > 500 || !strings.ContainsAny(text, " ") {
						t.Errorf("it says %q", text)
					}
				}
				if fault == "silent" && !strings.Contains(err.Error(), "does not answer") {
					t.Errorf("it says %q", err)
				}
				b.f.arm("", "", 0, 0)
				b.c.Target = target(t, b.in, "poczta") // a server that is well has time
				b.now = b.now.Add(time.Hour)           // a lock that could not be given back has expired
				r, err := backup.Open(t.Context(), b.c)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if err := b.sound(r); err != nil {
					t.Error(err)
				}
				if err := b.works(); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		}
	}
}

// TestLockIsOurs loses the answer to the request that makes the lock: it is known again.
func TestLockIsOurs(t *testing.T) {
	t.Parallel()
	b := newBench(t, 5*time.Minute)
	b.f.arm("CREATE", "lost", 0, 1)
	if err := b.create(things{"a": "x"}); err != nil || errors.Is(err, backup.ErrLocked) {
		t.Errorf("got %v", err)
	}
	if b.f.met != 1 {
		t.Errorf("%d answers were lost", b.f.met)
	}
}
