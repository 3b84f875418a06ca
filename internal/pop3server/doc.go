// Package pop3server serves maildrops by POP3: RFC 1939 with CAPA (RFC 2449),
// STLS (RFC 2595), SASL (RFC 5034), response codes (RFC 3206) and UTF8 and LANG
// (RFC 6856).
package pop3server
