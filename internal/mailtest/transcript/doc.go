// Package transcript runs golden dialogues of line-based protocols, SMTP, LMTP and
// POP3, against any connection.
//
// A file holds scripts; a script is one connection. Each line is a step:
//
//	# comment               ignored, as are blank lines
//	--- name key=value …    begins a script; the options are for the test's Connect
//	C: text                 send the line and CRLF
//	C" "a\r\n\x00"          send these octets, a Go string, without CRLF
//	C* 1000 "text\r\n"      send the Go string so many times
//	S: text                 the next line must be this
//	S: text …               the next line must begin with this text
//	S: /regexp/             the next line must match the whole regular expression
//	S: 250                  a whole SMTP reply with this code, of any number of lines
//	S* text                 skip lines up to one that matches, by the rules of S:
//	TLS                     do the client's side of a TLS handshake now
//	CLOSE-WRITE             close our sending half; replies are still read
//	CLOSE                   close the connection
//	EOF                     the server must close the connection, without a word
//
// Lines sent one after another leave in one write, as pipelining has it.
package transcript
