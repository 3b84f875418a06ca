package admin_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/conduct"
	"poczta.example/poczta/internal/mailtest/pgtest"
)

// TestSpamTestOutgoing: what our own people send is judged by its dangers and by their conduct,
// with both databases, and nothing of it counts.
func TestSpamTestOutgoing(t *testing.T) {
	t.Parallel()
	plain := "From: ala@example.org\r\nTo: jan@far.test\r\nSubject: x\r\n\r\nHello Jan.\r\n"
	program := "From: ala@example.org\r\nTo: jan@far.test\r\nSubject: x\r\nContent-Type: application/octet-stream; name=\"a.exe\"\r\n\r\nMZ\r\n"
	for _, engine := range []string{"sqlite", "postgresql"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			more := ""
			if engine == "postgresql" {
				more = fmt.Sprintf("[store]\nengine = \"postgresql\"\nurl = %q", pgtest.URL(t, pgtest.Options{}))
			}
			o := openOffice(t, more, "[conduct]\nnew_recipients = 1\nspam_sent = 3")
			test := func(msg string, opt admin.TestOptions) string {
				t.Helper()
				o.In = strings.NewReader(msg)
				return o.run("spam test", o.SpamTest(t.Context(), opt))
			}
			as := admin.TestOptions{Outgoing: true, Account: "ala@example.org", To: "jan@far.test"}
			for range 3 { // it counts nowhere
				o.says("a letter", test(plain, as), `^action for jan@far\.test: deliver: sent by one of our own people; score 0\.0`, `^What our own people send is not scored; ala@example\.org sends like itself`)
			}
			o.says("nobody in particular", test(plain, admin.TestOptions{Outgoing: true}), `^action: deliver`, `with --account its conduct would be looked at too`)
			o.says("a program", test(program, as), `^action for jan@far\.test: refuse, by attachment_forbidden`)
			if said := test(program, admin.TestOptions{To: "ala@example.org"}); !strings.HasPrefix(said, "action for ala@example.org: quarantine") || strings.Contains(said, "our own people") {
				t.Errorf("as it comes in: %s", said)
			}
			a, err := o.Rooms.Accounts.Get(t.Context(), "ala@example.org")
			if err != nil {
				t.Fatal(err)
			}
			o.Rooms.Conduct.Count(t.Context(), a.ID, conduct.Sent{Messages: 1, Recipients: 1, Fresh: 1})
			o.says("one too many", test(plain, as), `^action for jan@far\.test: quarantine, by conduct_unusual`, `2 recipients it never wrote to`, `sends unlike itself: its mail to other hosts would be held`)
			if list := o.run("conduct", o.AccountConduct(t.Context(), "", false)); list != "" {
				t.Errorf("a test has held the account: %s", list)
			}
			o.JSON = true
			if said := test(plain, as); strings.Count(said, `"conduct":"hold"`) != 1 && strings.Count(said, `"conduct": "hold"`) != 1 {
				t.Errorf("as JSON: %s", said)
			}
			o.JSON, o.In = false, strings.NewReader(plain)
			if err := o.SpamTest(t.Context(), admin.TestOptions{Account: "ala@example.org"}); !errors.Is(err, admin.ErrUsage) {
				t.Errorf("--account without --outgoing: %v", err)
			}
		})
	}
}
