// Package lint holds the house rules that no linter knows, as tests: the
// direction of imports, comments on exported declarations, sizes of functions and
// files, lasting files opened by package disk alone, no sleeping tests, and RFC
// citations that docs/protocols.md knows.
package lint
