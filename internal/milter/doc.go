// Package milter is a client of mail filters that speak the milter protocol, versions 2 to 6,
// over UNIX sockets and TCP.
//
// A milter sees a message in stages: connection, greeting, reverse-path, recipients, header
// section, body. We run all of them, in order, once the message is whole: at the end of data.
// What a milter refuses at an early stage it therefore refuses at the end of data, and a
// recipient that it refuses becomes a result of that recipient (Result.Recipients), which the
// caller settles as it settles any other difference between recipients.
//
// A milter sees the message as it came, without the fields that this server writes in front of
// it. Several milters are asked one after the other; Message.Apply makes of a message and the
// changes of one milter the message that the next one sees.
//
// Nothing a milter says is believed: packets, header fields, addresses, replies and the number
// and size of changes are checked and bounded, and a breach is ErrProtocol. Whether mail then
// passes is the caller's decision.
//
// The protocol has no standard; it is that of Sendmail's libmilter (mfdef.h).
package milter
