// Package smtp holds the grammar of SMTP and LMTP: commands, parameters, replies,
// limits and the transparency of mail data (RFC 5321, 2033, 3461, 3463, 6531).
// It does no input or output.
package smtp

// Reply is one reply of a server: a three-digit code, the subject and detail of
// its enhanced status code (the class is the code's first digit, RFC 2034 §4),
// and its text. Text may have several lines, parted by "\n"; it holds no CR.
// Subject and Detail both zero on a 2xx/4xx/5xx reply print as X.0.0; replies of
// class 3, greetings and EHLO carry no enhanced code. Plain marks a reply that came
// from a server without an enhanced code: it prints without one.
type Reply struct {
	Code    int
	Subject int
	Detail  int
	Text    string
	Plain   bool
}

// Error is a refusal: what the peer may read, and apart from it the cause for
// the log. Err may be nil. Permanent or temporary is the class of the code.
type Error struct {
	Reply Reply
	Err   error
}

// Error returns the reply's text with the cause, for logs; never send it to a peer.
func (e *Error) Error() string {
	s := e.Reply.String()
	if e.Err != nil {
		s += " (" + e.Err.Error() + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
