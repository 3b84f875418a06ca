package e2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailtest/peer"
)

// digestOf is what a digest offers: what it lists, links to pages, and subjects by which a mail releases.
type digestOf struct {
	text  string
	pages []string
	verbs []string
}

var (
	pageLink = regexp.MustCompile(`https://\S+/quarantine/[0-9a-v]+`)
	mailLink = regexp.MustCompile(`mailto:release@mx\.example\.org\?subject=(release%20[0-9a-v]+)`)
)

// readDigest reads the first form of a digest, as Go's own packages do.
func readDigest(t *testing.T, text string) (d digestOf) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	part, err := multipart.NewReader(m.Body, params["boundary"]).NextPart()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(part)
	if err != nil {
		t.Fatal(err)
	}
	d.text, d.pages = string(plain), pageLink.FindAllString(string(plain), -1)
	for _, v := range mailLink.FindAllStringSubmatch(d.text, -1) {
		verb, err := url.PathUnescape(v[1])
		if err != nil {
			t.Fatal(err)
		}
		d.verbs = append(d.verbs, verb)
	}
	return d
}

// page asks for a page of the digest and returns its status and text.
func (s *server) page(method, link, form string) (int, string) {
	s.t.Helper()
	q, err := http.NewRequestWithContext(s.t.Context(), method, link, strings.NewReader(form))
	if err != nil {
		s.t.Fatal(err)
	}
	if form != "" {
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the server's own certificate
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.addr(443))
		}}}
	r, err := client.Do(q)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// subjects are the Subjects of an account's INBOX, in order.
func (s *server) subjects(account string) (all []string) {
	s.t.Helper()
	for _, text := range s.texts(account) {
		m, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, m.Header.Get("Subject"))
	}
	return all
}

// apart is what is set apart from an account, or on hold, as its ids by kind.
func (s *server) apart(args ...string) map[string][]string {
	s.t.Helper()
	all := map[string][]string{}
	for _, row := range s.list(append([]string{"quarantine", "list"}, args...)...) {
		kind := row["kind"].(string)
		all[kind] = append(all[kind], row["id"].(string))
	}
	return all
}

// elapse makes all that was set apart so much older; the server is stopped for it.
func (s *server) elapse(query string, by time.Duration) {
	s.t.Helper()
	s.stop()
	d := s.open()
	if err := d.Update(context.Background(), func(tx db.Tx) error { _, err := tx.Exec(query, by.Microseconds()); return err }); err != nil {
		s.t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.start()
}

// past waits for some minutes when the day is too young, so that a daily task is due.
func past(t *testing.T, minutes int, at *time.Location) {
	t.Helper()
	now := time.Now().In(at)
	begins := time.Date(now.Year(), now.Month(), now.Day(), 0, minutes, 0, 0, at)
	if wait := begins.Sub(now); wait > 0 {
		t.Logf("the day is young: waiting %s", wait)
		<-time.After(wait)
	}
}

// TestDigest is the day of somebody who reads by POP3: what was set apart is told once, a link only
// shows it however often it is opened, a POST releases, so does a mail from their own account, and
// what is dangerous only an operator releases.
func TestDigest(t *testing.T) {
	t.Parallel()
	past(t, 2, time.Local)
	n := newNames(t, far()...)
	s := setup(t, append(scored(n), "[mta_sts]\nmode = \"testing\"", "[quarantine]\ndigest_at = \"1m\"")...)
	s.run(password+"\n", "account", "add", ola)
	s.run("", "spam", "block", "jan@far.test", "--account", ala)
	s.start()
	for _, subject := range []string{"one", "two", "three"} {
		s.incoming(written("jan@far.test", ala, subject, "Hello."), "250")
	}
	program := "MIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=invoice.pdf.exe\r\nContent-Transfer-Encoding: base64\r\n\r\nTVqQAAMAAAAEAAAA//8AALgAAAAA"
	danger := strings.Replace(written("eve@far.test", ala, "danger", program), "\r\n\r\nMIME", "\r\nMIME", 1)
	s.outsider("192.0.2.10", "mx.far.test").data("eve@far.test", ala, danger, "250")
	if got := s.subjects(ala); len(got) != 0 || len(s.apart()["quarantine"]) != 4 {
		t.Fatalf("the INBOX has %q, set apart is %v", got, s.apart())
	}
	s.elapse(`UPDATE set_apart SET noted = noted - ?`, 20*time.Minute)
	s.await("the digest is there", 10*time.Second, func() bool { return s.letters(ala) == 5 })
	d := readDigest(t, s.texts(ala)[0])
	if len(d.pages) != 5 || len(d.verbs) != 3 { // one more page ends digests; what is dangerous has no verb
		t.Fatalf("the digest has pages %q and verbs %q:\n%s", d.pages, d.verbs, d.text)
	}
	s.opensAndReleases(d)
	s.answers(d)
	if got := s.subjects(ala); !slices.Equal(got[1:], []string{"one", "two"}) {
		t.Errorf("the INBOX has %q, want the two that were released behind the digest", got)
	}
	s.figure(`poczta_set_apart_total{kind="quarantine",step="released"}`, 2)
	s.figure(`poczta_set_apart_total{kind="",step="told"}`, 4)
	s.elapse(`UPDATE set_apart SET noted = noted - ?`, time.Hour)
	if got := s.subjects(ala); len(got) != 3 {
		t.Errorf("the INBOX has %q: a second digest came on the same day", got)
	}
	if got := s.figures()[`poczta_set_apart_total{kind="",step="told"}`]; got != 0 {
		t.Errorf("%v messages were told of again", got)
	}
}

// opensAndReleases opens links as scanners do, and then presses the button of the first message.
func (s *server) opensAndReleases(d digestOf) {
	s.t.Helper()
	first := slices.IndexFunc(d.pages, func(link string) bool {
		_, text := s.page("GET", link, "")
		return strings.Contains(text, "<dd>one</dd>")
	})
	danger := slices.IndexFunc(d.pages, func(link string) bool {
		_, text := s.page("GET", link, "")
		return strings.Contains(text, "<dd>danger</dd>")
	})
	if first < 0 || danger < 0 {
		s.t.Fatalf("no page shows the messages: %q", d.pages)
	}
	for range 3 {
		for _, method := range []string{"GET", "HEAD", "PUT"} {
			for _, link := range d.pages {
				want := map[string]int{"GET": 200, "HEAD": 200, "PUT": 405}[method]
				if status, _ := s.page(method, link, ""); status != want {
					s.t.Errorf("%s %s: status %d, want %d", method, link, status, want)
				}
			}
		}
	}
	if got := s.apart()["quarantine"]; len(got) != 4 {
		s.t.Errorf("opening links has changed what is set apart: %v", got)
	}
	if status, _ := s.page("POST", d.pages[danger], "do=release"); status != 403 {
		s.t.Errorf("releasing what is dangerous: status %d", status)
	}
	wrong := d.pages[first][:len(d.pages[first])-4] + "0000"
	if status, _ := s.page("POST", wrong, "do=release"); status != 404 {
		s.t.Errorf("a wrong token: status %d", status)
	}
	if status, text := s.page("POST", d.pages[first], "do=release"); status != 200 || !strings.Contains(text, `role="status"`) {
		s.t.Errorf("releasing: status %d, %s", status, text)
	}
	if status, _ := s.page("POST", d.pages[first], "do=release"); status != 404 {
		s.t.Errorf("releasing twice: status %d", status)
	}
}

// answers releases the second message by mail; others who know the words can't.
func (s *server) answers(d digestOf) {
	s.t.Helper()
	const office = "release@mx." + domain
	second := ""
	for _, verb := range d.verbs { // in the order of the digest
		if at := strings.Index(d.text, strings.ReplaceAll(verb, " ", "%20")); strings.LastIndex(d.text[:at], ". two\r\n") > max(strings.LastIndex(d.text[:at], ". one\r\n"), strings.LastIndex(d.text[:at], ". three\r\n")) {
			second = verb
		}
	}
	if second == "" {
		s.t.Fatalf("no verb releases the second message:\n%s", d.text)
	}
	before := len(s.apart()["quarantine"])
	s.outsider("192.0.2.10", "mx.far.test").data("jan@far.test", office, written("jan@far.test", office, second, ""), "550")
	s.outsider("192.0.2.10", "mx.far.test").data("jan@far.test", office, written(ala, office, second, ""), "550")
	s.submitAs(ola, password, office, written(ola, office, second, ""), "550")
	s.submitAs(ala, password, office, written(ala, office, "Thank you", ""), "550")
	s.submitAs(ala, password, office, written(ala, office, second[:len(second)-4]+"0000", ""), "550")
	if got := s.apart()["quarantine"]; len(got) != before {
		s.t.Errorf("somebody else has released a message: %v are left of %d", got, before)
	}
	s.submitAs(ala, password, office, written(ala, office, "Re: "+second, "> Mail that was set apart"), "250")
	s.await("the mail has released the second message", 10*time.Second, func() bool { return len(s.apart()["quarantine"]) == before-1 })
}

// submitAs submits one message in a session of an account.
func (s *server) submitAs(login, secret, to, text, prefix string) {
	s.t.Helper()
	c := dial(s.t, s.addr(587))
	c.expect("220")
	c.say("EHLO client.test", "250")
	c.say("AUTH PLAIN "+plain(login, secret), "235")
	c.data(login, to, text, prefix)
	c.say("QUIT", "221")
}

// attached is a mail with another as its attachment, as "Forward as attachment" makes it.
func attached(from, to, message string) string {
	return "From: " + from + "\r\nTo: " + to + "\r\nSubject: Fwd\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nsee there\r\n--b\r\nContent-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n" + message + "\r\n--b--\r\n"
}

// TestTrainingByMail forwards a letter as attachment to spam@ and back to ham@: it teaches, and the
// letter itself moves. Strangers have no such address, and a mail without attachment is answered.
func TestTrainingByMail(t *testing.T) {
	t.Parallel()
	n := newNames(t, far()...)
	s := setup(t, scored(n)...)
	s.start()
	s.incoming(written("jan@far.test", ala, "watches", "Buy cheap watches now."), "250")
	s.incoming(written("jan@far.test", ala, "dinner", "Shall we meet at eight?"), "250")
	letter := s.texts(ala)[0]
	stats := func() (spam, ham float64) {
		row := s.list("spam", "stats", "--account", ala)[0]
		return row["spam"].(float64), row["ham"].(float64)
	}
	s.submitAs(ala, password, "spam@"+domain, attached(ala, "spam@"+domain, letter), "250")
	s.await("the letter is in Junk", 10*time.Second, func() bool { return len(s.apart("--account", ala)["junk"]) == 1 })
	if spam, ham := stats(); spam != 1 || ham != 0 {
		t.Errorf("after spam@ %v spam and %v ham are known, want 1 and 0", spam, ham)
	}
	if got := s.subjects(ala); !slices.Equal(got, []string{"dinner"}) {
		t.Errorf("the INBOX has %q", got)
	}
	s.submitAs(ala, password, "ham@"+domain, attached(ala, "ham@"+domain, letter), "250")
	s.await("the letter is back in the INBOX", 10*time.Second, func() bool { return len(s.apart("--account", ala)) == 0 })
	if spam, ham := stats(); spam != 0 || ham != 1 {
		t.Errorf("after ham@ %v spam and %v ham are known, want 0 and 1", spam, ham)
	}
	if got := s.subjects(ala); !slices.Equal(got, []string{"dinner", "watches"}) {
		t.Errorf("the INBOX has %q", got)
	}
	s.submitAs(ala, password, "spam@"+domain, written(ala, "spam@"+domain, "Fwd: watches", letter), "250")
	s.await("a note says that nothing was learned", 10*time.Second, func() bool { return slices.Contains(s.subjects(ala), "Nothing was learned") })
	c := s.outsider("192.0.2.10", "mx.far.test")
	c.say("MAIL FROM:<jan@far.test>", "250")
	c.say("RCPT TO:<spam@"+domain+">", "550")
	s.figure(`poczta_set_apart_total{kind="",step="taught as spam"}`, 1)
	s.figure(`poczta_set_apart_total{kind="",step="taught as ham"}`, 1)
}

// TestOperatorReleases sets mail apart for somebody who forwards elsewhere: one copy lies in the
// folder, one is on hold in the queue. An operator sees both, lets both go, and deletes both.
func TestOperatorReleases(t *testing.T) {
	t.Parallel()
	n := newNames(t, far()...)
	p := peer.Start(t, peer.Config{})
	s := setup(t, append(scored(n), hub(p.Listen(t)), "[attachments]\nforbidden = [\"exe\"]")...)
	s.run(password+"\n", "account", "add", ola)
	s.run("", "account", "forward", ola, "copy@far.test")
	s.start()
	send := func(subject string) string {
		program := "MIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=tool.exe\r\nContent-Transfer-Encoding: base64\r\n\r\nTVqQAAMAAAAEAAAA//8AALgAAAAA"
		text := strings.Replace(written("jan@far.test", ola, subject, program), "\r\n\r\nMIME", "\r\nMIME", 1)
		reply := s.outsider("192.0.2.10", "mx.far.test").data("jan@far.test", ola, text, "250")
		return acceptedAs.FindStringSubmatch(reply)[1]
	}
	first, second := send("first"), send("second")
	for _, kind := range []string{"quarantine", "queue"} {
		if got := s.apart("--kind", kind)[kind]; len(got) != 2 || !slices.Contains(got, first) || !slices.Contains(got, second) {
			t.Errorf("of kind %s are %q, want %s and %s", kind, got, first, second)
		}
	}
	shown := s.run("", "quarantine", "show", first)
	for _, want := range []string{"attachment_forbidden", "copy@far.test", ola} {
		if !strings.Contains(shown, want) {
			t.Errorf("quarantine show lacks %q:\n%s", want, shown)
		}
	}
	if got := s.run("", "quarantine", "show", first, "--message"); !strings.Contains(got, "Subject: first\r\n") {
		t.Errorf("quarantine show --message says %q", got)
	}
	s.run("", "quarantine", "release", first)
	s.await("the held copy has left", 10*time.Second, func() bool { return copies(p)[peer.Copy{MessageID: "first@x.test", Rcpt: "copy@far.test"}] == 1 })
	if got := s.subjects(ola); !slices.Equal(got, []string{"first"}) {
		t.Errorf("ola's INBOX has %q", got)
	}
	s.run("", "quarantine", "delete", second, "--spam", "--yes")
	if got := s.apart(); len(got) != 0 {
		t.Errorf("still set apart: %v", got)
	}
	s.idle(10 * time.Second)
	if got := copies(p); len(got) != 1 {
		t.Errorf("the other host got %v", got)
	}
	if got := s.list("mailbox", "deleted", ola); len(got) != 1 {
		t.Errorf("%d messages can be restored, want the one that was deleted", len(got))
	}
	s.figure(`poczta_set_apart_total{kind="quarantine",step="noted"}`, 2)
	s.figure(`poczta_set_apart_total{kind="queue",step="released"}`, 1)
	s.figure(`poczta_set_apart_total{kind="queue",step="deleted"}`, 1)
}

// TestStolenPassword sends to many strangers as a thief does: some get it, the rest is on hold, the
// account's mail here goes on, and the operator sees why, changes the password and lets go.
func TestStolenPassword(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{})
	s := setup(t, plaintext, unlimited, hub(p.Listen(t)), "[conduct]\nnew_recipients = 5", "[tls_reports]\nsend = false", "[dmarc_reports]\nsend = false")
	s.run(password+"\n", "account", "add", ola)
	s.start()
	c := s.submits()
	for i := range 12 {
		to := fmt.Sprintf("victim%d@far.test", i)
		c.data(ala, to, written(ala, to, fmt.Sprint("offer", i), "Buy."), "250")
	}
	c.data(ala, ola, written(ala, ola, "hello", "Here."), "250")
	const held, through = 7, 5
	s.await("five have left", 20*time.Second, func() bool { return len(p.Messages()) == through })
	if got := s.apart("--kind", "queue")["queue"]; len(got) != held {
		t.Errorf("on hold are %q, want %d", got, held)
	}
	if got := s.subjects(ola); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("ola's INBOX has %q", got)
	}
	rows := s.list("account", "conduct")
	if len(rows) != 1 || rows[0]["account"] != ala || rows[0]["rule"] != "new_recipients" || rows[0]["action"] != "hold" {
		t.Errorf("account conduct says %v", rows)
	}
	if got := s.run("", "account", "conduct", ala); !strings.Contains(got, "hold since") || !strings.Contains(got, "--release") {
		t.Errorf("account conduct says %q", got)
	}
	if got := s.run("", "queue", "list"); !strings.Contains(got, "sends unlike itself") && !strings.Contains(s.run("", "quarantine", "list"), "sends unlike itself") {
		t.Errorf("the queue does not say why: %q", got)
	}
	s.figure(`poczta_conduct_trips_total{action="hold",rule="new_recipients"}`, 1)
	s.run("Another Horse 8\n", "account", "password", ala)
	thief := dial(t, s.addr(587))
	thief.expect("220")
	thief.say("EHLO client.test", "250")
	thief.say("AUTH PLAIN "+plain(ala, password), "535")
	s.run("", "account", "conduct", ala, "--release")
	if rows := s.list("account", "conduct"); len(rows) != 0 {
		t.Errorf("after the release account conduct says %v", rows)
	}
	s.run("", "queue", "release", "--from", ala)
	s.submitAs(ala, "Another Horse 8", "victim99@far.test", written(ala, "victim99@far.test", "sorry", "That was not me."), "250")
	s.idle(20 * time.Second)
	if got := len(p.Messages()); got != through+held+1 {
		t.Errorf("%d messages have left in the end, want %d", got, through+held+1)
	}
}
