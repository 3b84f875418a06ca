package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

//go:generate go test -run TestDocumentIsCurrent -update .

// Document writes docs/configuration.md: every key with its meaning, unit,
// default and an example.
func Document() string {
	var b strings.Builder
	b.WriteString(`# Configuration

<!-- Written by internal/config from its struct tags: change them there, then run go generate ./internal/config. -->

One TOML file. ` + "`poczta setup`" + ` writes it, ` + "`poczta check`" + ` checks it. It is looked for at ` + "`--config FILE`" + `, then
` + "`$POCZTA_CONFIG`" + `, then ` + "`" + DefaultFile + "`" + `. A key that is left out has its default; an unknown key is refused. Accounts
and domains are not configured here but in the database, by ` + "`poczta account`, `poczta domain` and `poczta alias`" + `.

Durations are written as in "30s", "1h30m", "14d"; sizes in octets or with KiB, MiB, GiB, TiB; networks as in
"192.0.2.0/24", or a single address. The server reads the file again on SIGHUP: certificates, limits, submission and
the log's level change at once, other keys at the next start; a file with an error changes nothing.
`)
	t := reflect.TypeFor[Config]()
	b.WriteString("\n## Top\n")
	for i := range t.NumField() {
		if f := t.Field(i); !isTable(f.Type) && !isTables(f.Type) {
			documentKey(&b, f.Tag.Get("toml"), f)
		}
	}
	for i := range t.NumField() {
		if f := t.Field(i); isTable(f.Type) {
			documentSection(&b, f.Tag.Get("toml"), f.Tag.Get("doc"), f.Type)
		} else if isTables(f.Type) {
			documentSection(&b, "["+f.Tag.Get("toml")+"]", f.Tag.Get("doc"), f.Type.Elem())
		}
	}
	return b.String()
}

func documentSection(b *strings.Builder, path, doc string, t reflect.Type) {
	fmt.Fprintf(b, "\n## `[%s]`\n\n%s\n", path, doc)
	var later []reflect.StructField
	for i := range t.NumField() {
		f := t.Field(i)
		if isTable(f.Type) || isTables(f.Type) {
			later = append(later, f)
			continue
		}
		documentKey(b, f.Tag.Get("toml"), f)
	}
	for _, f := range later {
		sub := strings.Trim(path, "[]") + "." + f.Tag.Get("toml")
		if f.Type.Kind() == reflect.Slice {
			documentSection(b, "["+sub+"]", f.Tag.Get("doc"), f.Type.Elem())
			continue
		}
		documentSection(b, sub, f.Tag.Get("doc"), f.Type)
	}
}

// isTables reports a list of tables.
func isTables(t reflect.Type) bool { return t.Kind() == reflect.Slice && isTable(t.Elem()) }

func documentKey(b *strings.Builder, name string, f reflect.StructField) {
	fmt.Fprintf(b, "\n### `%s`\n\n%s\n\n", name, f.Tag.Get("doc"))
	facts := []string{kindName(f.Type)}
	if s := f.Tag.Get("unit"); s != "" {
		facts[0] += ", " + s
	}
	if s := f.Tag.Get("oneof"); s != "" {
		facts = append(facts, "one of "+strings.ReplaceAll(s, ",", ", "))
	}
	if s := f.Tag.Get("min"); s != "" {
		facts = append(facts, "at least "+s)
	}
	if s := f.Tag.Get("max"); s != "" {
		facts = append(facts, "at most "+s)
	}
	def := f.Tag.Get("default")
	switch {
	case f.Tag.Get("required") != "":
		facts = append(facts, "required")
	case def != "" || f.Type.Kind() == reflect.Slice:
		facts = append(facts, "default `"+tomlLiteral(f, def)+"`")
	default:
		facts = append(facts, "default empty")
	}
	if s := f.Tag.Get("example"); s != "" {
		facts = append(facts, "example `"+name+" = "+tomlLiteral(f, s)+"`")
	}
	b.WriteString(strings.Join(facts, "; ") + ".\n")
}

func kindName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "Duration"
	case reflect.TypeFor[Size]():
		return "Size"
	case reflect.TypeFor[Prefix]():
		return "Network"
	}
	switch t.Kind() {
	case reflect.Slice:
		return "List of " + map[string]string{"Text": "texts", "Network": "networks", "Duration": "durations"}[kindName(t.Elem())]
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "Number"
	case reflect.Float64:
		return "Number, also with a fraction"
	}
	return "Text"
}

// Initial is what setup knows of a new server.
type Initial struct {
	Hostname, Data string
	ListenHosts    []string // nil is the default
	PortBase       int
	TLSMode        string
	ACMEEmail      string
	Metrics        string // "" leaves the default
	PlaintextFrom  []string
	PostgresURL    string // "" is SQLite
}

// Text writes a first configuration file: the keys that were decided, with
// their meaning beside them, and where to read of the others.
func (in Initial) Text() string {
	var b strings.Builder
	line := func(name, value, comment string) {
		fmt.Fprintf(&b, "%-28s # %s\n", name+" = "+value, comment)
	}
	b.WriteString("# Poczta's configuration. Every key is described in docs/configuration.md.\n# After a change: poczta check, then reload the server (SIGHUP).\n\n")
	line("hostname", strconv.Quote(in.Hostname), "this host's name in greetings, Received and the certificate")
	line("data", strconv.Quote(in.Data), "everything that lasts")
	if in.ListenHosts != nil || in.PortBase != 0 {
		b.WriteString("\n[listen]\n")
	}
	if in.ListenHosts != nil {
		line("hosts", quoteList(in.ListenHosts), "addresses to listen on")
	}
	if in.PortBase != 0 {
		line("port_base", strconv.Itoa(in.PortBase), fmt.Sprintf("added to every port: SMTP is on %d, POP3 on %d", in.PortBase+25, in.PortBase+110))
	}
	b.WriteString("\n[tls]\n")
	line("mode", strconv.Quote(in.TLSMode), "acme, self-signed or files")
	if in.TLSMode == "files" {
		b.WriteString("[[tls.certificate]]\n")
		line("cert", strconv.Quote("/etc/poczta/"+in.Hostname+".pem"), "the certificate with its chain")
		line("key", strconv.Quote("/etc/poczta/"+in.Hostname+".key"), "its private key")
	}
	if in.ACMEEmail != "" {
		b.WriteString("[tls.acme]\n")
		line("email", strconv.Quote(in.ACMEEmail), "where the authority may write")
	}
	if in.PlaintextFrom != nil {
		b.WriteString("\n[auth]\n")
		line("plaintext_from", quoteList(in.PlaintextFrom), "passwords without TLS are allowed from here")
	}
	if in.PostgresURL != "" {
		b.WriteString("\n[store]\n")
		line("engine", `"postgresql"`, "the database server")
		line("url", strconv.Quote(in.PostgresURL), "its address")
	}
	if in.Metrics != "" {
		b.WriteString("\n[metrics]\n")
		line("listen", quoteList([]string{in.Metrics}), "/metrics for Prometheus and /healthz")
	}
	return b.String()
}

func quoteList(list []string) string {
	q := make([]string, len(list))
	for i, s := range list {
		q[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(q, ", ") + "]"
}
