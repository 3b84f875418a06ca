package rspamd

// ParseResult is what hostile answers run into.
func ParseResult(text []byte) (Result, error) { return parseResult(text) }

// Obeyed is the result of a client that is configured to obey.
func Obeyed(r Result) Result { r.obey = true; return r }
