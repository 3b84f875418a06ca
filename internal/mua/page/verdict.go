package page

import (
	"regexp"
	"strings"
)

// verdicts are what a server's filter thought, by its word for it.
var verdicts = map[string]saying{
	"deliver":    {"no junk (points: %s)", "to nie spam (punkty: %s)"},
	"tag":        {"suspicious (points: %s)", "podejrzany (punkty: %s)"},
	"junk":       {"junk (points: %s)", "spam (punkty: %s)"},
	"quarantine": {"was set apart (points: %s)", "był zatrzymany w kwarantannie (punkty: %s)"},
}

var sayRule = saying{", by the rule “%s”", ", według reguły „%s”"}

// verdictField is what a Poczta server's filter writes: deliver; score=1.2; rule="default".
var verdictField = regexp.MustCompile(`^(deliver|tag|junk|quarantine); score=(-?[0-9.]+); rule="(.*)"$`)

// verdict says in words what a filter thought of a letter; what is not understood stays as it is.
func (t *words) verdict(field string) string {
	m := verdictField.FindStringSubmatch(field)
	if m == nil {
		return field
	}
	about, rule := t.say(verdicts[m[1]], m[2]), strings.ReplaceAll(m[3], `\"`, `"`)
	if rule != "" && rule != "default" && !strings.HasPrefix(rule, "score") {
		about += t.say(sayRule, rule)
	}
	return about + "."
}
