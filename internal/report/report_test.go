package report_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/report"
)

func newReporter(t *testing.T, change ...func(*report.Config)) (*report.Reporter, *intaketest.Accepter) {
	t.Helper()
	accepter := &intaketest.Accepter{}
	router := &intaketest.Router{
		Domains: []string{"example.org"},
		Routes: map[string]account.Route{
			"ala@example.org":  {Match: account.MatchAddress, Locals: []account.Local{{Account: 1, Login: "ala", Address: intaketest.Addr(t, "ala@example.org"), Language: "pl"}}},
			"both@example.org": {Match: account.MatchAlias, Locals: []account.Local{{Account: 1, Login: "ala", Address: intaketest.Addr(t, "ala@example.org")}}, Remotes: []address.Address{intaketest.Addr(t, "far@example.com")}},
		},
		Errs: map[string]error{"db@example.org": errors.New("database is away")},
	}
	c := report.Config{
		Hostname: intaketest.Addr(t, "x@mx.example.org").Domain(), Accepter: accepter, Router: router,
		Now: func() time.Time { return time.Date(2026, 11, 23, 3, 35, 9, 0, time.UTC) },
	}
	for _, f := range change {
		f(&c)
	}
	r, err := report.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r, accepter
}

func original(t *testing.T, from string) report.Original {
	t.Helper()
	return report.Original{Envelope: envelope.Envelope{ReversePath: intaketest.From(t, from), Return: envelope.ReturnFull}, Header: []byte("Subject: x\r\n"), Content: strings.NewReader("Subject: x\r\n\r\nwhole\r\n")}
}

func failed(t *testing.T) []dsn.Recipient {
	t.Helper()
	return []dsn.Recipient{{Final: intaketest.To(t, "gone@example.com"), Action: dsn.Failed, Status: dsn.Status{Class: 5, Subject: 1, Detail: 1}}}
}

func TestSend(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, from      string
		locals, remotes int
		text            string // "" when nobody is told
	}{
		{"elsewhere", "jan@example.net", 0, 1, "could not be delivered"},
		{"here, in the account's language", "ala@example.org", 1, 0, "nie uda=C5=82o"},
		{"alias", "both@example.org", 1, 1, "could not be delivered"},
		{"null reverse-path", "", 0, 0, ""},
		{"nobody here", "gone@example.org", 0, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, accepter := newReporter(t)
			if err := r.Send(t.Context(), original(t, tt.from), failed(t)); err != nil {
				t.Fatal(err)
			}
			if accepter.Leaked() != 0 {
				t.Error("a staged report is left")
			}
			if tt.text == "" {
				if n := len(accepter.Accepted()); n != 0 {
					t.Errorf("%d reports", n)
				}
				return
			}
			d := accepter.Accepted()[0]
			if len(d.Locals) != tt.locals || len(d.Remotes) != tt.remotes || !d.Envelope.ReversePath.IsNull() {
				t.Errorf("locals %v, remotes %v, from %v", d.Locals, d.Remotes, d.Envelope.ReversePath)
			}
			for _, must := range []string{tt.text, "whole\r\n", "gone@example.com", "Auto-Submitted: auto-replied"} {
				if !strings.Contains(d.Text, must) {
					t.Errorf("the report lacks %q: %s", must, d.Text)
				}
			}
			if d.MessageID == "" || !strings.Contains(d.Text, d.MessageID) {
				t.Errorf("Message-ID %q is not in the report", d.MessageID)
			}
			if tt.locals > 0 && !strings.HasPrefix(string(d.Locals[0].Prefix), "Return-Path: <>\r\n") {
				t.Errorf("prefix %q", d.Locals[0].Prefix)
			}
		})
	}
}

func TestSendFails(t *testing.T) {
	t.Parallel()
	r, accepter := newReporter(t)
	if err := r.Send(t.Context(), original(t, "db@example.org"), failed(t)); err == nil {
		t.Error("a route that can't be read is no error")
	}
	for _, c := range []struct{ stage, write, accept error }{{stage: body.ErrBudget}, {write: body.ErrFull}, {accept: body.ErrFailed}} {
		accepter.StageErr, accepter.WriteErr, accepter.AcceptErr = c.stage, c.write, c.accept
		want := errors.Join(c.stage, c.write, c.accept)
		if err := r.Send(t.Context(), original(t, "jan@example.net"), failed(t)); err == nil || !errors.Is(want, errors.Unwrap(err)) && !strings.Contains(err.Error(), want.Error()) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if len(accepter.Accepted()) != 0 || accepter.Leaked() != 0 {
		t.Errorf("%d accepted, %d left", len(accepter.Accepted()), accepter.Leaked())
	}
	if _, err := report.New(report.Config{}); err == nil || !strings.Contains(err.Error(), "Hostname") || !strings.Contains(err.Error(), "Router") {
		t.Errorf("got %v", err)
	}
}
