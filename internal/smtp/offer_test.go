package smtp_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/smtp"
)

func TestParseOffer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       smtp.Offer
	}{
		{"name alone", "them.example at your service", smtp.Offer{Name: "them.example"}},
		{"empty", "", smtp.Offer{}},
		{"lower case, blanks", "them\n size  100 \n pipelining", smtp.Offer{Name: "them", HasSize: true, Size: 100, Pipelining: true}},
		{"SIZE without a number", "them\nSIZE\nSIZE x", smtp.Offer{Name: "them", HasSize: true}},
		{"AUTH of drafts", "them\nAUTH=LOGIN PLAIN\nAUTH PLAIN scram-sha-256", smtp.Offer{Name: "them", Auth: []string{"LOGIN", "PLAIN", "SCRAM-SHA-256"}}},
		{"LIMITS", "them\nLIMITS MAILMAX=20 rcptmax=50 RCPTDOMAINMAX=1 X RCPTMAX=-1 RCPTMAX=9999999", smtp.Offer{Name: "them", MailMax: 20, RcptMax: 50}},
		{"repeats", "them\nX-POCZTA-REPEATS 604800", smtp.Offer{Name: "them", Repeats: 7 * 24 * time.Hour}},
		{"repeats without a time", "them\nx-poczta-repeats\nX-POCZTA-REPEATS soon", smtp.Offer{Name: "them"}},
		{"DELIVERBY", "them\nDELIVERBY 240,X", smtp.Offer{Name: "them", DeliverBy: true, MinDeliverBy: 4 * time.Minute}},
		{"DELIVERBY alone", "them\nDELIVERBY", smtp.Offer{Name: "them", DeliverBy: true}},
		{"FUTURERELEASE", "them\nFUTURERELEASE 86400 2026-12-31T23:00:00Z", smtp.Offer{Name: "them",
			FutureRelease: smtp.FutureRelease{Offered: true, Max: 24 * time.Hour, Until: time.Date(2026, 12, 31, 23, 0, 0, 0, time.UTC)}}},
		{"FUTURERELEASE malformed", "them\nFUTURERELEASE soon", smtp.Offer{Name: "them"}},
		{"MT-PRIORITY", "them\nMT-PRIORITY mixer", smtp.Offer{Name: "them", Priority: true, PriorityProfile: "MIXER"}},
		{"the rest", "them\nCHUNKING\nDSN\nREQUIRETLS\nETRN\nSTARTTLS\nBINARYMIME\nX-THING 1", smtp.Offer{Name: "them", Chunking: true, DSN: true,
			RequireTLS: true, ETRN: true, StartTLS: true}},
		{"the first line is no extension", "PIPELINING\nDSN", smtp.Offer{Name: "PIPELINING", DSN: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, smtp.ParseOffer(tt.text)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzOffer: an offer is bounded whatever it says.
func FuzzOffer(f *testing.F) {
	f.Add("them\nSIZE 1\nAUTH=LOGIN PLAIN\nLIMITS MAILMAX=1\nDELIVERBY 1,2\nFUTURERELEASE 1 2026-01-01T00:00:00Z")
	f.Add("x\n" + strings.Repeat("AUTH A B C D E F G H I J K L\nAUTH AA BB CC DD EE FF\n", 9))
	f.Fuzz(func(t *testing.T, text string) {
		o := smtp.ParseOffer(text)
		if len(o.Auth) > 32 || o.Size < 0 || o.MailMax < 0 || o.RcptMax < 0 || o.MinDeliverBy < 0 || o.FutureRelease.Max < 0 {
			t.Errorf("%#v", o)
		}
		for _, m := range o.Auth {
			if m == "" || len(m) > 20 {
				t.Errorf("mechanism %q", m)
			}
		}
	})
}
