package config

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// maxFileOctets bounds a configuration file; real ones have a few thousand octets.
const maxFileOctets = 1 << 20

// Load reads and checks the file. The error joins every *Problem found, or is
// the one that kept the file from being read.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open configuration %s: it does not exist; name another with --config or make one with: poczta setup", path)
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("open configuration: %w; run this as root, or as the user of the data folder", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	defer f.Close()
	doc, err := io.ReadAll(io.LimitReader(f, maxFileOctets+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", path, err)
	}
	return Parse(path, doc)
}

// Parse checks a document; file is its name in problems.
func Parse(file string, doc []byte) (*Config, error) {
	if len(doc) > maxFileOctets {
		return nil, &Problem{File: file, Text: fmt.Sprintf("the file is longer than %d octets, which no configuration needs", maxFileOctets)}
	}
	var tree map[string]any
	if err := toml.Unmarshal(doc, &tree); err != nil {
		return nil, syntaxProblem(file, err)
	}
	d := &decoder{file: file, lines: indexLines(doc)}
	c := Default()
	d.table(reflect.ValueOf(c).Elem(), tree, "")
	if len(d.problems) == 0 {
		d.validate(c)
	}
	if len(d.problems) > 0 {
		return nil, errors.Join(d.problems...)
	}
	return c, nil
}

// Default returns a configuration of defaults. Hostname is missing in it.
func Default() *Config {
	c := new(Config)
	fillDefaults(reflect.ValueOf(c).Elem())
	return c
}

func syntaxProblem(file string, err error) error {
	p := &Problem{File: file, Text: strings.TrimPrefix(err.Error(), "toml: ")}
	if de, ok := errors.AsType[*toml.DecodeError](err); ok {
		p.Line, _ = de.Position()
		p.Key = strings.Join(de.Key(), ".")
	}
	return p
}

// decoder carries a document's tree into a Config and gathers what is wrong.
type decoder struct {
	file     string
	lines    lines
	problems []error
}

func (d *decoder) problem(key, format string, args ...any) {
	d.problems = append(d.problems, &Problem{
		File: d.file, Line: d.lines.of(key), Key: key, Text: fmt.Sprintf(format, args...)})
}

// table sets the fields of v, a struct, from the keys of tree.
func (d *decoder) table(v reflect.Value, tree map[string]any, at string) {
	fields := map[string]int{}
	var names []string
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("toml")
		fields[name] = i
		names = append(names, name)
	}
	for _, key := range sortedKeys(tree) {
		full := join(at, key)
		i, ok := fields[key]
		if !ok {
			d.unknown(full, key, at, names)
			continue
		}
		d.value(v.Field(i), v.Type().Field(i), tree[key], full)
	}
	for i, name := range names {
		if _, ok := tree[name]; !ok && v.Type().Field(i).Tag.Get("required") != "" {
			d.problem(join(at, name), "is missing; write as in %s = %s",
				name, tomlLiteral(v.Type().Field(i), v.Type().Field(i).Tag.Get("example")))
		}
	}
}

func (d *decoder) unknown(full, key, at string, names []string) {
	hint := ""
	if near := nearest(key, names); near != "" {
		hint = fmt.Sprintf("; did you mean %s?", join(at, near))
	} else if other := elsewhere(key); other != "" {
		hint = fmt.Sprintf("; there is %s", other)
	}
	d.problem(full, "is not a known key%s", hint)
}

// elsewhere finds a key of the same name in another section.
func elsewhere(key string) string {
	found := ""
	walkFields(reflect.TypeFor[Config](), "", func(path string, f reflect.StructField) {
		if f.Tag.Get("toml") == key && found == "" {
			found = path
		}
	})
	return found
}

// value sets one field from a TOML value.
func (d *decoder) value(v reflect.Value, f reflect.StructField, in any, key string) {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		s, ok := in.(string)
		if n, isInt := in.(int64); isInt && !ok {
			s, ok = strconv.FormatInt(n, 10), true
		}
		if !ok {
			d.problem(key, "is %s; write it as text, as in %s", kindOf(in), quotedExample(f))
			return
		}
		if err := u.UnmarshalText([]byte(s)); err != nil {
			d.problem(key, "%s", err)
			return
		}
		d.bounds(v, f, key)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if t, ok := in.(map[string]any); ok {
			d.table(v, t, key)
			return
		}
		d.problem(key, "is %s, but this is a section; write [%s]", kindOf(in), key)
	case reflect.Slice:
		d.list(v, f, in, key)
	default:
		d.scalar(v, f, in, key)
	}
}

func (d *decoder) list(v reflect.Value, f reflect.StructField, in any, key string) {
	items, ok := in.([]any)
	if !ok {
		d.problem(key, "is %s; write a list, as in [%s]", kindOf(in), quotedExample(f))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if n, isInt := item.(int64); isInt && v.Type().Elem().Kind() == reflect.String {
			item = strconv.FormatInt(n, 10) // ports may be written as numbers
		}
		if isTable(v.Type().Elem()) {
			fillDefaults(out.Index(i))
		}
		d.value(out.Index(i), f, item, key+"["+strconv.Itoa(i)+"]")
	}
	v.Set(out)
}

func (d *decoder) scalar(v reflect.Value, f reflect.StructField, in any, key string) {
	switch x := in.(type) {
	case string:
		if v.Kind() == reflect.String {
			v.SetString(x)
			d.bounds(v, f, key)
			return
		}
	case bool:
		if v.Kind() == reflect.Bool {
			v.SetBool(x)
			return
		}
	case int64:
		if v.Kind() == reflect.Int {
			v.SetInt(x)
			d.bounds(v, f, key)
			return
		}
		if v.Kind() == reflect.Float64 {
			v.SetFloat(float64(x))
			d.floatBounds(v, f, key)
			return
		}
	case float64:
		if v.Kind() == reflect.Float64 {
			v.SetFloat(x)
			d.floatBounds(v, f, key)
			return
		}
	}
	want := map[reflect.Kind]string{reflect.String: `text, in "quotes"`, reflect.Bool: "true or false", reflect.Int: "a whole number, without quotes",
		reflect.Float64: "a number, without quotes"}
	d.problem(key, "is %s; write %s", kindOf(in), want[v.Kind()])
}

// bounds checks the tags oneof, min and max.
func (d *decoder) bounds(v reflect.Value, f reflect.StructField, key string) {
	if list := f.Tag.Get("oneof"); list != "" {
		for _, w := range strings.Split(list, ",") {
			if v.String() == w {
				return
			}
		}
		hint := ""
		if near := nearest(v.String(), strings.Split(list, ",")); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		d.problem(key, "%q is not one of %s%s", v.String(), strings.ReplaceAll(list, ",", ", "), hint)
		return
	}
	if s := f.Tag.Get("min"); s != "" && v.Int() < limitOf(f.Type, s) {
		d.problem(key, "%v is too small; the least is %s", v.Interface(), s)
	}
	if s := f.Tag.Get("max"); s != "" && v.Int() > limitOf(f.Type, s) {
		d.problem(key, "%v is too large; the most is %s", v.Interface(), s)
	}
}

// floatBounds checks the tags min and max of a number with a fraction; what is no number is
// neither.
func (d *decoder) floatBounds(v reflect.Value, f reflect.StructField, key string) {
	if s := f.Tag.Get("min"); s != "" && !(v.Float() >= floatOf(s)) {
		d.problem(key, "%v is too small; the least is %s", v.Interface(), s)
	} else if s := f.Tag.Get("max"); s != "" && !(v.Float() <= floatOf(s)) {
		d.problem(key, "%v is too large; the most is %s", v.Interface(), s)
	}
}

// floatOf reads a tag of a number with a fraction.
func floatOf(s string) float64 {
	x, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic(fmt.Sprintf("config: tag of a field: %v", err))
	}
	return x
}

// limitOf reads a min or max tag in the field's own notation.
func limitOf(t reflect.Type, s string) int64 {
	v := reflect.New(t)
	if u, ok := v.Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(s)); err != nil {
			panic(fmt.Sprintf("config: tag of a field: %v", err))
		}
		return v.Elem().Int()
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("config: tag of a field: %v", err))
	}
	return n
}
