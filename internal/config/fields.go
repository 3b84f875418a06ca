package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// walkFields visits every key of the struct type t that holds a value, in the
// order of declaration. Elements of lists of tables are written "tls.certificate[]".
func walkFields(t reflect.Type, at string, visit func(path string, f reflect.StructField)) {
	for i := range t.NumField() {
		f := t.Field(i)
		path := join(at, f.Tag.Get("toml"))
		switch {
		case isTable(f.Type):
			walkFields(f.Type, path, visit)
		case f.Type.Kind() == reflect.Slice && isTable(f.Type.Elem()):
			walkFields(f.Type.Elem(), path+"[]", visit)
		default:
			visit(path, f)
		}
	}
}

func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// fillDefaults sets every field of v from its default tag. A tag that can't be
// read is a mistake of ours: it panics, and the tests call Default.
func fillDefaults(v reflect.Value) {
	for i := range v.NumField() {
		f, fv := v.Type().Field(i), v.Field(i)
		if isTable(f.Type) {
			fillDefaults(fv)
			continue
		}
		def := f.Tag.Get("default")
		if def == "" {
			continue
		}
		if f.Type.Kind() == reflect.Slice {
			for _, item := range strings.Split(def, ",") {
				e := reflect.New(f.Type.Elem()).Elem()
				setText(e, strings.TrimSpace(item))
				fv.Set(reflect.Append(fv, e))
			}
			continue
		}
		setText(fv, def)
	}
}

func setText(v reflect.Value, s string) {
	var err error
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		err = u.UnmarshalText([]byte(s))
	} else {
		switch v.Kind() {
		case reflect.String:
			v.SetString(s)
		case reflect.Bool:
			v.SetBool(s == "true")
		case reflect.Int:
			var n int64
			n, err = strconv.ParseInt(s, 10, 64)
			v.SetInt(n)
		case reflect.Float64:
			v.SetFloat(floatOf(s))
		}
	}
	if err != nil {
		panic(fmt.Sprintf("config: default of a field: %v", err))
	}
}

// tomlLiteral writes the text of a tag as TOML would have it for the field.
func tomlLiteral(f reflect.StructField, s string) string {
	if f.Type.Kind() == reflect.Slice {
		var items []string
		for _, item := range strings.Split(s, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, strconv.Quote(item))
			}
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	if k := f.Type.Kind(); k == reflect.Bool || k == reflect.Int || k == reflect.Float64 {
		return s
	}
	return strconv.Quote(s)
}

// quotedExample is an example of one value of the field, in quotes.
func quotedExample(f reflect.StructField) string {
	s := f.Tag.Get("example")
	if s == "" {
		s = f.Tag.Get("default")
	}
	s, _, _ = strings.Cut(s, ",")
	return strconv.Quote(s)
}

// kindOf names a TOML value's type for a person.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case int64:
		return "a number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case map[string]any:
		return "a section"
	case time.Time:
		return "a date"
	}
	return "a value of another kind"
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
