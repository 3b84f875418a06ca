package config

import (
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// lines maps each key of a document ("tls.certificate[1].cert") to its line.
// Keys inside inline tables and arrays are found at their outermost key.
type lines map[string]int

// of returns the line of key, or of the nearest key around it.
func (l lines) of(key string) int {
	for {
		if n, ok := l[key]; ok {
			return n
		}
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			return 0
		}
		key = key[:i]
	}
}

// indexLines reads a document that is known to be syntactically right.
func indexLines(doc []byte) lines {
	found := lines{}
	var p unstable.Parser
	p.Reset(doc)
	table := ""
	counts := map[string]int{}
	for p.NextExpression() {
		e := p.Expression()
		key, line := keyOf(&p, e)
		switch e.Kind {
		case unstable.Table:
			table = resolve(counts, key)
			found[table] = line
		case unstable.ArrayTable:
			name := resolve(counts, key)
			i := counts[name]
			counts[name]++
			table = name + "[" + strconv.Itoa(i) + "]"
			found[table] = line
			if i == 0 {
				found[name] = line
			}
		case unstable.KeyValue:
			full := strings.Join(key, ".")
			if table != "" {
				full = table + "." + full
			}
			found[full] = line
		}
	}
	return found
}

func keyOf(p *unstable.Parser, e *unstable.Node) (key []string, line int) {
	for it := e.Key(); it.Next(); {
		n := it.Node()
		if line == 0 {
			line = p.Shape(n.Raw).Start.Line
		}
		key = append(key, string(n.Data))
	}
	return key, line
}

// resolve writes a table's name with the index of the last element of every
// array table on its way (TOML 1.0, "Array of Tables").
func resolve(counts map[string]int, key []string) string {
	name := ""
	for i, k := range key {
		if name != "" {
			name += "."
		}
		name += k
		if n := counts[name]; n > 0 && i < len(key)-1 {
			name += "[" + strconv.Itoa(n-1) + "]"
		}
	}
	return name
}
