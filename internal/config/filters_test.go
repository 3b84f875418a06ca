package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/verdict"
)

func TestFilterDefaults(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("f", []byte(least))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Spam
	got := verdict.Thresholds{Tag: float64(s.Tag), Junk: float64(s.Junk), Quarantine: float64(s.Quarantine), Refuse: float64(s.Refuse), Grey: float64(s.Grey), Second: float64(s.Second)}
	if diff := cmp.Diff(verdict.DefaultThresholds(), got); diff != "" {
		t.Errorf("the thresholds are others than those of the table of evidence:\n%s", diff)
	}
	if !c.Verify.Enabled || !s.Enabled || !c.Conduct.Enabled || !c.Attachments.Enabled {
		t.Error("the filters are off by default")
	}
	if c.Clamd.Address != "" || c.Rspamd.URL != "" || c.Hook.URL != "" || len(c.Milters)+len(s.Lists) > 0 {
		t.Error("a server asks programs or lists that nobody named")
	}
}

func TestFilterValues(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("f", []byte(least+`
[spam]
junk = 5
refuse = 20.5
[[spam.weight]]
name = "spf_fail"
points = -1.5
[[spam.list]]
zone = "zen.lists.example"
[[spam.list.answer]]
network = "127.0.0.10/31"
label = "dial-up"
weight = 0.5
[[milter]]
name = "one"
address = "unix:/run/one.sock"
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Spam.Junk != 5 || c.Spam.Refuse != 20.5 || c.Spam.Weights[0].Points != -1.5 || c.Spam.Lists[0].Weight != 1 || c.Spam.Lists[0].Answers[0].Weight != 0.5 {
		t.Errorf("got %+v", c.Spam)
	}
	if m := c.Milters[0]; !m.Incoming || m.Outgoing || m.WhenDown != "defer" {
		t.Errorf("defaults of a milter: got %+v", m)
	}
}

func TestFilterProblems(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"order", "[spam]\njunk = 2", "f:3: spam.junk: 2 is below spam.tag"},
		{"not a number", "[spam]\njunk = nan", "f:3: spam.junk: NaN is too small"},
		{"too large", "[spam]\njunk = 1e9", "spam.junk: 1e+09 is too large"},
		{"text for a number", "[spam]\njunk = \"6\"", "spam.junk: is text; write a number, without quotes"},
		{"weight of nothing", "[[spam.weight]]\nname = \"spf_fial\"\npoints = 1", `f:3: spam.weight[0].name: "spf_fial" is no piece of evidence; did you mean "spf_fail"?`},
		{"answer elsewhere", "[[spam.list]]\nzone = \"a.example\"\n[[spam.list.answer]]\nnetwork = \"192.0.2.1\"", "f:5: spam.list[0].answer[0].network: 192.0.2.1/32 is not within 127.0.0.0/8"},
		{"list twice", "[[spam.list]]\nzone = \"a.example\"\n[[spam.list]]\nzone = \"A.example\"", "f:5: spam.list[1].zone"},
		{"exception for all", "[[verify.exception]]\nname = \"x\"\nfrom = [\"example.org\"]", "f:2: verify.exception[0]: would let anybody write in our name"},
		{"exception for every network", "[[verify.exception]]\nname = \"x\"\nnetworks = [\"0.0.0.0/0\"]", "f:4: verify.exception[0].networks"},
		{"override for all", "[[verify.override]]\nname = \"x\"", "verify.override[0]: has no condition"},
		{"reverse-path", "[[verify.override]]\nname = \"x\"\nreverse_paths = [\"nobody\"]", "verify.override[0].reverse_paths"},
		{"sealer", "[verify]\ntrusted_sealers = [\"a b\"]", "verify.trusted_sealers"},
		{"clamd", "[clamd]\naddress = \"/run/clamd\"", "f:3: clamd.address"},
		{"milter", "[[milter]]\nname = \"x\"\naddress = \"/run/x\"", "f:4: milter[0].address"},
		{"milter twice", "[[milter]]\nname = \"x\"\naddress = \"unix:/a\"\n[[milter]]\nname = \"x\"\naddress = \"unix:/b\"", "f:6: milter[1].name"},
		{"rspamd", "[rspamd]\nurl = \"ftp://x\"", "f:3: rspamd.url"},
		{"rspamd's controller", "[rspamd]\nurl = \"http://127.0.0.1:1\"\nlearn = true\ncontroller = \"x\"", "f:5: rspamd.controller"},
		{"rspamd learns nowhere", "[rspamd]\nurl = \"http://127.0.0.1:1\"\nlearn = true", "f:4: rspamd.learn"},
		{"rspamd learns and is not asked", "[rspamd]\nlearn = true\ncontroller = \"http://127.0.0.1:1\"", "f:3: rspamd.learn"},
		{"hook", "[hook]\nurl = \"x\"", "f:3: hook.url"},
		{"reports", "[dmarc_reports]\nfrom = \"x\"", "f:3: dmarc_reports.from"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Parse("f", []byte(least+c.text+"\n"))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
