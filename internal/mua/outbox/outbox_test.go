package outbox_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/resolver"
)

func TestSent(t *testing.T) {
	t.Parallel()
	h := newHouse(t, peer.Config{}, nil)
	orig := mailbox.Import{Mailbox: store.Inbox, Received: h.clock.Now()}
	staged, err := h.store.Body().Stage(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer staged.Discard()
	if _, err := io.WriteString(staged, "From: ewa@them.example\r\nMessage-ID: <orig@them.example>\r\n\r\nHow are you?\r\n"); err != nil {
		t.Fatal(err)
	}
	orig.Staged = staged
	if _, err := h.store.Add(t.Context(), h.account.ID, []mailbox.Import{orig}, nil); err != nil {
		t.Fatal(err)
	}
	id := h.put(outbox.Letter{Recipients: []string{"ewa@them.example", "EWA@Them.example", "jan@them.example"},
		Message: strings.NewReader("From: ala@peer.example\nTo: ewa@them.example\nBcc: jan@them.example\nIn-Reply-To: <orig@them.example>\nSubject: =?utf-8?q?Za=C5=BC=C3=B3=C5=82=C4=87?=\n\nFine.\n")})
	it := h.must(id, outbox.Waiting)
	if it.Subject != "Zażółć" || it.MessageID == "" || h.summary(id).Folder != outbox.Folder {
		t.Errorf("waiting: %+v in %s", it, h.summary(id).Folder)
	}
	if err := h.flush(); err != nil {
		t.Fatal(err)
	}
	it = h.must(id, outbox.Sent)
	want := []string{it.MessageID + " ewa@them.example ×1", it.MessageID + " jan@them.example ×1"}
	if diff := cmp.Diff(want, h.got()); diff != "" {
		t.Errorf("copies (-want +got):\n%s", diff)
	}
	m := h.peer.Messages()[0]
	if data := string(m.Data); strings.Contains(data, "Bcc") || strings.Contains(data, "jan@") || !strings.Contains(data, "Date: Mon, 23 Nov 2026 12:00:00 +0000\r\n") {
		t.Errorf("what was sent:\n%s", data)
	}
	if s := h.summary(id); s.Folder != store.Sent || s.Flags&mailbox.Seen == 0 {
		t.Errorf("the copy lies in %s with flags %b", s.Folder, s.Flags)
	}
	answered, err := h.store.ByMessageID(t.Context(), "<orig@them.example>")
	if err != nil || len(answered) != 1 || answered[0].Flags&mailbox.Answered == 0 {
		t.Errorf("the original is not marked: %+v %v", answered, err)
	}
	h.put(outbox.Letter{Message: strings.NewReader("From: ala@peer.example\nTo: ewa@them.example\nReferences: <first@them.example>\n <orig@them.example>\nSubject: Fwd: x\n\nSee below.\n")})
	if err := h.flush(); err != nil {
		t.Fatal(err)
	}
	if on, err := h.store.ByMessageID(t.Context(), "<orig@them.example>"); err != nil || len(on) != 1 || on[0].Flags&mailbox.Forwarded == 0 {
		t.Errorf("the original is not marked as passed on: %+v %v", on, err)
	}
	if list, err := h.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("the outbox still lists %v (%v)", list, err)
	}
}

func TestOffline(t *testing.T) {
	t.Parallel()
	h := newHouse(t, peer.Config{}, nil)
	h.offline()
	id := h.put(outbox.Letter{})
	if err := h.flush(); err == nil {
		t.Error("nothing was said of the network")
	}
	it := h.must(id, outbox.Waiting)
	if !strings.Contains(it.Reason, "can't be reached") || !it.Next.After(h.clock.Now()) {
		t.Errorf("while offline: %q, next %v", it.Reason, it.Next)
	}
	h.online()
	if err := h.flush(); err != nil {
		t.Fatal(err)
	}
	h.must(id, outbox.Sent)
}

// TestRunWakes has Run send what waits when the network is another.
func TestRunWakes(t *testing.T) {
	t.Parallel()
	network := make(chan string, 1)
	network <- "none"
	changed := make(chan outbox.ID, 100)
	h := newHouse(t, peer.Config{}, func(c *outbox.Config) {
		c.Network = func() string { s := <-network; network <- s; return s }
		c.Changed = func(id outbox.ID) { changed <- id }
	})
	h.offline()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	id := h.put(outbox.Letter{})
	for h.item(id).Reason == "" {
		h.Wake()
	}
	h.online()
	<-network
	network <- "wlan"
	h.Wake()
	for h.item(id).State != outbox.Sent {
		<-changed
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestLaterAndUndo(t *testing.T) {
	t.Parallel()
	h := newHouse(t, peer.Config{}, nil)
	at := h.put(outbox.Letter{SendAt: h.clock.Now().Add(time.Hour)})
	soon := h.put(outbox.Letter{Wait: 10 * time.Second, Recipients: []string{"ewa@them.example", "blind@them.example"}})
	if err := h.flush(); err != nil || len(h.peer.Messages()) != 0 {
		t.Fatalf("sent too early: %v %v", h.got(), err)
	}
	letter, err := h.Undo(t.Context(), soon)
	if err != nil {
		t.Fatal(err)
	}
	h.must(soon, outbox.Undone)
	s := h.summary(soon)
	if s.ID != letter || s.Folder != store.Drafts || s.Flags&mailbox.Draft == 0 {
		t.Errorf("undone: %+v", s)
	}
	var b strings.Builder
	if err := h.store.Raw(t.Context(), letter, &b); err != nil || !strings.Contains(b.String(), "Bcc: blind@them.example\r\n") || strings.Contains(b.String(), "Bcc: ewa") {
		t.Errorf("the draft lost who was to get it:\n%s%v", b.String(), err)
	}
	h.clock.Advance(time.Hour)
	if err := h.flush(); err != nil {
		t.Fatal(err)
	}
	h.must(at, outbox.Sent)
	if len(h.got()) != 1 {
		t.Errorf("an undone letter was sent: %v", h.got())
	}
	if _, err := h.Undo(t.Context(), at); !errors.Is(err, outbox.ErrLeft) {
		t.Errorf("undo of what is gone: %v", err)
	}
}

// TestTakenOut has a person take a letter out of the folder: it is not sent.
func TestTakenOut(t *testing.T) {
	t.Parallel()
	h := newHouse(t, peer.Config{}, nil)
	id := h.put(outbox.Letter{})
	if _, err := h.store.Remove(t.Context(), []store.LetterID{h.item(id).Letter}); err != nil {
		t.Fatal(err)
	}
	if err := h.flush(); err != nil {
		t.Fatal(err)
	}
	h.must(id, outbox.Undone)
	if len(h.got()) != 0 {
		t.Errorf("sent all the same: %v", h.got())
	}
}

func TestPartlyRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t, peer.Config{Rules: []peer.Rule{
		{Stage: peer.Rcpt, Match: "nobody@", Do: peer.Reply("550 5.1.1 no such user")},
		{Stage: peer.Rcpt, Match: "full@", Times: 1, Do: peer.Reply("452 4.2.2 mailbox full")}}}, nil)
	id := h.put(outbox.Letter{Recipients: []string{"ewa@them.example", "nobody@them.example", "full@them.example"}})
	if err := h.flush(); err != nil {
		t.Fatal(err)
	}
	states := func() (all []string) {
		for _, p := range h.item(id).Recipients {
			all = append(all, p.Address+" "+string(p.State)+" "+p.Status)
		}
		return all
	}
	if diff := cmp.Diff([]string{"ewa@them.example sent 2.0.0", "nobody@them.example refused 5.1.1", "full@them.example waiting 4.2.2"}, states()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	h.clock.Advance(time.Minute)
	if err := h.flush(); err != nil {
		t.Fatal(err)
	}
	h.must(id, outbox.Partly)
	if len(h.got()) != 2 || h.summary(id).Folder != store.Sent {
		t.Errorf("%v, in %s", h.got(), h.summary(id).Folder)
	}
	h.peer.SetRules()
	if err := h.Retry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func TestServerLimits(t *testing.T) {
	t.Parallel()
	t.Run("size", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, peer.Config{Extensions: []string{"SIZE 100"}}, nil)
		id := h.put(outbox.Letter{})
		h.flush()
		it := h.must(id, outbox.Refused)
		if h.peer.Seen(peer.Mail) != 0 || it.Recipients[0].Status != "5.3.4" || h.summary(id).Folder != outbox.Folder {
			t.Errorf("MAIL was said %d times; %+v", h.peer.Seen(peer.Mail), it.Recipients)
		}
		if list, err := h.List(t.Context()); err != nil || len(list) != 1 {
			t.Errorf("not listed: %v %v", list, err)
		}
		if _, err := h.Undo(t.Context(), id); err != nil {
			t.Error(err)
		}
		if list, err := h.List(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("listed: %v %v", list, err)
		}
	})
	t.Run("few recipients", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, peer.Config{Extensions: []string{"PIPELINING", "LIMITS RCPTMAX=2"}}, nil)
		id := h.put(outbox.Letter{Recipients: []string{"a@x.example", "b@x.example", "c@x.example", "d@x.example", "e@x.example"}})
		if err := h.flush(); err != nil {
			t.Fatal(err)
		}
		h.must(id, outbox.Sent)
		if len(h.peer.Messages()) != 3 || len(h.got()) != 5 {
			t.Errorf("%d transactions, %v", len(h.peer.Messages()), h.got())
		}
	})
	t.Run("7 bit", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, peer.Config{Extensions: []string{"PIPELINING"}}, nil)
		id := h.put(outbox.Letter{Message: strings.NewReader("From: ala@peer.example\nSubject: Zażółć\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\ngęślą\n")})
		if err := h.flush(); err != nil {
			t.Fatal(err)
		}
		h.must(id, outbox.Sent)
		if data := string(h.peer.Messages()[0].Data); !strings.Contains(data, "g=C4=99=C5=9Bl=C4=85") || strings.ContainsRune(data, 'ż') {
			t.Errorf("sent:\n%s", data)
		}
	})
	t.Run("no SMTPUTF8", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, peer.Config{Extensions: []string{"PIPELINING"}}, nil)
		id := h.put(outbox.Letter{Recipients: []string{"żółw@them.example"}})
		h.flush()
		if it := h.must(id, outbox.Refused); !strings.Contains(it.Recipients[0].Reply, "SMTPUTF8") {
			t.Errorf("%+v", it.Recipients)
		}
	})
}

func TestDomains(t *testing.T) {
	t.Parallel()
	zone, err := resolver.NewZone("them.example. MX 10 mx.them.example.\nnull.example. MX 0 .\nbare.example. A 192.0.2.1\ntext.example. TXT \"x\"\n!servfail slow.example.\n")
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, peer.Config{}, func(c *outbox.Config) { c.Resolver = zone })
	to := []string{"a@them.example", "b@null.example", "c@bare.example", "d@text.example", "e@slow.example", "f@no.example", "g@peer.example"}
	var bad []string
	for name, tt := range map[string]struct {
		account envelope.AccountID
		want    []string
	}{
		"our own domain is our server's matter": {h.account.ID, []string{"b@null.example", "d@text.example", "f@no.example", "nobody"}},
		"no account":                            {99, []string{"b@null.example", "d@text.example", "f@no.example", "g@peer.example", "nobody"}},
	} {
		bad = nil
		problems, err := h.Check(t.Context(), tt.account, append(to, "nobody"))
		for _, p := range problems {
			bad = append(bad, p.Address)
		}
		if diff := cmp.Diff(tt.want, bad); err != nil || diff != "" {
			t.Errorf("%s: Check: %v (-want +got):\n%s", name, err, diff)
		}
	}
	id := h.put(outbox.Letter{Recipients: to})
	if err := h.flush(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range h.must(id, outbox.Partly).Recipients {
		got = append(got, p.Address+" "+string(p.State))
	}
	want := []string{"a@them.example sent", "b@null.example refused", "c@bare.example sent", "d@text.example refused", "e@slow.example sent", "f@no.example refused", "g@peer.example sent"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := h.Retry(t.Context(), id); err != nil { // the person knows better
		t.Fatal(err)
	}
	if err := h.flush(); err != nil {
		t.Fatal(err)
	}
	h.must(id, outbox.Sent)
}

func TestNotifications(t *testing.T) {
	t.Parallel()
	h := newHouse(t, peer.Config{}, nil)
	id := h.put(outbox.Letter{Notify: envelope.NotifySuccess | envelope.NotifyFailure, Return: envelope.ReturnHeaders, EnvelopeID: "QQ7"})
	if err := h.flush(); err != nil {
		t.Fatal(err)
	}
	m := h.peer.Messages()[0]
	if !strings.Contains(m.Params, "RET=HDRS") || !strings.Contains(m.Params, "ENVID=QQ7") || !strings.Contains(m.Rcpts[0].Params, "NOTIFY=SUCCESS,FAILURE") {
		t.Errorf("MAIL %s RCPT %s", m.Params, m.Rcpts[0].Params)
	}
	bounce := "From: MAILER-DAEMON@them.example\r\nTo: ala@peer.example\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n" +
		"--b\r\n\r\nSorry.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.them.example\r\nOriginal-Envelope-Id: QQ7\r\n\r\n" +
		"Final-Recipient: rfc822; ewa@them.example\r\nAction: failed\r\nStatus: 5.2.1\r\nDiagnostic-Code: smtp; 550 5.2.1 gone\r\n\r\n--b--\r\n"
	staged, err := h.store.Body().Stage(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer staged.Discard()
	if _, err := io.WriteString(staged, bounce); err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.Add(t.Context(), h.account.ID, []mailbox.Import{{Staged: staged, Received: h.clock.Now()}}, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 { // looking twice changes nothing
		fates, err := h.Fates(t.Context(), h.item(id).MessageID)
		if err != nil {
			t.Fatal(err)
		}
		if len(fates) != 1 || fates[0].State != outbox.Sent || len(fates[0].Reports) != 1 || fates[0].Reports[0].Status != "5.2.1" || fates[0].Reports[0].Letter == 0 {
			t.Fatalf("fates: %+v", fates)
		}
	}
}

// TestHeld has a restored outbox send nothing until a person says so.
func TestHeld(t *testing.T) {
	t.Parallel()
	h := newHouse(t, peer.Config{}, nil)
	id := h.put(outbox.Letter{})
	if err := h.Hold(t.Context(), "It was restored."); err != nil {
		t.Fatal(err)
	}
	if err := h.flush(); err != nil || len(h.got()) != 0 {
		t.Fatalf("sent: %v %v", h.got(), err)
	}
	h.must(id, outbox.Held)
	if err := h.Retry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := h.flush(); err != nil {
		t.Fatal(err)
	}
	h.must(id, outbox.Sent)
}

// TestHeldWhileLeaving has the outbox held while a letter is on its way: it has left all the same,
// and is told and filed as what it is.
func TestHeldWhileLeaving(t *testing.T) {
	t.Parallel()
	held := make(chan error, 1)
	h := newHouse(t, peer.Config{}, nil)
	h.peer.SetRules(peer.Rule{Stage: peer.Final, Do: peer.Late(100 * time.Millisecond)})
	id := h.put(outbox.Letter{})
	sent := make(chan error, 1)
	go func() { sent <- h.Flush(t.Context()) }()
	go func() {
		for h.peer.Seen(peer.Final) == 0 && len(sent) == 0 {
			runtime.Gosched()
		}
		held <- h.Hold(t.Context(), "It was restored.")
	}()
	if err := errors.Join(<-held, <-sent); err != nil {
		t.Fatal(err)
	}
	h.must(id, outbox.Sent)
	if s := h.summary(id); s.Folder != store.Sent {
		t.Errorf("it lies in %s", s.Folder)
	}
}

// TestDraftGoes has the draft of a letter disappear when the letter is in the outbox.
func TestDraftGoes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, peer.Config{}, nil)
	undone := h.put(outbox.Letter{})
	draft, err := h.Undo(t.Context(), undone)
	if err != nil {
		t.Fatal(err)
	}
	h.put(outbox.Letter{Draft: draft})
	if at, err := h.store.Standing(t.Context(), draft); err != nil || at != store.Removed {
		t.Errorf("the draft is %v (%v)", at, err)
	}
}

func TestRefusedToPut(t *testing.T) {
	t.Parallel()
	h := newHouse(t, peer.Config{}, nil)
	for name, tt := range map[string]struct {
		l    outbox.Letter
		want error
	}{
		"nobody":       {outbox.Letter{}, outbox.ErrRecipients},
		"no address":   {outbox.Letter{Recipients: []string{"ewa"}}, outbox.ErrAddress},
		"reverse-path": {outbox.Letter{Recipients: []string{"ewa@them.example"}, ReversePath: "x"}, outbox.ErrAddress},
	} {
		tt.l.Account, tt.l.Message = h.account.ID, strings.NewReader(text(1))
		if _, err := h.Put(t.Context(), tt.l); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
