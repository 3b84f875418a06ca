package page

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/line"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/pop3client"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
)

// englishWords are words that no Polish sentence has.
var englishWords = strings.Fields("the is are not and with your were can't this that of there from which have has for letter letters password passwords server servers account accounts wrong failed unknown remove add save")

// foreign is what a sentence quotes: what a server, the system or a letter said.
var foreign = regexp.MustCompile(`„[^”]*”|“[^”]*”`)

// InEnglish is a word of a Polish text that is English, "" when none is.
func InEnglish(text string) string {
	words := strings.FieldsFunc(foreign.ReplaceAllString(text, ""), func(r rune) bool { return !unicode.IsLetter(r) && r != '\'' })
	for _, w := range words {
		if slices.Contains(englishWords, strings.ToLower(w)) {
			return w
		}
	}
	return ""
}

func inEnglish(text string) string { return InEnglish(text) }

// TestPolishWords wants every text of the table in Polish.
func TestPolishWords(t *testing.T) {
	t.Parallel()
	same := map[string]bool{"Menu": true, "Port": true, "SecurityStart": true, "Folder": true}
	en, pl := reflect.ValueOf(english), reflect.ValueOf(polish)
	for i := range en.NumField() {
		name := en.Type().Field(i).Name
		if en.Field(i).Kind() != reflect.String {
			continue
		}
		e, p := en.Field(i).String(), pl.Field(i).String()
		if e == p && !same[name] {
			t.Errorf("%s is %q in both languages", name, e)
		}
		if strings.Count(e, "%s") != strings.Count(p, "%s") {
			t.Errorf("%s: %q and %q are not about the same", name, e, p)
		}
		if w := inEnglish(p); w != "" && name != "SearchHint" {
			t.Errorf("%s in Polish says %q: %s", name, w, p)
		}
	}
}

// declared are the exported errors of a package.
func declared(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v", dir, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				for _, n := range s.(*ast.ValueSpec).Names {
					if strings.HasPrefix(n.Name, "Err") {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}

// TestSentinels wants words for every error that the rooms behind the page declare.
func TestSentinels(t *testing.T) {
	t.Parallel()
	f, err := parser.ParseFile(token.NewFileSet(), "trouble.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok {
				known[x.Name+"."+n.Sel.Name] = true
			}
		case *ast.Ident:
			known["page."+n.Name] = true
		}
		return true
	})
	for name, dir := range map[string]string{"page": ".", "fetch": "../fetch", "outbox": "../outbox", "vault": "../vault", "oauth": "../oauth", "profile": "../profile", "discover": "../discover"} {
		all := declared(t, dir)
		if len(all) == 0 {
			t.Errorf("%s declares no errors: this test has gone blind", name)
		}
		for _, e := range all {
			if !known[name+"."+e] {
				t.Errorf("%s.%s has no words", name, e)
			}
		}
	}
	for _, s := range sentinels {
		got := polish.trouble(fmt.Errorf("fetch ala@example.org: %w", s.err))
		if w := inEnglish(got); got != s.is.pl || w != "" {
			t.Errorf("%v: %q says %q", s.err, got, w)
		}
		if got := english.trouble(s.err); got != s.is.en || strings.Contains(got, "poczta mail") {
			t.Errorf("%v in English: %q", s.err, got)
		}
	}
	for k := pop3client.KindNetwork; k <= pop3client.KindUnsupported; k++ {
		if s := kinds[k]; s.en == "" || s.pl == "" || inEnglish(s.pl) != "" {
			t.Errorf("%s has no words: %+v", k, s)
		}
	}
}

// TestTroubles walks the kinds of errors that reach the page: none is in English in Polish, but for
// what is quoted.
func TestTroubles(t *testing.T) {
	t.Parallel()
	reply := func(code int) *smtp.Reply { return &smtp.Reply{Code: code, Text: "the server is not happy with this"} }
	_, rule := time.Parse("x", "y")
	all := map[string]error{
		"certificate, unknown":  &line.CertificateError{Host: "pop.example.org", Err: x509.UnknownAuthorityError{}},
		"certificate, expired":  &line.CertificateError{Host: "pop.example.org", Err: x509.CertificateInvalidError{Reason: x509.Expired, Cert: &x509.Certificate{}}},
		"certificate, invalid":  &line.CertificateError{Host: "pop.example.org", Err: x509.CertificateInvalidError{Reason: x509.TooManyIntermediates}},
		"certificate, name":     &line.CertificateError{Host: "pop.example.org", Err: x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"a.example"}}}},
		"certificate, another":  &line.CertificateError{Host: "pop.example.org", Err: errors.New("it is another than the one that was accepted")},
		"untrusted":             &Untrusted{Text: "run the command again", Certificate: &line.CertificateError{Host: "pop.example.org", Err: x509.UnknownAuthorityError{}}},
		"DNS":                   fmt.Errorf("connect to x: %w", &net.DNSError{Name: "pop.example.org", Err: "no such host"}),
		"dial":                  fmt.Errorf("connect to x: %w", &net.OpError{Op: "dial", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 995}, Err: syscall.ECONNREFUSED}),
		"dial, nowhere":         &net.OpError{Op: "dial", Err: errors.New("the network is away")},
		"POP3, credentials":     &pop3client.Error{Command: "PASS", Refused: true, Reply: "this is not the password"},
		"POP3, in use":          &pop3client.Error{Command: "PASS", Refused: true, Code: "IN-USE"},
		"POP3, hung up":         &pop3client.Error{Command: "RETR 7", Err: pop3client.ErrHangup},
		"POP3, rubbish":         &pop3client.Error{Command: "RETR 7", Err: pop3client.ErrProtocol},
		"POP3, unsupported":     &pop3client.Unsupported{Extension: "STLS", Need: "the encryption that is wanted"},
		"POP3, plaintext":       pop3client.ErrPlaintext,
		"SMTP, credentials":     &smtpclient.Error{Stage: smtpclient.StageAuth, Reply: reply(535)},
		"SMTP, refused":         &smtpclient.Error{Stage: smtpclient.StageMail, Reply: reply(550)},
		"SMTP, later":           &smtpclient.Error{Stage: smtpclient.StageRcpt, Reply: reply(451)},
		"SMTP, TLS":             &smtpclient.Error{Stage: smtpclient.StageTLS, Err: io.EOF},
		"SMTP, hung up":         &smtpclient.Error{Stage: smtpclient.StageFinal, Lost: true, Err: smtpclient.ErrHangup},
		"SMTP, local":           &smtpclient.Error{Stage: smtpclient.StageBody, Local: true, Err: errors.New("the letter is not there")},
		"SMTP, unsupported":     &smtpclient.Unsupported{Extension: "SMTPUTF8", Need: "the address of this letter"},
		"TLS record":            tls.RecordHeaderError{Msg: "this is not TLS"},
		"TLS alert":             tls.AlertError(40),
		"too long":              context.DeadlineExceeded,
		"stopped":               context.Canceled,
		"timeout":               os.ErrDeadlineExceeded,
		"no such file":          &fs.PathError{Op: "open", Path: "/home/ala/ca.pem", Err: fs.ErrNotExist},
		"disk full":             &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC},
		"anything else":         errors.New("something is not as it was"),
		"anything else, deeper": rule,
		"joined":                errors.Join(errors.New("close the letter"), store.ErrNotFound),
	}
	for name, err := range all {
		got := polish.trouble(err)
		if w := inEnglish(got); w != "" {
			t.Errorf("%s: %q says %q", name, got, w)
		}
		if en := english.trouble(err); en == got || en == "" || strings.Contains(en, "%s") || strings.Contains(got, "%s") {
			t.Errorf("%s: %q in English, %q in Polish", name, en, got)
		}
	}
}

// literals are the strings that a function of a file is called with.
func literals(t *testing.T, file, function string, arg int) (all []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		if !ok || len(c.Args) <= arg {
			return true
		}
		name := ""
		switch f := c.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name
		}
		if l, ok := c.Args[arg].(*ast.BasicLit); ok && name == function && l.Kind == token.STRING {
			s, err := strconv.Unquote(l.Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
		return true
	})
	return all
}

// TestRuleWords wants words for all that the store says of rules, and for all that a draft may lack.
func TestRuleWords(t *testing.T) {
	t.Parallel()
	fills := strings.NewReplacer("%d", "7", "%q", `"x"`, "%s", "from", "%v", "error parsing regexp: missing closing )")
	said := literals(t, "../store/rule.go", "fail", 0)
	if len(said) < 8 {
		t.Errorf("%d sentences were found: this test has gone blind", len(said))
	}
	for _, s := range append(said, "there are 1000 already", `size "soon"`) {
		got := polish.trouble(fmt.Errorf("save rule: %w: %s", store.ErrRule, fills.Replace(s)))
		if w := inEnglish(got); w != "" || strings.HasPrefix(got, "Nie udało się. Program podaje") {
			t.Errorf("%q becomes %q", s, got)
		}
	}
	for _, k := range []compose.Kind{compose.BadAddress, compose.NoFrom, compose.NoRecipients, compose.NoSubject, compose.NoAttachment, compose.NoText, compose.ManyRecipients} {
		p := compose.Problem{Kind: k, Value: "x", Text: "This is what the letter is about."}
		if got := polish.problem(p); inEnglish(got) != "" {
			t.Errorf("%s: %q", k, got)
		}
	}
	for _, s := range []string{"is:what", "after:x", "has:nothing", "larger:soon", "-in:x in:", strings.Repeat("a ", 3000)} {
		h := fmt.Errorf("list letters: %w: %q is no day; write 2026-11-30", store.ErrQuery, s)
		if got := polish.searchTrouble(h); inEnglish(strings.ReplaceAll(got, polish.SearchHint, "")) != "" {
			t.Errorf("%q: %q", s, got)
		}
	}
}
