package sasl

import (
	"bytes"
	"encoding/base64"
	"fmt"
)

// MaxLineOctets is the longest line of base64 a server must take, with its
// CRLF; longer ones are refused. RFC 4954 §4.
const MaxLineOctets = 12288

// base64Strict refuses stray bits and, unlike its default, line ends are refused
// by decode (RFC 4954 §4: "any other character" is an error).
var base64Strict = base64.StdEncoding.Strict()

// DecodeResponse decodes a line that answers a challenge, without its CRLF. "*"
// is ErrCancelled; an empty line is an empty response, not nil. The error is
// ErrMalformed for what is not base64 or too long.
func DecodeResponse(line []byte) ([]byte, error) {
	if string(line) == "*" {
		return nil, ErrCancelled
	}
	return decode(line)
}

// DecodeInitial decodes the initial response given with the AUTH command: "" is
// none, nil, and "=" an empty one, not nil. RFC 4954 §4, RFC 5034 §4.
func DecodeInitial(arg []byte) ([]byte, error) {
	switch string(arg) {
	case "":
		return nil, nil
	case "=":
		return []byte{}, nil
	}
	return decode(arg)
}

func decode(text []byte) ([]byte, error) {
	if len(text) > MaxLineOctets-len("\r\n") {
		return nil, fmt.Errorf("decode %d octets of base64: %w: more than %d", len(text), ErrMalformed, MaxLineOctets)
	}
	if bytes.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("decode base64: %w: line end inside", ErrMalformed)
	}
	out := make([]byte, base64Strict.DecodedLen(len(text)))
	n, err := base64Strict.Decode(out, text)
	if err != nil {
		return nil, fmt.Errorf("decode base64: %w: %v", ErrMalformed, err)
	}
	return out[:n], nil
}

// AppendChallenge appends the base64 of a challenge to b, as it stands after
// "334 " or "+ ".
func AppendChallenge(b, challenge []byte) []byte {
	return base64.StdEncoding.AppendEncode(b, challenge)
}

// EncodeChallenge returns the base64 of a challenge.
func EncodeChallenge(challenge []byte) string {
	return base64.StdEncoding.EncodeToString(challenge)
}
