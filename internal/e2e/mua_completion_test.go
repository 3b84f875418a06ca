package e2e_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCompletion has the shells themselves complete command lines of poczta.
func TestCompletion(t *testing.T) {
	t.Parallel()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for shell, completes := range map[string]func(l *laptop, shell string, lines []string) [][]string{"bash": (*laptop).byBash, "zsh": (*laptop).byZsh, "fish": (*laptop).byFish} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path := tool(t, shell)
			l := newLaptop(t)
			l.env = append(l.env, "PATH="+filepath.Dir(bin)+":/usr/bin:/bin", "TERM=dumb")
			script := l.works("", bin, "completion", shell)
			l.write("completion", script)
			l.write("letters.mbox", "") // where a file is wanted, it is the shell's own
			cases := []struct {
				line string
				want []string
			}{
				{"poczta mail sy", []string{"sync"}},
				{"poczta mail sync --wa", []string{"--watch"}},
				{"poczta mail list --zzz", nil},
				{"poczta mail backup cr", []string{"create"}},
				{"poczta mail export --format ma", []string{"maildir"}},
				{"poczta mail add x@y --accept-", []string{"--accept-outgoing"}},
				{"poczta mail --secrets-file accou", []string{"accounts"}},
				{"poczta mail import lett", []string{"letters.mbox"}},
			}
			var lines []string
			for _, c := range cases {
				lines = append(lines, c.line)
			}
			got := completes(l, path, lines)
			if len(got) != len(cases) {
				t.Fatalf("%d answers to %d lines: %q", len(got), len(cases), got)
			}
			for i, c := range cases {
				if !slices.Equal(got[i], c.want) {
					t.Errorf("%s: got %q, want %q", c.line, got[i], c.want)
				}
			}
		})
	}
}

// byBash presses Tab in bash: it does what readline does with a completion's function.
func (l *laptop) byBash(shell string, lines []string) [][]string {
	l.t.Helper()
	script := l.write("tab.bash", `source ./completion
spec=$(complete -p poczta) || exit 1
function=${spec#*-F }
function=${function%% *}
for line; do
	read -ra COMP_WORDS <<<"$line"
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$line COMP_POINT=${#line} COMPREPLY=()
	"$function" poczta "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
	if [ ${#COMPREPLY[@]} = 0 ] && [[ $spec == *"-o default"* ]]; then COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")); fi
	echo line:
	printf 'word:%s\n' "${COMPREPLY[@]}"
done
`)
	return wordsOf(l.works("", shell, append([]string{"--norc", script}, lines...)...))
}

// byFish asks fish what it would offer.
func (l *laptop) byFish(shell string, lines []string) [][]string {
	l.t.Helper()
	script := l.write("tab.fish", `source ./completion
for line in $argv
	echo line:
	for row in (complete -C $line)
		echo word:(string split -f1 \t -- $row)
	end
end
`)
	return wordsOf(l.works("", shell, append([]string{"--no-config", script}, lines...)...))
}

// byZsh presses Tab in a zsh on a pseudo-terminal, which zsh's own zpty makes; compadd tells what it
// is given.
func (l *laptop) byZsh(shell string, lines []string) [][]string {
	l.t.Helper()
	keep(l.t, filepath.Join(l.dir, "functions"), "_poczta", readFile(l.t, filepath.Join(l.dir, "completion")))
	script := l.write("tab.zsh", `zmodload zsh/zpty || exit 1
zpty z "$1" -f -i
shift
until_word() { local got all=; while zpty -r z got; do all+=$got; [[ $all == *"$1"* ]] && break; done; print -r -- "$all" }
zpty -w z 'PS1= PS2= PROMPT_EOL_MARK=; unset zle_bracketed_paste; fpath=(`+filepath.Join(l.dir, "functions")+` $fpath); autoload -Uz compinit; compinit -u -D; print rea""dy'
until_word ready >/dev/null
zpty -w z 'compadd() { local -a out; builtin compadd -O out "$@"; (( ${#out} )) && print -rl -- "" "word:"${^out}; builtin compadd "$@" }; tell() { _main_complete; compstate[insert]=; compstate[list]=; print -r -- "en""d" }; zle -C tell complete-word tell; bindkey "^I" tell; print rea""dy2'
until_word ready2 >/dev/null
for line; do
	zpty -n -w z "$line"$'\t'
	print line:
	until_word end
	zpty -n -w z $'\025' # away with the line
done
zpty -d z
`)
	return wordsOf(strings.ReplaceAll(l.works("", shell, append([]string{"-f", script, shell}, lines...)...), "\r", "\n"))
}

// wordsOf reads what the scripts print: of each line the words that were offered.
func wordsOf(text string) (all [][]string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "line:" {
			all = append(all, nil)
		} else if word, ok := strings.CutPrefix(line, "word:"); ok && word != "" && len(all) > 0 && !slices.Contains(all[len(all)-1], word) {
			all[len(all)-1] = append(all[len(all)-1], word)
		}
	}
	return all
}
