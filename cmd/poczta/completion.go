package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"poczta.example/poczta/internal/admin"
)

// completionCmd prints what a shell needs to complete command lines.
type completionCmd struct {
	Shell string `arg:"" help:"bash, zsh or fish." enum:"bash,zsh,fish"`
}

// Help implements kong's HelpProvider.
func (c *completionCmd) Help() string {
	return `  bash: poczta completion bash > ~/.local/share/bash-completion/completions/poczta
  zsh:  poczta completion zsh > "${fpath[1]}/_poczta"
  fish: poczta completion fish > ~/.config/fish/completions/poczta.fish`
}

// The scripts ask the program itself, so that they fit every version of it.
var completions = map[string]string{
	"bash": `_poczta() {
	local IFS=$'\n'
	COMPREPLY=($(compgen -W "$(poczta complete -- "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _poczta poczta
`,
	"zsh": `#compdef poczta
_poczta() {
	local -a found
	found=("${(@f)$(poczta complete -- "${(@)words[2,CURRENT-1]}" 2>/dev/null)}")
	compadd -a found || _files
}
if [ "$funcstack[1]" = "_poczta" ]; then _poczta "$@"; else compdef _poczta poczta; fi
`,
	"fish": `complete -c poczta -a '(set -l words (commandline -opc); poczta complete -- $words[2..-1] 2>/dev/null)'
`,
}

// Run implements local.
func (c *completionCmd) Run(_ context.Context, p *process, _ *cli) error {
	text, ok := completions[c.Shell]
	if !ok {
		return fmt.Errorf("%w: there is no completion for %q; name bash, zsh or fish", admin.ErrUsage, c.Shell)
	}
	_, err := io.WriteString(p.stdout, text)
	return err
}

// completeCmd prints the words that may follow others, a line each.
type completeCmd struct {
	Words []string `arg:"" optional:""`
}

// Run implements local.
func (c *completeCmd) Run(_ context.Context, p *process, _ *cli) error {
	k, err := kong.New(new(cli), kong.Name("poczta"), kong.Vars{"version": version, "file": defaultConfig})
	if err != nil {
		return fmt.Errorf("command line: %w", err)
	}
	for _, word := range following(k.Model.Node, c.Words) {
		fmt.Fprintln(p.stdout, word)
	}
	return nil
}

// following are the commands, or flags and choices, that may come behind words.
func following(node *kong.Node, words []string) []string {
	last := ""
	for _, w := range words {
		last = w
		for _, child := range node.Children {
			if child.Name == w {
				node = child
				break
			}
		}
	}
	var out []string
	flags := node.AllFlags(true)
	for _, group := range flags {
		for _, f := range group {
			if "--"+f.Name == last && !f.IsBool() {
				if f.Enum == "" {
					return nil // a file, a name: the shell's own
				}
				return strings.FieldsFunc(f.Enum, func(r rune) bool { return r == ',' })
			}
		}
	}
	for _, child := range node.Children {
		if !child.Hidden {
			out = append(out, child.Name)
		}
	}
	for _, p := range node.Positional {
		if p.Enum != "" {
			out = append(out, strings.Split(p.Enum, ",")...)
		}
	}
	for _, group := range flags {
		for _, f := range group {
			out = append(out, "--"+f.Name)
		}
	}
	return out
}
