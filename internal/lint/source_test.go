package lint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

type source struct {
	name string // from the module's root
	text string
	fset *token.FileSet
	ast  *ast.File
}

func (s source) test() bool { return strings.HasSuffix(s.name, "_test.go") }

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata" || d.Name() == "tools") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		all = append(all, source{rel, string(text), fset, f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestSizes bounds functions at 100 lines and files at 600 (style: 60 and 400).
func TestSizes(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		if n := strings.Count(s.text, "\n"); n > 600 {
			t.Errorf("%s has %d lines: split it by concern", s.name, n)
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > 100 {
				t.Errorf("%s: %s has %d lines: make steps of it", s.name, f.Name.Name, n)
			}
		}
	}
}

// TestComments asks a comment of every exported declaration and every package.
func TestComments(t *testing.T) {
	t.Parallel()
	packageDoc := map[string]bool{}
	for _, s := range sources(t) {
		dir := filepath.Dir(s.name)
		if s.test() {
			continue
		}
		packageDoc[dir] = packageDoc[dir] || s.ast.Doc != nil
		for _, d := range s.ast.Decls {
			checkComment(t, s, d)
		}
	}
	for dir, has := range packageDoc {
		if !has {
			t.Errorf("package in %s has no package comment", dir)
		}
	}
}

func checkComment(t *testing.T, s source, d ast.Decl) {
	t.Helper()
	complain := func(n *ast.Ident) {
		t.Errorf("%s: exported %s has no comment", s.fset.Position(n.Pos()), n.Name)
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
			complain(d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil {
					complain(spec.Name)
				}
			case *ast.ValueSpec:
				if spec.Names[0].IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					complain(spec.Names[0])
				}
			}
		}
	}
}

// exportedReceiver reports whether the method can be seen from outside.
func exportedReceiver(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return true
	}
	typ := f.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

// TestForbidden finds calls that have one home or none.
func TestForbidden(t *testing.T) {
	t.Parallel()
	rules := []struct {
		pattern *regexp.Regexp
		where   func(s source) bool // where the rule holds
		why     string
	}{
		{regexp.MustCompile(`\btime\.Sleep\(`), func(s source) bool { return s.test() && !strings.HasPrefix(s.name, "internal/lint/") },
			"tests wait for conditions, they do not sleep"},
		{regexp.MustCompile(`\bos\.(OpenFile|Create|Rename|WriteFile)\(`), func(s source) bool {
			return !s.test() && strings.HasPrefix(s.name, "internal/") && !inAny(s.name, "internal/disk/", "internal/mailtest/", "internal/db/dbtest/", "internal/e2e/", "internal/poptest/")
		}, "package disk is the only one that opens lasting files"},
		{regexp.MustCompile(`\bnet\.(Lookup|Default)[A-Za-z]*\b`), func(s source) bool { return !s.test() && !inAny(s.name, "internal/resolver/") },
			"names are looked up through package resolver"},
		{regexp.MustCompile(`\b(slog\.Default\(|http\.DefaultClient|http\.DefaultServeMux)`), func(s source) bool { return !s.test() },
			"loggers and clients are given, not found"},
		{regexp.MustCompile(`\bfunc init\(\)`), func(s source) bool { return true }, "no init functions: assembly is plain code in daemon"},
	}
	for _, s := range sources(t) {
		for _, r := range rules {
			if !r.where(s) {
				continue
			}
			for i, line := range strings.Split(s.text, "\n") {
				if code, _, _ := strings.Cut(line, "//"); r.pattern.MatchString(code) && !strings.Contains(line, "// lint:") {
					t.Errorf("%s:%d: %s: %s", s.name, i+1, strings.TrimSpace(line), r.why)
				}
			}
		}
	}
}

func inAny(name string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// TestCitedStandards asks docs/protocols.md to know every RFC that the code cites.
func TestCitedStandards(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocols.md"))
	if err != nil {
		t.Fatal(err)
	}
	cited := regexp.MustCompile(`\bRFCs? ([0-9]{3,5})\b`)
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| \[?(?:RFC )?([0-9]{3,5})\b`).FindAllStringSubmatch(string(doc), -1) {
		known[m[1]] = true
	}
	missing := map[string]string{}
	for _, s := range sources(t) {
		for _, m := range cited.FindAllStringSubmatch(s.text, -1) {
			if !known[m[1]] {
				missing[m[1]] = s.name
			}
		}
	}
	for n, where := range missing {
		t.Errorf("RFC %s is cited in %s but has no row in docs/protocols.md", n, where)
	}
}
