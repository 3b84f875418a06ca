package clientconfig

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/address"
)

// AppleType is the media type of a configuration profile.
const AppleType = "application/x-apple-aspen-config"

// appleMail is the payload that holds a mail account.
const appleMail = "com.apple.mail.managed"

// Apple writes the settings as a configuration profile for one account, without a
// password: the device asks for it. It has the first POP3 server, or the first IMAP
// server, and the first outgoing one. Identifiers and UUIDs come from the address, so
// that a profile fetched again replaces the one before. The error is ErrEmpty when a
// direction is missing.
func (c Config) Apple(a address.Address) ([]byte, error) {
	c = c.For(a)
	var in *Server
	for _, kind := range []Protocol{POP3, IMAP} {
		for i := range c.Incoming {
			if in == nil && c.Incoming[i].Protocol == kind {
				in = &c.Incoming[i]
			}
		}
	}
	if in == nil || len(c.Outgoing) == 0 {
		return nil, fmt.Errorf("%w for one of the directions", ErrEmpty)
	}
	id, name := "mail."+a.Domain().String()+"."+uuid("account", a), c.Name
	if name == "" {
		name = a.Domain().Unicode()
	}
	w := xmlWriter{}
	w.open("plist", "version", "1.0")
	w.open("dict")
	w.leaf("key", "PayloadContent")
	w.open("array")
	w.open("dict")
	w.appleAccount(a, *in, c.Outgoing[0])
	w.applePayload(appleMail, id+".mail", uuid("mail", a), name)
	w.end("dict")
	w.end("array")
	w.applePayload("Configuration", id, uuid("profile", a), name)
	w.pair("PayloadRemovalDisallowed", false)
	w.end("dict")
	w.end("plist")
	doctype := `<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">` + "\n"
	return bytes.Replace(w.bytes(), []byte("<plist"), []byte(doctype+"<plist"), 1), nil
}

// uuid is one of those that belong to an address (RFC 9562 §5.8).
func uuid(what string, a address.Address) string {
	h := sha256.Sum256([]byte("poczta " + what + " " + a.Key()))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16]))
}

func (w *xmlWriter) pair(key string, value any) {
	w.leaf("key", key)
	switch v := value.(type) {
	case bool:
		w.line("<" + strconv.FormatBool(v) + "/>")
	case int:
		w.leaf("integer", strconv.Itoa(v))
	default:
		w.leaf("string", fmt.Sprint(v))
	}
}

func (w *xmlWriter) applePayload(kind, id, uuid, name string) {
	w.pair("PayloadDisplayName", name)
	w.pair("PayloadIdentifier", id)
	w.pair("PayloadType", kind)
	w.pair("PayloadUUID", uuid)
	w.pair("PayloadVersion", 1)
}

func (w *xmlWriter) appleAccount(a address.Address, in, out Server) {
	w.pair("EmailAccountType", map[Protocol]string{POP3: "EmailTypePOP", IMAP: "EmailTypeIMAP"}[in.Protocol])
	w.pair("EmailAccountDescription", a.String())
	w.pair("EmailAddress", a.String())
	w.appleServer("IncomingMailServer", in, a)
	w.appleServer("OutgoingMailServer", out, a)
	w.pair("OutgoingPasswordSameAsIncomingPassword", true)
}

func (w *xmlWriter) appleServer(prefix string, s Server, a address.Address) {
	auth := "EmailAuthPassword"
	if len(s.Authentications) > 0 && s.Authentications[0] == NoLogin {
		auth = "EmailAuthNone"
	}
	w.pair(prefix+"Authentication", auth)
	w.pair(prefix+"HostName", s.Host)
	w.pair(prefix+"PortNumber", int(s.Port))
	w.pair(prefix+"UseSSL", s.Security != Plain)
	w.pair(prefix+"Username", s.Login(a))
}

// ParseApple reads the first mail account of a configuration profile that is not
// signed (a signed one is CMS, not XML). The error wraps ErrTooLarge, ErrSyntax, or
// ErrEmpty when the profile has no mail account.
func ParseApple(text []byte) (Config, error) {
	root, err := readTree(text)
	if err != nil {
		return Config{}, err
	}
	if root.name != "plist" || root.kid("dict") == nil {
		return Config{}, fmt.Errorf("%w: it is no property list with a dictionary", ErrSyntax)
	}
	top := dict(root.kid("dict"))
	payloads := top["PayloadContent"]
	if payloads == nil {
		return Config{}, fmt.Errorf("%w: the profile has no payload", ErrEmpty)
	}
	for _, e := range payloads.all("dict") {
		d := dict(e)
		if d.text("PayloadType") == appleMail {
			return d.account()
		}
	}
	return Config{}, fmt.Errorf("%w: the profile has no mail account", ErrEmpty)
}

// properties are a dictionary of a property list.
type properties map[string]*element

// dict reads <dict>; of a key written twice the last counts.
func dict(e *element) properties {
	out := properties{}
	for i := 0; i+1 < len(e.kids); i++ {
		if e.kids[i].name == "key" {
			out[strings.TrimSpace(e.kids[i].text)] = e.kids[i+1]
			i++
		}
	}
	return out
}

func (d properties) text(key string) string {
	if e := d[key]; e != nil {
		return strings.TrimSpace(e.text)
	}
	return ""
}

// account makes settings of a mail payload.
func (d properties) account() (Config, error) {
	c := Config{ID: d.text("PayloadIdentifier"), Name: d.text("PayloadDisplayName")}
	in := map[string]Protocol{"EmailTypePOP": POP3, "EmailTypeIMAP": IMAP}[d.text("EmailAccountType")]
	if in == "" {
		c.skip(fmt.Sprintf("the account type %q is not known", clip(d.text("EmailAccountType"))))
	} else {
		d.server(&c, "IncomingMailServer", in)
	}
	d.server(&c, "OutgoingMailServer", SMTP)
	if len(c.Incoming)+len(c.Outgoing) == 0 {
		return c, fmt.Errorf("%w of a kind that is known", ErrEmpty)
	}
	return c, nil
}

func (d properties) server(c *Config, prefix string, kind Protocol) {
	s := Server{Protocol: kind, Username: d.text(prefix + "Username"), Authentications: []Authentication{Password}}
	if a := d.text("EmailAddress"); a != "" && strings.EqualFold(a, s.Username) {
		s.Username = PatternAddress
	}
	var ok bool
	if s.Host, ok = hostName(d.text(prefix + "HostName")); !ok {
		c.skip(fmt.Sprintf("%q is no host name", clip(d.text(prefix+"HostName"))))
		return
	}
	secure := d[prefix+"UseSSL"] != nil && d[prefix+"UseSSL"].name == "true"
	if s.Port, ok = port(d.text(prefix + "PortNumber")); !ok {
		s.Port = standardPort(kind, secure)
	}
	s.Security = byPort(s.Port, secure)
	switch d.text(prefix + "Authentication") {
	case "EmailAuthCRAMMD5", "EmailAuthHTTPMD5":
		s.Authentications = []Authentication{Encrypted}
	case "EmailAuthNTLM":
		s.Authentications = []Authentication{NTLM}
	case "EmailAuthNone":
		s.Authentications = []Authentication{NoLogin}
	}
	c.add(s)
}
