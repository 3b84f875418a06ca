// Package pop3 holds the grammar of POP3: commands, response codes, limits and
// byte-stuffing (RFC 1939, 2449, 3206, 5034, 6856). It does no input or output.
package pop3

// ResponseCode is an extended response code (RFC 2449 §8, RFC 3206, RFC 6856),
// without its brackets. Empty is none.
type ResponseCode string

// The response codes that we send.
const (
	CodeInUse      ResponseCode = "IN-USE"      // RFC 2449 §8.1.2
	CodeLoginDelay ResponseCode = "LOGIN-DELAY" // RFC 2449 §8.1.1
	CodeSysTemp    ResponseCode = "SYS/TEMP"    // RFC 3206 §4
	CodeSysPerm    ResponseCode = "SYS/PERM"    // RFC 3206 §4
	CodeAuth       ResponseCode = "AUTH"        // RFC 3206 §4
	CodeUTF8       ResponseCode = "UTF8"        // RFC 6856 §5
)

// Error is a -ERR reply: a response code, what the peer may read, and apart from
// them the cause for the log. What the peer reads is Say in the session's language,
// or Text when Say is TextNone. Err may be nil.
type Error struct {
	Code ResponseCode
	Say  Text
	Text string
	Err  error
}

// In returns what the peer reads in language l.
func (e *Error) In(l Language) string {
	if e.Say != TextNone {
		return e.Say.In(l)
	}
	return e.Text
}

// Error returns the English text with the cause, for logs; never send it to a peer.
func (e *Error) Error() string {
	s := "-ERR "
	if e.Code != "" {
		s += "[" + string(e.Code) + "] "
	}
	s += e.In(English)
	if e.Err != nil {
		s += " (" + e.Err.Error() + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
