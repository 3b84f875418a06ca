package rspamd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/rspamdtest"
	"poczta.example/poczta/internal/rspamd"
)

// pupil remembers what it is taught, one message a second.
type pupil struct {
	mu      sync.Mutex
	learned []string
	dropped map[string]int
	fail    error
}

func (p *pupil) Learn(ctx context.Context, r io.Reader, _ int64, spam bool) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail == nil {
		p.learned = append(p.learned, fmt.Sprint(string(b), " ", spam))
	}
	return p.fail
}

func (p *pupil) drop(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dropped == nil {
		p.dropped = map[string]int{}
	}
	p.dropped[why]++
}

func (p *pupil) teacher(t *testing.T, change func(*rspamd.TeacherConfig)) *rspamd.Teacher {
	t.Helper()
	c := rspamd.TeacherConfig{Pupil: p, Dropped: p.drop}
	if change != nil {
		change(&c)
	}
	teacher, err := rspamd.NewTeacher(c)
	if err != nil {
		t.Fatal(err)
	}
	return teacher
}

func (p *pupil) want(t *testing.T, learned []string, dropped map[string]int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if diff := cmp.Diff(learned, p.learned); diff != "" {
		t.Errorf("learned (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(dropped, p.dropped); diff != "" {
		t.Errorf("dropped (-want +got):\n%s", diff)
	}
}

// pass lets time go by in a bubble.
func pass(d time.Duration) { <-time.After(d) }

func TestTeacher(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		change  func(*rspamd.TeacherConfig)
		run     func(t *testing.T, p *pupil, teacher *rspamd.Teacher)
		learned []string
		dropped map[string]int
	}{
		{"in order, and what waits at the end", nil, func(_ *testing.T, _ *pupil, teacher *rspamd.Teacher) {
			teacher.Teach(0, []byte("a"), true)
			teacher.Teach(0, []byte("b"), false)
		}, []string{"a true", "b false"}, nil},
		{"begins again when all is taught", nil, func(_ *testing.T, _ *pupil, teacher *rspamd.Teacher) {
			teacher.Teach(0, []byte("a"), true)
			pass(time.Minute)
			teacher.Teach(0, []byte("b"), true)
		}, []string{"a true", "b true"}, nil},
		{"full", func(c *rspamd.TeacherConfig) { c.Lessons = 1 }, func(_ *testing.T, _ *pupil, teacher *rspamd.Teacher) {
			teacher.Teach(0, []byte("a"), true)
			synctest.Wait() // it is being taught
			teacher.Teach(0, []byte("b"), true)
			teacher.Teach(0, []byte("c"), true)
		}, []string{"a true", "b true"}, map[string]int{"full": 1}},
		{"octets", func(c *rspamd.TeacherConfig) { c.Held = 3 }, func(_ *testing.T, _ *pupil, teacher *rspamd.Teacher) {
			teacher.Teach(0, []byte("four"), true)
			teacher.Teach(0, []byte("one"), true)
		}, []string{"one true"}, map[string]int{"full": 1}},
		{"patient", func(c *rspamd.TeacherConfig) { c.Lessons, c.Held = 1, 3 }, func(t *testing.T, _ *pupil, teacher *rspamd.Teacher) {
			for _, s := range []string{"a", "b", "c", "four", "d"} {
				if err := teacher.TeachPatiently(t.Context(), 0, []byte(s), true); err != nil {
					t.Error(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if err := teacher.TeachPatiently(ctx, 0, []byte("e"), true); err == nil {
				t.Error("a full queue took more")
			}
		}, []string{"a true", "b true", "c true", "d true"}, map[string]int{"full": 1}},
		{"one account does not teach all", func(c *rspamd.TeacherConfig) { c.ShareDaily = 1 }, func(_ *testing.T, _ *pupil, teacher *rspamd.Teacher) {
			for _, who := range []envelope.AccountID{1, 1, 2, 0, 0} {
				teacher.Teach(who, []byte(fmt.Sprint(who)), true)
			}
			pass(24 * time.Hour)
			teacher.Teach(1, []byte("next day"), true)
		}, []string{"1 true", "2 true", "0 true", "0 true", "next day true"}, map[string]int{"daily": 1}},
		{"not there", nil, func(_ *testing.T, p *pupil, teacher *rspamd.Teacher) {
			p.fail = rspamd.ErrUnavailable
			teacher.Teach(0, []byte("a"), true)
			teacher.Teach(0, []byte("b"), true)
			pass(30 * time.Second)
			teacher.Teach(0, []byte("c"), true)
			p.mu.Lock()
			p.fail = nil
			p.mu.Unlock()
			pass(time.Minute)
			teacher.Teach(0, []byte("d"), true)
		}, []string{"d true"}, map[string]int{"resting": 2}},
		{"not wanted", nil, func(_ *testing.T, p *pupil, teacher *rspamd.Teacher) {
			p.fail = rspamd.ErrReply
			teacher.Teach(0, []byte("a"), true)
			pass(2 * time.Second)
			p.mu.Lock()
			p.fail = nil
			p.mu.Unlock()
			teacher.Teach(0, []byte("b"), true)
		}, []string{"b true"}, nil},
		{"closing does not wait for long", func(c *rspamd.TeacherConfig) { c.Grace = 1500 * time.Millisecond }, func(_ *testing.T, _ *pupil, teacher *rspamd.Teacher) {
			for _, s := range []string{"a", "b", "c"} {
				teacher.Teach(0, []byte(s), true)
			}
		}, []string{"a true"}, map[string]int{"resting": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var p pupil
				teacher := p.teacher(t, c.change)
				c.run(t, &p, teacher)
				if err := teacher.Close(); err != nil {
					t.Error(err)
				}
				p.want(t, c.learned, c.dropped)
				teacher.Teach(0, []byte("late"), true) // it is closed
				if len(p.learned) != len(c.learned) {
					t.Error("it teaches after its end")
				}
			})
		})
	}
	var none *rspamd.Teacher
	none.Teach(0, nil, true)
	if err := none.TeachPatiently(t.Context(), 0, nil, true); err != nil || none.Close() != nil {
		t.Error("a teacher that is none fails")
	}
}

// TestTeacherRspamd teaches a real Rspamd, whose statistics then know of it.
func TestTeacherRspamd(t *testing.T) {
	t.Parallel()
	s := rspamdtest.Start(t)
	c := newClient(t, "http://"+s.Check, func(c *rspamd.Config) { c.Controller, c.Password = "http://"+s.Controller, rspamdtest.Password })
	var p pupil
	outcomes := make(chan error, 2)
	teacher := p.teacher(t, func(tc *rspamd.TeacherConfig) { tc.Pupil = watched{c, outcomes} })
	teacher.Teach(0, []byte(text), true)
	teacher.Teach(0, []byte(strings.Replace(text, "Hi.", "Dear all.", 1)), false)
	for range 2 {
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
	}
	if err := teacher.Close(); err != nil {
		t.Error(err)
	}
	if n := s.Learned(t); n != 2 {
		t.Errorf("Rspamd has learned %d messages, want 2", n)
	}
}

// watched tells what came of each message.
type watched struct {
	rspamd.Pupil
	outcomes chan error
}

func (w watched) Learn(ctx context.Context, r io.Reader, size int64, spam bool) error {
	err := w.Pupil.Learn(ctx, r, size, spam)
	w.outcomes <- err
	return err
}

// TestLearnAnswers: what Rspamd has learned before is no fault, however its version says so.
func TestLearnAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		text   string
		want   error
	}{
		"learned":        {http.StatusOK, `{"success":true}`, nil},
		"before":         {http.StatusAlreadyReported, `{"error":"<undef> has been already learned as spam, ignore it"}`, nil},
		"before, in 3.4": {http.StatusNotFound, `{"error":"<undef> has been already learned as spam, ignore it"}`, nil},
		"no controller":  {http.StatusNotFound, `{"error":"unknown command"}`, rspamd.ErrReply},
		"too short":      {http.StatusOK, `{"success":false,"error":"too few tokens"}`, rspamd.ErrReply},
		"no password":    {http.StatusForbidden, `{"error":"Unauthorized"}`, rspamd.ErrReply},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.text)
			}))
			defer s.Close()
			if err := newClient(t, s.URL, nil).Learn(t.Context(), strings.NewReader(text), int64(len(text)), true); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// TestTeacherPaths: spam and wanted mail go where Rspamd learns them.
func TestTeacherPaths(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.URL.Path+" "+string(b)+" "+r.Header.Get("Password"))
		_, _ = io.WriteString(w, `{"success":true}`)
	}))
	defer s.Close()
	teacher, err := rspamd.NewTeacher(rspamd.TeacherConfig{Pupil: newClient(t, s.URL, nil)})
	if err != nil {
		t.Fatal(err)
	}
	teacher.Teach(0, []byte("a"), true)
	teacher.Teach(0, []byte("b"), false)
	if err := teacher.Close(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"/learnspam a pw", "/learnham b pw"}, got); diff != "" {
		t.Error(diff)
	}
}
