package lab_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/smtpclient"
)

// plainLines open sessions with a server that takes the client's mail without a login; with deaf
// the reply to the first message gets lost.
type plainLines struct {
	from *host
	to   string
	deaf bool
}

func (l *plainLines) SMTP(ctx context.Context, _ profile.Account) (*smtpclient.Session, error) {
	conn, err := l.from.dial(l.to, 25)
	if err != nil {
		return nil, err
	}
	if l.deaf {
		l.deaf = false
		conn = &deaf{Conn: conn}
	}
	return smtpclient.Open(ctx, conn, smtpclient.Config{Hello: "client.test"})
}

// deaf loses the reply to a message, after the server has given it.
type deaf struct {
	net.Conn
	sent bool
}

// Write implements net.Conn.
func (d *deaf) Write(p []byte) (int, error) {
	n, err := d.Conn.Write(p)
	d.sent = d.sent || bytes.HasSuffix(p, []byte("\r\n.\r\n")) || bytes.Contains(p, []byte(" LAST\r\n"))
	return n, err
}

// Read implements net.Conn.
func (d *deaf) Read(p []byte) (int, error) {
	n, err := d.Conn.Read(p)
	if d.sent && n > 0 {
		_ = d.Conn.Close()
		return 0, io.EOF
	}
	return n, err
}

// personOutbox is a person's outbox whose letters go by a server.
func personOutbox(t *testing.T, l outbox.Lines) (*outbox.Outbox, profile.Account) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Folder: t.TempDir(), Components: []db.Component{profile.Schema, outbox.Schema}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	a := profile.Account{Address: "jan@client.test", Name: "Jan Żółw", Policy: profile.Policy{Keep: profile.Leave}}
	a.Incoming.Server = clientconfig.Server{Protocol: clientconfig.POP3, Host: "mx.client.test", Port: 995, Security: clientconfig.TLS}
	a.Outgoing.Server = clientconfig.Server{Protocol: clientconfig.SMTP, Host: "mx.client.test", Port: 465, Security: clientconfig.TLS}
	p := profile.New(s.DB())
	if a, err = p.Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	o, err := outbox.New(outbox.Config{Store: s, Lines: l, Accounts: p})
	if err != nil {
		t.Fatal(err)
	}
	return o, a
}

// outbox: a person's letters by Postfix: one for two, of whom it refuses one, and one whose reply
// gets lost, which is for the person to decide.
func (w *world) outbox(t *testing.T) {
	l := &plainLines{from: w.client, to: w.postfix.addr}
	o, a := personOutbox(t, l)
	put := func(token string, to ...string) outbox.ID {
		d := compose.New(a)
		for _, addr := range to {
			d.To = append(d.To, store.Address{Name: "Kasia, Żaba", Address: addr})
		}
		d.Subject, d.Text = "Zażółć "+token, "Gęślą jaźń "+token+"\n."
		d.Attachments = []compose.Attachment{{Name: "żółw.bin", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("\x00\xff")), nil }}}
		var b bytes.Buffer
		if err := compose.Write(&b, &d, a.Created, "<"+token+"@client.test>"); err != nil {
			t.Fatal(err)
		}
		id, err := o.Put(t.Context(), outbox.Letter{Account: a.ID, Recipients: d.Recipients(), Message: &b, Notify: envelope.NotifyFailure})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	id := put("outbox-partly", "kasia@postfix.test", "nobody@postfix.test")
	if err := o.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	it, err := o.Item(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, r := range it.Recipients {
		states = append(states, r.Address+" "+string(r.State)+" "+r.Status)
	}
	if diff := cmp.Diff([]string{"kasia@postfix.test sent 2.0.0", "nobody@postfix.test refused 5.1.1"}, states); diff != "" {
		t.Errorf("(-want +got):\n%s\n%+v", diff, it)
	}
	wants(t, "letter", find(t, w.postfix, "kasia", "outbox-partly"), "Return-Path: <jan@client.test>", "filename*=utf-8''%C5%BC%C3%B3%C5%82w.bin", "Message-ID: <outbox-partly@client.test>")
	l.deaf = true
	id = put("outbox-lost", "kasia@postfix.test")
	for range 3 {
		_ = o.Flush(t.Context()) // says that the reply was lost
	}
	if it, err = o.Item(t.Context(), id); err != nil || it.State != outbox.Perhaps {
		t.Fatalf("%+v (%v)", it, err)
	}
	find(t, w.postfix, "kasia", "outbox-lost")
	if err := o.Decide(t.Context(), id, outbox.Done); err != nil {
		t.Fatal(err)
	}
	if err := o.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := copiesOf(t, w.postfix, "kasia", "<outbox-lost@client.test>"); n != 1 {
		t.Errorf("%d copies of a letter whose reply was lost", n)
	}
}

// copiesOf counts the files of a Maildir that hold the token.
func copiesOf(t *testing.T, h *host, local, token string) (n int) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(h.dir, "mail", local, "new/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), token) {
			n++
		}
	}
	return n
}
