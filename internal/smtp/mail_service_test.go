package smtp_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/smtp"
)

const serviceExt = smtp.ExtRequireTLS | smtp.ExtFutureRelease | smtp.ExtDeliverBy | smtp.ExtPriority | smtp.ExtXVERP

func TestParseMailService(t *testing.T) {
	t.Parallel()
	const second = time.Second
	for _, tt := range []struct {
		params string
		want   smtp.Mail
		err    string
	}{
		{params: "requiretls", want: smtp.Mail{RequireTLS: true}},
		{params: "REQUIRETLS=yes", err: "501 5.5.4"},
		{params: "REQUIRETLS REQUIRETLS", err: "501 5.5.4"},

		{params: "HOLDFOR=1", want: smtp.Mail{HoldFor: second}},
		{params: "HOLDFOR=999999999", want: smtp.Mail{HoldFor: 999999999 * second}},
		{params: "HOLDFOR=1000000000", err: "501 5.5.4"},
		{params: "HOLDFOR=0", err: "501 5.5.4"},
		{params: "HOLDFOR=01", err: "501 5.5.4"},
		{params: "HOLDFOR=-5", err: "501 5.5.4"},
		{params: "HOLDFOR=1h", err: "501 5.5.4"},
		{params: "HOLDFOR", err: "501 5.5.4"},
		{params: "HOLDUNTIL=2026-12-24T18:00:00Z", want: smtp.Mail{HoldUntil: time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC)}},
		{params: "HOLDUNTIL=2026-12-24t18:00:00.5z", want: smtp.Mail{HoldUntil: time.Date(2026, 12, 24, 18, 0, 0, 5e8, time.UTC)}},
		{params: "HOLDUNTIL=2026-12-24T18:00:00+02:00", want: smtp.Mail{HoldUntil: time.Date(2026, 12, 24, 16, 0, 0, 0, time.UTC)}},
		{params: "HOLDUNTIL=2026-12-24T18:00:00", err: "501 5.5.4"},
		{params: "HOLDUNTIL=2026-12-24T18:00:00,5Z", err: "501 5.5.4"},
		{params: "HOLDUNTIL=2026-02-30T18:00:00Z", err: "501 5.5.4"},
		{params: "HOLDUNTIL=tomorrow", err: "501 5.5.4"},
		{params: "HOLDFOR=1 HOLDUNTIL=2026-12-24T18:00:00Z", err: "501 5.5.4"},
		{params: "HOLDUNTIL=2026-12-24T18:00:00Z HOLDFOR=1", err: "501 5.5.4"},

		{params: "BY=125;R", want: smtp.Mail{By: smtp.By{Time: 125 * second, Mode: envelope.ByReturn}}},
		{params: "by=+125;rt", want: smtp.Mail{By: smtp.By{Time: 125 * second, Mode: envelope.ByReturn, Trace: true}}},
		{params: "BY=-3600;N", want: smtp.Mail{By: smtp.By{Time: -time.Hour, Mode: envelope.ByNotify}}},
		{params: "BY=0;NT", want: smtp.Mail{By: smtp.By{Mode: envelope.ByNotify, Trace: true}}},
		{params: "BY=-999999999;N", want: smtp.Mail{By: smtp.By{Time: -999999999 * second, Mode: envelope.ByNotify}}},
		{params: "BY=0;R", err: "501 5.5.4"},
		{params: "BY=-1;R", err: "501 5.5.4"},
		{params: "BY=1234567890;N", err: "501 5.5.4"},
		{params: "BY=+-1;N", err: "501 5.5.4"},
		{params: "BY=;N", err: "501 5.5.4"},
		{params: "BY=1", err: "501 5.5.4"},
		{params: "BY=1;", err: "501 5.5.4"},
		{params: "BY=1;X", err: "501 5.5.4"},
		{params: "BY=1;T", err: "501 5.5.4"},
		{params: "BY=1;RN", err: "501 5.5.4"},
		{params: "BY=1;R;T", err: "501 5.5.4"},
		{params: "BY", err: "501 5.5.4"},

		{params: "MT-PRIORITY=9", want: smtp.Mail{Priority: 9, HasPriority: true}},
		{params: "mt-priority=-9", want: smtp.Mail{Priority: -9, HasPriority: true}},
		{params: "MT-PRIORITY=0", want: smtp.Mail{HasPriority: true}},
		{params: "MT-PRIORITY=10", err: "501 5.5.2"},
		{params: "MT-PRIORITY=-10", err: "501 5.5.2"},
		{params: "MT-PRIORITY=+3", err: "501 5.5.2"},
		{params: "MT-PRIORITY=-0", err: "501 5.5.2"},
		{params: "MT-PRIORITY=03", err: "501 5.5.2"},
		{params: "MT-PRIORITY=high", err: "501 5.5.2"},
		{params: "MT-PRIORITY", err: "501 5.5.2"},
		{params: "MT-PRIORITY=1 MT-PRIORITY=1", err: "501 5.5.4"},

		{params: "XVERP", want: smtp.Mail{VERP: "+="}},
		{params: "xverp=+=", want: smtp.Mail{VERP: "+="}},
		{params: "XVERP=-+", want: smtp.Mail{VERP: "-+"}},
		{params: "XVERP===", want: smtp.Mail{VERP: "=="}},
		{params: "XVERP=", err: "501 5.5.4"},
		{params: "XVERP=+", err: "501 5.5.4"},
		{params: "XVERP=+=-", err: "501 5.5.4"},
		{params: "XVERP=+_", err: "501 5.5.4"},
		{params: "XVERP=ż", err: "501 5.5.4"},
		{params: "XVERP XVERP", err: "501 5.5.4"},
	} {
		got, err := smtp.ParseMail("FROM:<> "+tt.params, serviceExt)
		if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b address.ReversePath) bool { return a == b })); status(t, err) != tt.err || diff != "" {
			t.Errorf("ParseMail(%q): %v, want %q; (-want +got):\n%s", tt.params, err, tt.err, diff)
		}
		if _, err := smtp.ParseMail("FROM:<> "+tt.params, allExt); status(t, err) != "555 5.5.4" {
			t.Errorf("%q without its extension: %v", tt.params, err)
		}
	}
}

func TestParseETRN(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		arg, want, err string
		below          bool
	}{
		{arg: "example.org", want: "example.org"},
		{arg: "EXAMPLE.org", want: "example.org"},
		{arg: "@example.org", want: "@example.org", below: true},
		{arg: "żółw.example", want: "xn--w-uga1v8h.example"},
		{arg: "", err: "500 5.5.4"},
		{arg: "#uucp", err: "459 4.5.4"},
		{arg: "@", err: "501 5.5.4"},
		{arg: "[192.0.2.1]", err: "501 5.5.4"},
		{arg: "example..org", err: "501 5.5.4"},
		{arg: "example.org example.com", err: "501 5.5.4"},
		{arg: "@@example.org", err: "501 5.5.4"},
	} {
		got, err := smtp.ParseETRN(tt.arg)
		if status(t, err) != tt.err {
			t.Errorf("ParseETRN(%q): %v, want %q", tt.arg, err, tt.err)
		}
		if err == nil && (got.String() != tt.want || got.Subdomains != tt.below) {
			t.Errorf("ParseETRN(%q) = %v, want %s", tt.arg, got, tt.want)
		}
	}
}

func FuzzMailService(f *testing.F) {
	for _, s := range []string{"REQUIRETLS", "HOLDFOR=60 BY=-5;NT", "HOLDUNTIL=2026-12-24T18:00:00+01:00", "BY=+1;RT MT-PRIORITY=-9", "@example.org", "#q"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := smtp.ParseMail("FROM:<> "+s, serviceExt|allExt); err == nil {
			switch {
			case m.Priority < envelope.MinPriority || m.Priority > envelope.MaxPriority:
				t.Errorf("%q: priority %d", s, m.Priority)
			case m.By.Mode == envelope.ByReturn && m.By.Time <= 0, m.By.Mode == envelope.ByUndeclared && m.By != smtp.By{}:
				t.Errorf("%q: by %+v", s, m.By)
			case m.HoldFor < 0 || m.HoldFor > 0 && !m.HoldUntil.IsZero():
				t.Errorf("%q: hold for %v until %v", s, m.HoldFor, m.HoldUntil)
			}
		} else {
			status(t, err)
		}
		n, err := smtp.ParseETRN(s)
		if err != nil {
			status(t, err)
			return
		}
		if back, err := smtp.ParseETRN(n.String()); err != nil || back != n {
			t.Errorf("%q is %v, printed and parsed %v, %v", s, n, back, err)
		}
	})
}
