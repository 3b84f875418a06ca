// Package pop3client is one session of a POP3 client over a connection that the caller has
// made (RFC 1939): greeting, CAPA (RFC 2449), STLS (RFC 2595), AUTH (RFC 5034), UTF8
// (RFC 6856), listings, and messages by RETR and TOP, with PIPELINING where it is offered.
//
// It decides nothing: which server, which level of TLS, what is fetched and what is deleted
// is its caller's. Time and memory are bounded, whatever the server does. A password or a
// token goes over an unencrypted connection only if Config.Plaintext says so.
//
// # Errors
//
// What a server refuses of many messages is data, *Refused, and leaves the session usable.
// Other errors are *Error, or *Unsupported before anything is sent. Error.Kind says what
// they mean; ask Usable whether the session can go on.
//
// # What is known about deletion
//
// DELE only marks (RFC 1939 §5). What was marked is removed by QUIT, and by nothing else:
// Quit returns nil only if the server said so. With ErrNotRemoved it said no and may have
// removed some; with ErrRemovalUnknown it said nothing.
package pop3client
