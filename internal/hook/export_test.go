package hook

// ParseResult is what hostile answers run into.
func ParseResult(text []byte) (Result, error) { return parseResult(text) }
