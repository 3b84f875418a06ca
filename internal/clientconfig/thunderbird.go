package clientconfig

import (
	"fmt"
	"slices"
	"strings"
)

// Parse reads Thunderbird's clientConfig, version 1.1 or a later one. A server whose
// words are not understood is left out and named in Skipped. The error wraps
// ErrTooLarge, ErrSyntax, or ErrEmpty when no server is left.
func Parse(text []byte) (Config, error) {
	root, err := readTree(text)
	if err != nil {
		return Config{}, err
	}
	if root.name != "clientConfig" {
		return Config{}, fmt.Errorf("%w: it is <%s>, not <clientConfig>", ErrSyntax, clip(root.name))
	}
	p := root.kid("emailProvider")
	if p == nil {
		return Config{}, fmt.Errorf("%w: there is no <emailProvider>", ErrEmpty)
	}
	c := Config{ID: p.attrs["id"], Name: p.value("displayName"), ShortName: p.value("displayShortName"), OAuth: readOAuth(root, p)}
	for _, d := range p.all("domain") {
		if name := strings.TrimSpace(d.text); name != "" {
			c.Domains = append(c.Domains, name)
		}
	}
	for _, e := range p.kids {
		switch e.name {
		case "incomingServer", "outgoingServer":
			c.readServer(e)
		case "documentation":
			c.Documentation = append(c.Documentation, Link{URL: e.attrs["url"], Text: e.value("descr")})
		}
	}
	if len(c.Incoming)+len(c.Outgoing) == 0 {
		return c, fmt.Errorf("%w of a kind that is known", ErrEmpty)
	}
	return c, nil
}

// readOAuth reads <oAuth2>, which stands beside or in the provider.
func readOAuth(root, provider *element) *OAuth {
	for _, e := range []*element{root.kid("oAuth2"), provider.kid("oAuth2")} {
		if e != nil {
			return &OAuth{Issuer: e.value("issuer"), Scope: strings.Join(strings.Fields(e.value("scope")), " "),
				AuthURL: e.value("authURL"), TokenURL: e.value("tokenURL")}
		}
	}
	return nil
}

// readServer reads <incomingServer> or <outgoingServer>.
func (c *Config) readServer(e *element) {
	s := Server{Protocol: Protocol(strings.ToLower(e.attrs["type"])), Username: e.value("username")}
	outgoing := e.name == "outgoingServer"
	host := e.value("hostname")
	if ok := s.Protocol == SMTP && outgoing || (s.Protocol == POP3 || s.Protocol == IMAP) && !outgoing; !ok {
		c.skip(fmt.Sprintf("%s: the type %q is not known", clip(host), clip(e.attrs["type"])))
		return
	}
	if strings.Contains(host, "%") { // For replaces it
		s.Host = strings.ToLower(strings.ReplaceAll(host, " ", ""))
		for _, p := range []string{PatternAddress, PatternLocal, PatternDomain} {
			s.Host = strings.ReplaceAll(s.Host, strings.ToLower(p), p)
		}
	} else if name, ok := hostName(host); ok {
		s.Host = name
	} else {
		c.skip(fmt.Sprintf("%q is no host name", clip(host)))
		return
	}
	var ok bool
	if s.Port, ok = port(e.value("port")); !ok {
		c.skip(fmt.Sprintf("%s: %q is no port", s.Host, clip(e.value("port"))))
		return
	}
	if s.Security, ok = security(e.value("socketType")); !ok {
		c.skip(fmt.Sprintf("%s: the socketType %q is not known", s.Host, clip(e.value("socketType"))))
		return
	}
	s.Authentications = readAuthentications(e)
	if len(s.Authentications) == 0 && len(e.all("authentication")) > 0 {
		c.skip(fmt.Sprintf("%s: no authentication is of a kind that is known", s.Host))
		return
	}
	if p := e.kid("pop3"); p != nil {
		s.LeaveOnServer = p.value("leaveMessagesOnServer") == "true"
	}
	c.add(s)
}

// security reads <socketType>, with the words that older programs took.
func security(s string) (Security, bool) {
	switch strings.ToLower(s) {
	case "ssl", "tls":
		return TLS, true
	case "starttls":
		return StartTLS, true
	case "plain":
		return Plain, true
	}
	return "", false
}

// readAuthentications reads what is known of <authentication> and <restriction>.
func readAuthentications(e *element) []Authentication {
	known := []Authentication{Password, Encrypted, OAuth2, NTLM, Kerberos, Certificate, ClientIP, NoLogin}
	var out []Authentication
	for _, a := range slices.Concat(e.all("authentication"), e.all("restriction")) {
		kind := Authentication(strings.TrimSpace(a.text))
		switch strings.ToLower(string(kind)) {
		case "plain": // before version 1.1
			kind = Password
		case "secure", "cram-md5":
			kind = Encrypted
		case "smtp-after-pop", "": // nothing that a program could do now
			continue
		}
		i := slices.IndexFunc(known, func(k Authentication) bool { return strings.EqualFold(string(k), string(kind)) })
		if i >= 0 && !slices.Contains(out, known[i]) {
			out = append(out, known[i])
		}
	}
	return out
}

// XML writes the settings as clientConfig version 1.1, lines ended by LF.
func (c Config) XML() []byte {
	w := xmlWriter{}
	w.open("clientConfig", "version", "1.1")
	w.open("emailProvider", "id", c.ID)
	for _, d := range c.Domains {
		w.leaf("domain", d)
	}
	w.some("displayName", c.Name)
	w.some("displayShortName", c.ShortName)
	for _, s := range slices.Concat(c.Incoming, c.Outgoing) {
		w.server(s)
	}
	for _, d := range c.Documentation {
		w.open("documentation", "url", d.URL)
		w.some("descr", d.Text)
		w.end("documentation")
	}
	w.end("emailProvider")
	if o := c.OAuth; o != nil {
		w.open("oAuth2")
		w.leaf("issuer", o.Issuer)
		w.leaf("scope", o.Scope)
		w.leaf("authURL", o.AuthURL)
		w.leaf("tokenURL", o.TokenURL)
		w.end("oAuth2")
	}
	w.end("clientConfig")
	return w.bytes()
}

func (w *xmlWriter) server(s Server) {
	name := "incomingServer"
	if s.Protocol == SMTP {
		name = "outgoingServer"
	}
	w.open(name, "type", string(s.Protocol))
	w.leaf("hostname", s.Host)
	w.leaf("port", fmt.Sprint(s.Port))
	w.leaf("socketType", string(s.Security))
	for _, a := range s.Authentications {
		w.leaf("authentication", string(a))
	}
	w.some("username", s.Username)
	if s.LeaveOnServer {
		w.open("pop3")
		w.leaf("leaveMessagesOnServer", "true")
		w.end("pop3")
	}
	w.end(name)
}

// xmlWriter writes elements, one a line.
type xmlWriter struct {
	b     strings.Builder
	depth int
}

func (w *xmlWriter) line(s string) {
	w.b.WriteString(strings.Repeat("  ", w.depth) + s + "\n")
}

// open begins an element with attributes: names and values in turn.
func (w *xmlWriter) open(name string, attrs ...string) {
	tag := "<" + name
	for i := 0; i+1 < len(attrs); i += 2 {
		tag += " " + attrs[i] + `="` + escape(attrs[i+1]) + `"`
	}
	w.line(tag + ">")
	w.depth++
}

func (w *xmlWriter) end(name string) {
	w.depth--
	w.line("</" + name + ">")
}

func (w *xmlWriter) leaf(name, text string) {
	w.line("<" + name + ">" + escape(text) + "</" + name + ">")
}

// some writes an element unless it would be empty.
func (w *xmlWriter) some(name, text string) {
	if text != "" {
		w.leaf(name, text)
	}
}

func (w *xmlWriter) bytes() []byte {
	return []byte(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + w.b.String())
}
