package training_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/training"
)

const ala envelope.AccountID = 1

// teacher is a Learner that remembers.
type teacher struct {
	mu    sync.Mutex
	lines []string
	fail  error
}

func (l *teacher) Learn(_ context.Context, id envelope.AccountID, msg io.ReaderAt, size int64, spam bool) error {
	b, err := io.ReadAll(io.NewSectionReader(msg, 0, size))
	if err != nil {
		return err
	}
	subject, _ := message.Get(b, "Subject")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprint(id, " ", map[bool]string{true: "spam ", false: "ham "}[spam], subject))
	return l.fail
}

type people struct{ t *testing.T }

func (p people) ByID(context.Context, envelope.AccountID) (account.Account, error) {
	return account.Account{ID: ala, Address: posttest.Address(p.t, posttest.Login(ala)), Language: "pl"}, nil
}

func (p people) Route(_ context.Context, to address.ForwardPath) (account.Route, error) {
	return account.Route{Locals: []account.Local{{Account: ala, Login: posttest.Login(ala), Address: to.Address()}}}, nil
}

type house struct {
	*posttest.House
	*training.Room
	teacher *teacher
}

func each(t *testing.T, fn func(t *testing.T, h *house)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, append(posttest.Components(), quarantine.Schema), func(t *testing.T, d db.Database) {
		h := &house{House: posttest.Open(t, d, posttest.Options{}), teacher: &teacher{}}
		q, err := quarantine.New(quarantine.Config{DB: d, Mailboxes: h.Mailboxes, Trace: h.Trace, Learner: h.teacher, Now: h.Clock.Now})
		must(t, err)
		host, err := address.ParseDomain("mx.poczta.example")
		must(t, err)
		letters, err := report.New(report.Config{Hostname: host, Accepter: h.Post, Router: people{t}, Now: h.Clock.Now})
		must(t, err)
		h.Room, err = training.New(training.Config{Learner: h.teacher, Mailboxes: h.Mailboxes, Mover: q, Finder: h.Trace, People: people{t}, Letters: letters,
			Hostname: host, From: posttest.Address(t, "poczta@mx.poczta.example"), Now: h.Clock.Now})
		must(t, err)
		fn(t, h)
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stored delivers a message with a Message-ID of its own into a folder and returns it.
func (h *house) stored(t *testing.T, folder, id, subject, text string) string {
	t.Helper()
	msg := "From: x@origin.example\r\nMessage-ID: " + id + "\r\nSubject: " + subject + "\r\n\r\n" + text + "\r\n"
	d := h.Delivery(t, msg, []envelope.AccountID{ala})
	d.MessageID, d.Locals[0].Mailbox = id, folder
	must(t, h.Post.Accept(t.Context(), d))
	return msg
}

// take sends a mail with attachments to spam@ or ham@.
func (h *house) take(t *testing.T, spam bool, parts ...string) (training.Result, error) {
	t.Helper()
	raw := "From: ala\r\nMessage-ID: <m@poczta.example>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHere.\r\n"
	for _, p := range parts {
		raw += "--b\r\n" + p + "\r\n"
	}
	return h.takeRaw(t, spam, raw+"--b--\r\n")
}

func (h *house) takeRaw(t *testing.T, spam bool, raw string) (training.Result, error) {
	t.Helper()
	root, err := mime.Parse(strings.NewReader(raw), int64(len(raw)), mime.Limits{})
	must(t, err)
	return h.Take(t.Context(), training.Message{Account: ala, Login: "ala", Spam: spam, Root: root, Body: strings.NewReader(raw)})
}

func attach(msg string) string { return "Content-Type: message/rfc822\r\n\r\n" + msg }

// folders counts the messages of folders.
func (h *house) folders(t *testing.T) map[string]int64 {
	t.Helper()
	all, err := h.Mailboxes.Mailboxes(t.Context(), ala)
	must(t, err)
	n := map[string]int64{}
	for i := range all {
		n[all[i].Name] = all[i].Messages
	}
	return n
}

func TestTake(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		own := h.stored(t, "", "<1@x>", "own", "Buy this.")
		h.stored(t, "", "<2@x>", "letter", "Dear Ala.")
		forged := "Message-ID: <2@x>\r\nSubject: forged\r\n\r\nBuy that.\r\n" // with the Message-ID of a letter
		wrapped := "Content-Type: application/octet-stream; name=\"a.EML\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
			base64.StdEncoding.EncodeToString([]byte("Subject: third\r\n\r\nx\r\n"))
		nested := attach("Subject: outer\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nx\r\n")
		res, err := h.take(t, true, attach("Return-Path: <x@y.example>\r\n"+strings.ReplaceAll(own, "Buy this.", "Buy\r\nthis. ")), attach(forged), wrapped, nested)
		if diff := cmp.Diff(training.Result{Messages: 4, Learned: 4, Moved: 1}, res); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		if diff := cmp.Diff([]string{"1 spam own", "1 spam forged", "1 spam third", "1 spam outer"}, h.teacher.lines); diff != "" {
			t.Errorf("learned (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]int64{"INBOX": 1, "Junk": 1}, h.folders(t)); diff != "" {
			t.Errorf("folders (-want +got):\n%s", diff)
		}
		if res, err = h.take(t, true, attach(own)); err != nil || res.Moved != 0 || res.Learned != 1 {
			t.Errorf("again: %+v, %v", res, err)
		}
		if res, err = h.take(t, false, attach(own)); err != nil || res.Moved != 1 || res.Learned != 1 {
			t.Errorf("back: %+v, %v", res, err)
		}
		if diff := cmp.Diff(map[string]int64{"INBOX": 2, "Junk": 0}, h.folders(t)); diff != "" {
			t.Errorf("folders (-want +got):\n%s", diff)
		}
	})
}

// TestOthersMail: a message that lies with somebody else stays there.
func TestOthersMail(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		msg := "Message-ID: <1@x>\r\nSubject: s\r\n\r\nx\r\n"
		d := h.Delivery(t, msg, []envelope.AccountID{2})
		d.MessageID = "<1@x>"
		must(t, h.Post.Accept(t.Context(), d))
		res, err := h.take(t, true, attach(msg))
		if err != nil || res.Moved != 0 || res.Learned != 1 {
			t.Errorf("%+v, %v", res, err)
		}
		if u, err := h.Mailboxes.Usage(t.Context(), 2); err != nil || u.Apart != 0 {
			t.Errorf("%+v, %v", u, err)
		}
	})
}

func TestNote(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		for _, raw := range []string{"Subject: Fwd\r\nMessage-ID: <m@poczta.example>\r\n\r\nOnly text.\r\n", "Subject: x\r\nAuto-Submitted: auto-generated\r\n\r\nx\r\n"} {
			if res, err := h.takeRaw(t, true, raw); err != nil || res.Learned != 0 {
				t.Errorf("%+v, %v", res, err)
			}
		}
		if diff := cmp.Diff(map[string]int64{"INBOX": 1}, h.folders(t)); diff != "" {
			t.Fatalf("folders (-want +got):\n%s", diff)
		}
		d, err := h.Mailboxes.Open(t.Context(), posttest.Identity(ala), true)
		must(t, err)
		defer d.Close()
		in, _, err := d.Read(t.Context(), 0)
		must(t, err)
		defer in.Close()
		b, err := io.ReadAll(in)
		must(t, err)
		for _, want := range []string{"Return-Path: <>\r\n", "In-Reply-To: <m@poczta.example>\r\n", "Auto-Submitted: auto-replied\r\n", "\r\n\r\nTwój list do spam@poczta.example"} {
			if !strings.Contains(string(b), want) {
				t.Errorf("the note lacks %q:\n%s", want, b)
			}
		}
	})
}

func TestBounds(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		parts := make([]string, training.MaxMessages+3)
		for i := range parts {
			parts[i] = attach(fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i))
		}
		parts[0] = attach("Subject: large\r\n\r\n" + strings.Repeat("0123456789abcde\n", training.MaxOctets/16+10))
		res, err := h.take(t, true, parts...)
		if diff := cmp.Diff(training.Result{Messages: 53, Learned: 50, Skipped: 3}, res); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
}

func TestLearnerFails(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.teacher.fail = errors.New("no")
		if res, err := h.take(t, true, attach("Subject: s\r\n\r\nx\r\n")); !errors.Is(err, h.teacher.fail) || res.Learned != 0 {
			t.Errorf("%+v, %v", res, err)
		}
		if len(h.folders(t)) != 0 {
			t.Error("a note came though the fault is ours")
		}
		if _, err := h.Take(t.Context(), training.Message{}); err == nil {
			t.Error("a mail of nobody is no error")
		}
	})
}

func TestFor(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		for local, want := range map[string][2]bool{"spam": {true, true}, "SPAM": {true, true}, "ham": {false, true}, "spam+x": {}, "ala": {}, "-": {}} {
			if spam, ok := h.For(posttest.Address(t, local+"@poczta.example")); spam != want[0] || ok != want[1] {
				t.Errorf("%s: %v, %v", local, spam, ok)
			}
		}
	})
}
