package clamd

// Parsers, for fuzzing.
var (
	ParseReply   = parseReply
	ParseVersion = parseVersion
)
