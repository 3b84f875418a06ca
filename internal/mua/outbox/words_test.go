package outbox_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/mua/outbox"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		r        outbox.Recipient
		language string
		want     string
	}{
		"unknown user":     {outbox.Recipient{State: outbox.Refused, Code: 550, Status: "5.1.1", Reply: "no\nsuch user"}, "en", "There is no such address there. The server said: 550 5.1.1 no such user"},
		"unknown user, pl": {outbox.Recipient{State: outbox.Refused, Code: 550, Status: "5.1.1", Reply: "no such user"}, "pl", "Nie ma tam takiego adresu. Serwer odpowiedział: 550 5.1.1 no such user"},
		"without a status": {outbox.Recipient{State: outbox.Refused, Code: 554, Reply: "go away"}, "", "The server refused it. The server said: 554 go away"},
		"our own words":    {outbox.Recipient{State: outbox.Refused, Status: "5.1.2", Reply: "There is no domain x."}, "", "There is no domain x."},
		"greylisted":       {outbox.Recipient{State: outbox.Waiting, Code: 451, Status: "4.7.1", Reply: "greylisted"}, "en", "The receiving server does not take the message yet. It will be tried again. The server said: 451 4.7.1 greylisted"},
		"offline":          {outbox.Recipient{State: outbox.Waiting}, "pl", "Czeka."},
		"sent":             {outbox.Recipient{State: outbox.Sent, Code: 250}, "", "Your server has taken it."},
	} {
		if got := tt.r.Words(tt.language); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestPolish looks for sentences in this package's own text that have no Polish one.
func TestPolish(t *testing.T) {
	t.Parallel()
	sets := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	sentence := regexp.MustCompile(`^(?:[A-Z]|%q )[^\n]* [^\n]* `)
	sql := regexp.MustCompile(`^(SELECT|INSERT|UPDATE|DELETE|CREATE|WITH|X-)`)
	found := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || name == "words.go" {
			continue
		}
		f, err := parser.ParseFile(sets, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil || !sentence.MatchString(text) || sql.MatchString(text) {
				return true
			}
			text = strings.NewReplacer("%s", "x.example", "%q", `"x"`, "%v", "x").Replace(text)
			if strings.HasSuffix(text, "(") {
				text += "x)"
			}
			if text == "The letter was taken out of the folder " {
				text += outbox.Folder + "."
			}
			found++
			if got := outbox.Say(text, "pl"); strings.HasPrefix(got, "Program podaje") {
				t.Errorf("%s: %q has no Polish words", sets.Position(lit.Pos()), text)
			}
			return true
		})
	}
	if found < 12 {
		t.Errorf("%d sentences were found: this test has gone blind", found)
	}
	for in, want := range map[string]string{
		"The domain x.example says that it takes no mail.":                                                 "Domena x.example podaje, że nie przyjmuje poczty.",
		"The server does not let us in: at AUTH: server said 535 5.7.8 no":                                 "Serwer nas nie wpuszcza: „at AUTH: server said 535 5.7.8 no”",
		"The server can't be reached; is this computer on the network? (connect to a: dial tcp: lookup a)": "Nie da się połączyć z serwerem; czy ten komputer jest w sieci? („connect to a: dial tcp: lookup a”)",
		"At MAIL: server said 451 later":                                                                   "Serwer odpowiedział: „451 later”",
		"Something else":                                                                                   "Program podaje: „Something else”",
	} {
		if got := outbox.Say(in, "pl"); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
		if got := outbox.Say(in, "en"); got != in {
			t.Errorf("English %q becomes %q", in, got)
		}
	}
}

func TestReportWords(t *testing.T) {
	t.Parallel()
	for _, a := range []dsn.Action{dsn.Failed, dsn.Delayed, dsn.Delivered, dsn.Relayed, dsn.Expanded} {
		r := outbox.Report{Action: a, Status: "5.1.1", Diagnostic: "no such user"}
		en, pl := r.Words("en"), r.Words("pl")
		if !strings.HasPrefix(en, "A report came back: ") || !strings.HasPrefix(pl, "Przyszło powiadomienie: ") || !strings.HasSuffix(pl, "„no such user”") {
			t.Errorf("%s: %q, %q", a, en, pl)
		}
	}
	if got := (outbox.Report{Action: dsn.Failed, Status: "5.1.1"}).Words("pl"); got != "Przyszło powiadomienie: nie dostarczono. Nie ma tam takiego adresu." {
		t.Errorf("failed: %q", got)
	}
}
