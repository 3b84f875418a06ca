package relay_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/relay"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
)

// short is a verdict in a few words.
func short(v relay.Verdict) string {
	words := []string{map[relay.Fate]string{relay.Delivered: "delivered", relay.PutOff: "put off", relay.Refused: "refused", relay.Withdrawn: "withdrawn"}[v.Fate]}
	for _, w := range []struct {
		on   bool
		word string
	}{{v.Clock == relay.HostClock, "host"}, {v.Next, "next"}, {v.Again, "again"}, {v.Slow, "slow"}, {v.Reputation, "reputation"}, {v.Lost, "lost"}, {v.Ours, "ours"}} {
		if w.on {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, " ")
}

func TestJudge(t *testing.T) {
	t.Parallel()
	const (
		greeting = smtpclient.StageGreeting
		hello    = smtpclient.StageHello
		starttls = smtpclient.StageStartTLS
		auth     = smtpclient.StageAuth
		mail     = smtpclient.StageMail
		rcpt     = smtpclient.StageRcpt
		data     = smtpclient.StageData
		body     = smtpclient.StageBody
		final    = smtpclient.StageFinal
	)
	tests := []struct {
		stage  smtpclient.Stage
		code   int
		status [2]int
		text   string
		others bool
		want   string
	}{
		{greeting, 421, [2]int{}, "busy", false, "put off host next slow"},
		{greeting, 554, [2]int{}, "no SMTP service here", false, "put off host next slow reputation"},
		{greeting, 521, [2]int{}, "no mail here", false, "refused host next slow reputation"},
		{greeting, 450, [2]int{}, "listed at zen.spamhaus.org", false, "put off host next slow reputation"},
		{hello, 550, [2]int{}, "bad name", false, "put off host next slow reputation"},
		{hello, 451, [2]int{}, "later", false, "put off host next slow"},
		{starttls, 454, [2]int{7, 0}, "TLS not available", false, "put off host next"},
		{auth, 535, [2]int{7, 8}, "wrong", false, "put off host"},
		{auth, 454, [2]int{7, 0}, "later", false, "put off host"},
		{mail, 250, [2]int{}, "what", false, "put off"},
		{mail, 421, [2]int{3, 2}, "closing", false, "put off host next slow"},
		{mail, 451, [2]int{3, 0}, "later", false, "put off"},
		{mail, 550, [2]int{7, 1}, "blocked", false, "refused reputation"},
		{mail, 553, [2]int{1, 8}, "bad sender", false, "refused"},
		{mail, 552, [2]int{3, 4}, "too large", false, "refused"},
		{rcpt, 450, [2]int{2, 0}, "greylisted", false, "put off"},
		{rcpt, 421, [2]int{}, "closing", true, "put off host next slow"},
		{rcpt, 452, [2]int{5, 3}, "too many", true, "put off again"},
		{rcpt, 552, [2]int{}, "too many", true, "put off again"},
		{rcpt, 452, [2]int{2, 2}, "full", false, "put off"},
		{rcpt, 552, [2]int{}, "full?", false, "put off"},
		{rcpt, 552, [2]int{2, 2}, "mailbox full", false, "refused"},
		{rcpt, 550, [2]int{1, 1}, "no such user", true, "refused"},
		{rcpt, 554, [2]int{7, 1}, "Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", false, "refused reputation"},
		{rcpt, 550, [2]int{7, 1}, "relaying denied", false, "refused"},
		{data, 451, [2]int{}, "later", false, "put off"},
		{data, 554, [2]int{}, "no", false, "refused"},
		{body, 552, [2]int{3, 4}, "too large", false, "refused"},
		{final, 250, [2]int{}, "queued", false, "delivered"},
		{final, 451, [2]int{3, 0}, "later", false, "put off"},
		{final, 421, [2]int{}, "closing", false, "put off host next slow"},
		{final, 550, [2]int{7, 1}, "spam, see blocklist", false, "refused"},
		{final, 354, [2]int{}, "what", false, "put off"},
	}
	for _, tt := range tests {
		r := smtp.Reply{Code: tt.code, Subject: tt.status[0], Detail: tt.status[1], Text: tt.text}
		v := relay.Judge(tt.stage, r, tt.others)
		if got := short(v); got != tt.want {
			t.Errorf("%s at %s: %s, want %s", r, tt.stage, got, tt.want)
		}
		if d := cmp.Diff(r, v.Reply); d != "" {
			t.Errorf("%s: %s", tt.stage, d)
		}
	}
}

func TestJudgeError(t *testing.T) {
	t.Parallel()
	at := func(stage smtpclient.Stage, err error) error { return &smtpclient.Error{Stage: stage, Err: err} }
	tests := []struct {
		name   string
		err    error
		want   string
		status string
	}{
		{"connect", errors.New("connection refused"), "put off host next slow ours", "451 4.4.1"},
		{"greeting", at(smtpclient.StageGreeting, os.ErrDeadlineExceeded), "put off host next slow ours", "451 4.4.2"},
		{"TLS", at(smtpclient.StageTLS, io.EOF), "put off host next ours", "451 4.7.5"},
		{"RCPT", at(smtpclient.StageRcpt, smtpclient.ErrHangup), "put off host next slow ours", "451 4.4.2"},
		{"mail data", at(smtpclient.StageBody, smtpclient.ErrHangup), "put off slow ours", "451 4.4.2"},
		{"final reply", &smtpclient.Error{Stage: smtpclient.StageFinal, Lost: true, Err: smtpclient.ErrHangup}, "put off slow lost ours", "451 4.4.2"},
		{"lease", &smtpclient.Error{Stage: smtpclient.StageBody, Local: true, Err: relay.ErrLease}, "withdrawn", "0 "},
		{"our disk", &smtpclient.Error{Stage: smtpclient.StageData, Local: true, Err: io.ErrUnexpectedEOF}, "put off ours", "451 4.3.0"},
		{"421 between", &smtpclient.Error{Stage: smtpclient.StageRcpt, Reply: &smtp.Reply{Code: 421}}, "put off host next slow", "421 4.0.0"},
		{"a reply that does not fit", &smtpclient.Error{Stage: smtpclient.StageMail, Reply: &smtp.Reply{Code: 550}, Err: smtpclient.ErrUnsolicited}, "put off host next slow", "550 5.0.0"},
		{"a refusal in mid-data", &smtpclient.Error{Stage: smtpclient.StageBody, Reply: &smtp.Reply{Code: 552}, Err: smtpclient.ErrHangup}, "put off slow", "552 5.0.0"},
		{"no such domain", &mx.Error{Reply: smtp.Reply{Code: 550, Subject: 1, Detail: 2}}, "refused ours", "550 5.1.2"},
		{"DNS", &mx.Error{Reply: smtp.Reply{Code: 451, Subject: 4, Detail: 3}}, "put off host ours", "451 4.4.3"},
		{"REQUIRETLS", smtp.Refuse(550, 7, 30, "x"), "refused next ours", "550 5.7.30"},
		{"certificate", smtp.Refuse(451, 7, 5, "x"), "put off host next ours", "451 4.7.5"},
		{"cancelled", context.Canceled, "put off host next slow ours", "451 4.4.1"},
	}
	for _, tt := range tests {
		v := relay.JudgeError(tt.err)
		if got := short(v); got != tt.want || !strings.HasPrefix(v.Reply.String(), tt.status) {
			t.Errorf("%s: %s (%s), want %s (%s)", tt.name, got, v.Reply, tt.want, tt.status)
		}
	}
}
