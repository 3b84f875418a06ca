package smtp

import (
	"net/netip"
	"strconv"
	"strings"
)

// XClient is an XCLIENT command, by which a trusted peer tells whose session it
// carries (Postfix, XCLIENT_README). Attributes that were not given stay as they
// were; the Has set says which were given. [UNAVAILABLE] and [TEMPUNAVAIL] are the
// zero value of the attribute.
type XClient struct {
	Has      XClientAttrs
	Name     string     // NAME: verified reverse name of the client
	Addr     netip.Addr // ADDR
	Port     uint16     // PORT
	ESMTP    bool       // PROTO: false for SMTP
	Helo     string     // HELO
	Login    string     // LOGIN: authenticated login name
	DestAddr netip.Addr // DESTADDR
	DestPort uint16     // DESTPORT
}

// XClientAttrs is a set of attributes.
type XClientAttrs uint8

// The members of XClientAttrs.
const (
	XClientName XClientAttrs = 1 << iota
	XClientAddr
	XClientPort
	XClientProto
	XClientHelo
	XClientLogin
	XClientDestAddr
	XClientDestPort
)

var xclientAttrs = [...]struct {
	name string
	attr XClientAttrs
}{
	{"NAME", XClientName}, {"ADDR", XClientAddr}, {"PORT", XClientPort}, {"PROTO", XClientProto}, {"HELO", XClientHelo},
	{"LOGIN", XClientLogin}, {"DESTADDR", XClientDestAddr}, {"DESTPORT", XClientDestPort},
}

// String returns the attributes' names, parted by blanks, as EHLO offers them.
func (a XClientAttrs) String() string {
	var names []string
	for _, x := range xclientAttrs {
		if a&x.attr != 0 {
			names = append(names, x.name)
		}
	}
	return strings.Join(names, " ")
}

// ParseXClient reads the argument of XCLIENT; attributes outside allowed are
// refused. The error is an *Error, 501 5.5.4.
func ParseXClient(arg string, allowed XClientAttrs) (XClient, error) {
	var x XClient
	if arg == "" {
		return x, Refuse(501, 5, 4, "XCLIENT needs an attribute")
	}
	for word := range strings.FieldsSeq(arg) {
		name, text, ok := strings.Cut(word, "=")
		attr := xclientAttr(name) & allowed
		if !ok || attr == 0 || x.Has&attr != 0 {
			return XClient{}, Refuse(501, 5, 4, "XCLIENT takes each of "+allowed.String()+" once, as NAME=value")
		}
		value, err := decodeXtext(text, true)
		if err == nil && isAvailable(value) {
			err = x.set(attr, value)
		}
		if err != nil {
			return XClient{}, &Error{Reply: Reply{Code: 501, Subject: 5, Detail: 4, Text: "XCLIENT's attribute " + strings.ToUpper(name) + " is malformed"}, Err: err}
		}
		x.Has |= attr
	}
	return x, nil
}

func xclientAttr(name string) XClientAttrs {
	for _, x := range xclientAttrs {
		if strings.EqualFold(x.name, name) {
			return x.attr
		}
	}
	return 0
}

func isAvailable(value string) bool {
	return !strings.EqualFold(value, "[UNAVAILABLE]") && !strings.EqualFold(value, "[TEMPUNAVAIL]")
}

// set takes one decoded attribute.
func (x *XClient) set(attr XClientAttrs, value string) (err error) {
	switch attr {
	case XClientName:
		x.Name, err = ParseHello(value)
	case XClientAddr:
		x.Addr, err = parseXClientAddr(value)
	case XClientPort:
		x.Port, err = parsePort(value)
	case XClientProto:
		x.ESMTP = strings.EqualFold(value, "ESMTP")
		if !x.ESMTP && !strings.EqualFold(value, "SMTP") {
			err = errXtext
		}
	case XClientHelo:
		x.Helo, err = ParseHello(value)
	case XClientLogin:
		x.Login = value
		if !isAddressText(value) {
			err = errXtext
		}
	case XClientDestAddr:
		x.DestAddr, err = parseXClientAddr(value)
	case XClientDestPort:
		x.DestPort, err = parsePort(value)
	}
	return err
}

// parseXClientAddr reads an IPv4 address, or an IPv6 address behind "IPV6:".
func parseXClientAddr(s string) (netip.Addr, error) {
	if len(s) > 5 && strings.EqualFold(s[:5], "IPV6:") {
		s = s[5:]
	}
	a, err := netip.ParseAddr(s)
	return a.Unmap().WithZone(""), err
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}
