package dsn_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

var update = flag.Bool("update", false, "rewrite golden files")

func path(t *testing.T, s string) address.ForwardPath {
	t.Helper()
	p, err := address.ParseForwardPath(s, true)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// base is a report without recipients.
func base(t *testing.T) dsn.Report {
	t.Helper()
	id, err := message.NewID(time.UnixMilli(1795404909000), strings.NewReader("0123456789"))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 3, 35, 9, 0, time.UTC)
	return dsn.Report{
		ID: id, ReportingMTA: path(t, "<x@mx.example.org>").Address().Domain(), To: path(t, "<ola@example.net>").Address(),
		Now: at, Arrival: at.Add(-time.Minute),
		Header: []byte("From: Ola <ola@example.net>\r\nSubject: Hello\r\nMessage-ID: <1@example.net>\r\n"),
	}
}

// reports are the golden cases by file name.
func reports(t *testing.T) map[string]dsn.Report {
	t.Helper()
	all := map[string]dsn.Report{}

	r := base(t)
	r.EnvelopeID = "QQ314159"
	r.Recipients = []dsn.Recipient{
		{Final: path(t, "<ala@example.org>"), Original: envelope.OriginalRecipient{Type: "rfc822", Address: "Ala@example.org"}, Action: dsn.Delivered, Status: dsn.Status{Class: 2}},
		{Final: path(t, "<list@example.org>"), Action: dsn.Expanded, Status: dsn.Status{Class: 2}},
		{Final: path(t, "<jan@example.com>"), Action: dsn.Relayed, Status: dsn.Status{Class: 2}, RemoteMTA: "mx.example.com"},
	}
	all["success.eml"] = r

	r = base(t)
	r.Return = envelope.ReturnFull
	r.Content = strings.NewReader(string(r.Header) + "\r\nThe body.\r\n")
	r.Recipients = []dsn.Recipient{{Final: path(t, "<ala@example.com>"), Action: dsn.Failed, Status: dsn.Status{Class: 5, Subject: 1, Detail: 1},
		RemoteMTA: "mx.example.com", Diagnostic: "550-5.1.1 The email account that you tried to reach does not exist.\r\n550 5.1.1 Please check the address.", Attempted: r.Now}}
	all["failure-full.eml"] = r

	r = base(t)
	r.Language = "pl"
	r.Recipients = []dsn.Recipient{{Final: path(t, "<ala@example.com>"), Action: dsn.Delayed, Status: dsn.Status{Class: 4, Subject: 4, Detail: 1}, Attempted: r.Now, RetryUntil: r.Now.Add(96 * time.Hour)}}
	all["delay-polish.eml"] = r

	r = base(t)
	r.Recipients = []dsn.Recipient{{Final: path(t, "<ala@example.com>"), Action: dsn.Delayed, Status: dsn.Status{Class: 4, Subject: 7, Detail: 1}, Diagnostic: "451 4.7.1 Greylisted", RetryUntil: r.Now.Add(96 * time.Hour)}}
	all["delay-greylisted.eml"] = r

	r = base(t)
	r.Language = "pl"
	r.Header = []byte("From: żółw@żółw.example\r\nSubject: Zażółć\r\n")
	r.To = path(t, "<żółw@żółw.example>").Address()
	r.Recipients = []dsn.Recipient{{Final: path(t, "<gęś@example.com>"), Original: envelope.OriginalRecipient{Type: "utf-8", Address: "gęś@example.com"},
		Action: dsn.Failed, Status: dsn.Status{Class: 5, Subject: 6, Detail: 7}, Diagnostic: "550 5.6.7 Brak obsługi"}}
	all["failure-global.eml"] = r

	r = base(t)
	r.Recipients = []dsn.Recipient{{Final: path(t, "<jan@example.com>"), Action: dsn.Relayed, Status: dsn.Status{Class: 2}, RemoteMTA: "mx.example.com"}}
	all["relayed.eml"] = r
	return all
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, r := range reports(t) {
		var b bytes.Buffer
		if err := r.Write(&b); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), b.String()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestStructure reads the golden cases as another program would.
func TestStructure(t *testing.T) {
	t.Parallel()
	kinds := map[string][3]string{
		"success.eml":          {"text/plain", "message/delivery-status", "text/rfc822-headers"},
		"relayed.eml":          {"text/plain", "message/delivery-status", "text/rfc822-headers"},
		"failure-full.eml":     {"text/plain", "message/delivery-status", "message/rfc822"},
		"delay-polish.eml":     {"text/plain", "message/delivery-status", "text/rfc822-headers"},
		"delay-greylisted.eml": {"text/plain", "message/delivery-status", "text/rfc822-headers"},
		"failure-global.eml":   {"text/plain", "message/global-delivery-status", "message/global-headers"},
	}
	for name, r := range reports(t) {
		var b bytes.Buffer
		if err := r.Write(&b); err != nil {
			t.Fatal(err)
		}
		m, err := mail.ReadMessage(&b)
		if err != nil {
			t.Fatal(err)
		}
		kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
		if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
			t.Fatalf("%s: %s, %v, %v", name, kind, params, err)
		}
		if m.Header.Get("Auto-Submitted") != "auto-replied" {
			t.Errorf("%s: Auto-Submitted is %q", name, m.Header.Get("Auto-Submitted"))
		}
		parts := multipart.NewReader(m.Body, params["boundary"])
		for i := range 3 {
			p, err := parts.NextRawPart()
			if err != nil {
				t.Fatalf("%s: part %d: %v", name, i, err)
			}
			if got, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type")); got != kinds[name][i] {
				t.Errorf("%s: part %d is %s, want %s", name, i, got, kinds[name][i])
			}
			if i == 1 {
				checkStatus(t, name, p, len(r.Recipients))
			} else if _, err := io.Copy(io.Discard, p); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := parts.NextRawPart(); err != io.EOF {
			t.Errorf("%s: a fourth part, %v", name, err)
		}
	}
}

// checkStatus reads message/delivery-status: a block for the message, one for each recipient.
func checkStatus(t *testing.T, name string, p io.Reader, recipients int) {
	t.Helper()
	tp := textproto.NewReader(bufio.NewReader(p))
	perMessage, err := tp.ReadMIMEHeader()
	if err != nil || perMessage.Get("Reporting-MTA") != "dns; mx.example.org" {
		t.Errorf("%s: per-message fields %v, %v", name, perMessage, err)
	}
	n := 0
	for {
		h, err := tp.ReadMIMEHeader()
		if len(h) > 0 {
			n++
			for _, must := range []string{"Final-Recipient", "Action", "Status"} {
				if h.Get(must) == "" {
					t.Errorf("%s: recipient %d has no %s", name, n, must)
				}
			}
		}
		if err != nil || len(h) == 0 {
			break
		}
	}
	if n != recipients {
		t.Errorf("%s: %d recipients, want %d", name, n, recipients)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	r := base(t)
	if err := r.Write(io.Discard); !errors.Is(err, dsn.ErrEmpty) {
		t.Errorf("without recipients: %v", err)
	}
	r.Return, r.Content = envelope.ReturnFull, iotest.ErrReader(io.ErrUnexpectedEOF)
	r.Recipients = []dsn.Recipient{{Final: path(t, "<a@b.example>"), Action: dsn.Failed, Status: dsn.Status{Class: 5}}}
	if err := r.Write(io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("content that can't be read: %v", err)
	}
}

// FuzzReport holds that nothing from outside leaves its line or its part.
func FuzzReport(f *testing.F) {
	f.Add("550 no", "ENV", "x@y", "mx.example", "Subject: a\r\n")
	f.Add("550\r\nX: y\r\n\r\n--b", "a\r\nb", "ż\x00", "m\nx", "Subject: =?utf-8?q?=0D=0A--?=\r\n")
	f.Fuzz(func(t *testing.T, diagnostic, envid, orcpt, remote, header string) {
		r := base(t)
		h, _, _ := message.SplitHeader([]byte(header))
		r.Header, r.EnvelopeID = h, envid
		r.Recipients = []dsn.Recipient{{Final: path(t, "<a@b.example>"), Original: envelope.OriginalRecipient{Type: "rfc822", Address: orcpt},
			Action: dsn.Failed, Status: dsn.Status{Class: 5}, RemoteMTA: remote, Diagnostic: diagnostic}}
		var b bytes.Buffer
		if err := r.Write(&b); err != nil {
			t.Fatal(err)
		}
		m, err := mail.ReadMessage(&b)
		if err != nil {
			t.Fatalf("%v in %q", err, b.String())
		}
		_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		parts := multipart.NewReader(m.Body, params["boundary"])
		for i := range 3 {
			p, err := parts.NextRawPart()
			if err != nil {
				t.Fatalf("part %d: %v", i, err)
			}
			body, err := io.ReadAll(p)
			if err != nil {
				t.Fatal(err)
			}
			if i == 1 && bytes.Count(body, []byte("\r\n\r\n")) > 1 {
				t.Fatalf("status part %q", body)
			}
		}
	})
}
