package config

import (
	"reflect"
	"slices"
	"strings"
)

// Changes returns the keys whose values differ between two configurations, except
// those that begin with one of the prefixes given. Lists of tables count as one key.
func Changes(a, b *Config, except ...string) []string {
	var out []string
	changes(reflect.ValueOf(*a), reflect.ValueOf(*b), "", func(key string) {
		if !slices.ContainsFunc(except, func(p string) bool { return strings.HasPrefix(key, p) }) {
			out = append(out, key)
		}
	})
	return out
}

func changes(a, b reflect.Value, at string, found func(string)) {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		key := join(at, f.Tag.Get("toml"))
		if isTable(f.Type) {
			changes(a.Field(i), b.Field(i), key, found)
		} else if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			found(key)
		}
	}
}
