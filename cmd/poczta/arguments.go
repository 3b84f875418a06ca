package main

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// settle moves flags that stand before or between the words of a command behind
// them, where the command knows them: "--json account list" means "account list
// --json". Flags may stand anywhere.
func settle(node *kong.Node, args []string) []string {
	var words, flags []string
	rest := args
	for len(node.Children) > 0 {
		at, child := nextWord(node, rest)
		if child == nil || at > 0 && !strings.HasPrefix(rest[0], "-") {
			break
		}
		words, flags = append(words, rest[at]), append(flags, rest[:at]...)
		node, rest = child, rest[at+1:]
	}
	if slices.ContainsFunc(node.Positional, func(v *kong.Positional) bool { return v.Passthrough }) { // they are the command's, as they stand
		return slices.Concat(words, flags, rest)
	}
	end := slices.Index(rest, "--") // what follows are no flags
	if end < 0 {
		end = len(rest)
	}
	if slices.ContainsFunc(node.Positional, func(v *kong.Positional) bool { return v.Tag.Has("minus") }) {
		own, found := searchWords(node, rest[:end])
		return slices.Concat(words, own, flags, []string{"--"}, found, rest[min(end+1, len(rest)):])
	}
	return slices.Concat(words, rest[:end], flags, rest[end:])
}

// searchWords parts the words of a search from its flags. Words that are to be left out, as in
// -draft, are words; a flag of one letter stays one, also with its number as in -n5.
func searchWords(node *kong.Node, args []string) (flags, words []string) {
	takes := map[string]bool{} // the next argument is the flag's value
	for _, group := range node.AllFlags(false) {
		for _, f := range group {
			takes["--"+f.Name] = !f.IsBool()
			takes["-"+string(f.Short)] = f.Short != 0 && !f.IsBool()
		}
	}
	for i := 0; i < len(args); i++ {
		a := args[i]
		if !strings.HasPrefix(a, "--") && (!strings.HasPrefix(a, "-") || len(a) > 2 && strings.Trim(a[2:], "0123456789") != "") {
			words = append(words, a)
			continue
		}
		flags = append(flags, a)
		if takes[a] && i+1 < len(args) {
			i++
			flags = append(flags, args[i])
		}
	}
	return flags, words
}

// nextWord finds the first argument that is a command under node.
func nextWord(node *kong.Node, args []string) (int, *kong.Node) {
	for i, a := range args {
		if a == "--" {
			break
		}
		for _, child := range node.Children {
			if child.Name == a {
				return i, child
			}
		}
	}
	return -1, nil
}
