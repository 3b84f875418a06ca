package holdings

// For tests of rows and keys.
var (
	ParseRow  = parseRow
	AppendRow = appendRow
	AppendKey = appendKey
	KeyAfter  = keyAfter
)
