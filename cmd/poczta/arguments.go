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
	return slices.Concat(words, rest[:end], flags, rest[end:])
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
