// Package smtpclient is one session of an SMTP or LMTP client over a connection that
// the caller has made (RFC 5321, 2033): greeting, EHLO, STARTTLS, AUTH, and mail
// transactions with PIPELINING, CHUNKING, SIZE, 8BITMIME, SMTPUTF8, DSN, REQUIRETLS,
// MT-PRIORITY, DELIVERBY and FUTURERELEASE where the server offers them.
//
// It decides nothing: which host, which level of TLS, what becomes of a recipient and
// when to try again is its caller's. Time and memory are bounded, whatever the server does.
//
// # Outcomes and errors
//
// What the server said about each recipient is data, an Outcome. An error means that the
// server said no more: the connection is over, and recipients without a reply in the
// Outcome stay undecided. Ask Usable whether a session can go on; a refused STARTTLS or
// AUTH is an *Error with a Reply that leaves it usable. An *Unsupported comes before
// anything is sent.
package smtpclient
