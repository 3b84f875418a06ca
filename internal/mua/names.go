package mua

import (
	"runtime"

	"poczta.example/poczta/internal/resolver"
)

// systemResolver asks the name servers of this computer. Their word on DNSSEC is not believed: on
// a foreign network they are anybody's.
func systemResolver() (resolver.Resolver, error) {
	if runtime.GOOS == "windows" { // has no file that names them
		return resolver.NewNative(nil), nil
	}
	return resolver.New(resolver.Config{})
}
