package smtpserver_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpserver"
	"poczta.example/poczta/internal/verp"
)

// starter is a box that has queues to start.
type starter struct {
	*box

	offered bool
}

func (s starter) Starts(*smtpserver.Session) bool { return s.offered }

func (s starter) Start(_ context.Context, _ *smtpserver.Session, n smtp.Node) (int, error) {
	switch n.String() {
	case "sigurd.innosoft.com":
		return -1, nil
	case "innosoft.com":
		return 0, nil
	case "@mysoft.com":
		return 14, nil
	case "uu.net":
		return 0, smtp.Refuse(458, 3, 0, "Unable to queue messages for node "+n.String())
	case "fault.example":
		return 0, errors.New("database is on fire")
	}
	return 0, smtp.Refuse(459, 7, 1, "Node "+n.String()+" not allowed")
}

// TestPromises holds what reaches the Service of a message's wishes, in a bubble
// whose clock begins at midnight of 2000-01-01 UTC.
func TestPromises(t *testing.T) {
	t.Parallel()
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	options := map[string]string{"requiretls": "yes", "xverp": "yes", "hold": "86400", "by": "60", "priority": "4", "auth": "yes", "plaintext": "yes", "tls": "implicit"}
	type wishes struct {
		RequireTLS bool
		Priority   int
		HoldUntil  time.Time
		DeliverBy  envelope.DeliverBy
		VERP       verp.Delimiters
	}
	for params, want := range map[string]wishes{
		"":                                    {},
		"REQUIRETLS MT-PRIORITY=-9":           {RequireTLS: true, Priority: -9},
		"MT-PRIORITY=9":                       {Priority: 4},
		"XVERP":                               {VERP: "+="},
		"XVERP=--":                            {VERP: "--"},
		"HOLDFOR=86400":                       {HoldUntil: begin.Add(24 * time.Hour)},
		"HOLDUNTIL=2000-01-01T01:30:00+01:00": {HoldUntil: begin.Add(30 * time.Minute)},
		"BY=60;R":                             {DeliverBy: envelope.DeliverBy{Mode: envelope.ByReturn, Time: begin.Add(time.Minute)}},
		"BY=-60;NT HOLDFOR=1":                 {HoldUntil: begin.Add(time.Second), DeliverBy: envelope.DeliverBy{Mode: envelope.ByNotify, Time: begin.Add(-time.Minute), Trace: true}},
	} {
		t.Run(params, func(t *testing.T) {
			t.Parallel()
			cfg := configure(t, options)
			synctest.Test(t, func(t *testing.T) {
				h := open(t, cfg)
				conn := h.dial(t)
				run(t, conn, "TLS\nS: 220\nC: EHLO h\nS: 250\nC: AUTH PLAIN AGFsYQBrb3Q=\nS: 235\n"+
					strings.Replace(transact, "a.example>", "a.example> "+params, 1)+"C: QUIT\nS: 221\nEOF\n")
				env := h.box.taken()[0].Envelope
				got := wishes{env.RequireTLS, env.Priority, env.HoldUntil.UTC(), env.DeliverBy, env.VERP}
				got.DeliverBy.Time = got.DeliverBy.Time.UTC()
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestExtensionsValidate(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]smtpserver.Extensions{
		"negative hold":          {FutureRelease: -time.Second},
		"hold of parts":          {FutureRelease: 1500 * time.Millisecond},
		"hold beyond its digits": {FutureRelease: 1e9 * time.Second},
		"negative by":            {MinDeliverBy: -time.Second},
		"negative repeats":       {Repeats: -time.Second},
		"repeats of parts":       {Repeats: time.Millisecond},
		"by of parts":            {MinDeliverBy: time.Millisecond},
		"priority":               {HighestPriority: 10},
		"negative priority":      {HighestPriority: -1},
	} {
		if _, err := smtpserver.New(smtpserver.Config{Hostname: "mx.example.org", Service: &box{}, Extensions: e}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
