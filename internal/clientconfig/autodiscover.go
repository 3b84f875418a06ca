package clientconfig

import (
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
)

// The namespaces of Microsoft's plain old XML (MS-OXDSCLI §2.2.2).
const (
	schemaRequest  = "http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"
	schemaResponse = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
	schemaOutlook  = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
)

// Codes of an autodiscovery error (MS-OXDSCLI §2.2.4.1.1.2.3).
const (
	CodeUnknown     = 500 // the address is of no domain known here
	CodeInvalid     = 600 // the request is malformed
	CodeUnavailable = 601 // the schema asked for is not spoken
)

// Question is an autodiscovery request.
type Question struct {
	Address string // as written, not checked
	Schema  string // the response wanted
}

// ParseQuestion reads an autodiscovery request. The error wraps ErrTooLarge or ErrSyntax.
func ParseQuestion(text []byte) (Question, error) {
	root, err := readTree(text)
	if err != nil {
		return Question{}, err
	}
	req := root.kid("Request")
	if root.name != "Autodiscover" || req == nil {
		return Question{}, fmt.Errorf("%w: it is no request of autodiscovery", ErrSyntax)
	}
	return Question{Address: req.value("EMailAddress"), Schema: req.value("AcceptableResponseSchema")}, nil
}

// Ask writes an autodiscovery request for an address.
func Ask(a address.Address) []byte {
	w := xmlWriter{}
	w.open("Autodiscover", "xmlns", schemaRequest)
	w.open("Request")
	w.leaf("EMailAddress", a.String())
	w.leaf("AcceptableResponseSchema", schemaOutlook)
	w.end("Request")
	w.end("Autodiscover")
	return w.bytes()
}

// Answer is an autodiscovery response: settings, one of two kinds of redirection, or
// an error.
type Answer struct {
	Config          Config
	RedirectAddress string // ask again with this address (redirectAddr)
	RedirectURL     string // ask again there (redirectUrl)
	Code            int    // of an error; 0 for none
	Message         string // of an error
}

// ParseAnswer reads an autodiscovery response to a question about a. Login names that
// are the address or its local part become patterns. Exchange's own protocols are left
// out. The error wraps ErrTooLarge, ErrSyntax, or ErrEmpty when there is no server of a
// kind that is known.
func ParseAnswer(text []byte, a address.Address) (Answer, error) {
	root, err := readTree(text)
	if err != nil {
		return Answer{}, err
	}
	resp := root.kid("Response")
	if root.name != "Autodiscover" || resp == nil {
		return Answer{}, fmt.Errorf("%w: it is no response of autodiscovery", ErrSyntax)
	}
	if e := resp.kid("Error"); e != nil {
		code, _ := port(e.value("ErrorCode"))
		return Answer{Code: max(int(code), 1), Message: clip(e.value("Message"))}, nil
	}
	acc := resp.kid("Account")
	if acc == nil {
		return Answer{}, fmt.Errorf("%w: the response has no account", ErrEmpty)
	}
	out := Answer{RedirectAddress: acc.value("RedirectAddr"), RedirectURL: acc.value("RedirectUrl")}
	switch strings.ToLower(acc.value("Action")) {
	case "redirectaddr":
		out.RedirectURL = ""
		return out, requireText(out.RedirectAddress)
	case "redirecturl":
		out.RedirectAddress = ""
		return out, requireText(out.RedirectURL)
	}
	out = Answer{Config: Config{ID: a.Domain().String()}}
	for _, p := range acc.all("Protocol") {
		out.Config.readProtocol(p, a)
	}
	if len(out.Config.Incoming)+len(out.Config.Outgoing) == 0 {
		return out, fmt.Errorf("%w of a kind that is known", ErrEmpty)
	}
	return out, nil
}

func requireText(s string) error {
	if s == "" {
		return fmt.Errorf("%w: it leads elsewhere and does not say where", ErrSyntax)
	}
	return nil
}

// readProtocol reads <Protocol> (MS-OXDSCLI §2.2.4.1.1.2.5).
func (c *Config) readProtocol(e *element, a address.Address) {
	kind := e.value("Type")
	if kind == "" {
		kind = e.attrs["Type"]
	}
	s := Server{Protocol: Protocol(strings.ToLower(kind))}
	if s.Protocol != POP3 && s.Protocol != IMAP && s.Protocol != SMTP {
		c.skip(fmt.Sprintf("%s: the protocol %q is not for this program", clip(e.value("Server")), clip(kind)))
		return
	}
	var ok bool
	if s.Host, ok = hostName(e.value("Server")); !ok {
		c.skip(fmt.Sprintf("%q is no host name", clip(e.value("Server"))))
		return
	}
	secure := isOn(e.value("SSL"), true) // "on" unless it says otherwise
	if s.Port, ok = port(e.value("Port")); !ok {
		s.Port = standardPort(s.Protocol, secure)
	}
	switch strings.ToLower(e.value("Encryption")) { // it has the last word over SSL
	case "ssl":
		s.Security = TLS
	case "tls":
		s.Security = StartTLS
	case "none":
		s.Security = Plain
	default:
		s.Security = byPort(s.Port, secure)
	}
	s.Authentications = []Authentication{Password}
	if isOn(e.value("SPA"), true) && e.value("SPA") != "" {
		s.Authentications = []Authentication{NTLM, Password}
	}
	if !isOn(e.value("AuthRequired"), true) {
		s.Authentications = []Authentication{NoLogin}
	}
	switch login := e.value("LoginName"); {
	case strings.EqualFold(login, a.String()):
		s.Username = PatternAddress
	case login != "" && strings.EqualFold(login, a.Local()):
		s.Username = PatternLocal
	default:
		s.Username = login
	}
	c.add(s)
}

// isOn reads "on" and "off"; other is what an empty or strange word means.
func isOn(s string, other bool) bool {
	switch strings.ToLower(s) {
	case "on", "true", "yes":
		return true
	case "off", "false", "no":
		return false
	}
	return other
}

// standardPort is a protocol's port where the answer has none.
func standardPort(p Protocol, secure bool) uint16 {
	switch p {
	case POP3:
		return map[bool]uint16{true: 995, false: 110}[secure]
	case IMAP:
		return map[bool]uint16{true: 993, false: 143}[secure]
	}
	return map[bool]uint16{true: 465, false: 587}[secure]
}

// byPort says what "SSL on" means at a port: STARTTLS where TLS from the first octet
// is not spoken.
func byPort(n uint16, secure bool) Security {
	switch {
	case !secure:
		return Plain
	case n == 25 || n == 110 || n == 143 || n == 587 || n == 2525:
		return StartTLS
	}
	return TLS
}

// Autodiscover writes the settings as an autodiscovery response for a person's address.
func (c Config) Autodiscover(a address.Address) []byte {
	c = c.For(a)
	w := xmlWriter{}
	w.open("Autodiscover", "xmlns", schemaResponse)
	w.open("Response", "xmlns", schemaOutlook)
	w.open("User")
	w.leaf("DisplayName", a.String())
	w.end("User")
	w.open("Account")
	w.leaf("AccountType", "email")
	w.leaf("Action", "settings")
	for _, s := range append(c.Incoming[:len(c.Incoming):len(c.Incoming)], c.Outgoing...) {
		w.protocol(s, a)
	}
	w.end("Account")
	w.end("Response")
	w.end("Autodiscover")
	return w.bytes()
}

func (w *xmlWriter) protocol(s Server, a address.Address) {
	w.open("Protocol")
	w.leaf("Type", strings.ToUpper(string(s.Protocol)))
	w.leaf("Server", s.Host)
	w.leaf("Port", fmt.Sprint(s.Port))
	w.leaf("DomainRequired", "off")
	w.leaf("LoginName", s.Login(a))
	w.leaf("SPA", "off")
	w.leaf("SSL", map[bool]string{true: "off", false: "on"}[s.Security == Plain])
	w.leaf("Encryption", map[Security]string{Plain: "None", StartTLS: "TLS", TLS: "SSL"}[s.Security])
	w.leaf("AuthRequired", "on")
	if s.Protocol == SMTP {
		w.leaf("UsePOPAuth", "on") // the same name and password
		w.leaf("SMTPLast", "off")
	}
	w.end("Protocol")
}

// Refuse writes an autodiscovery response that says why there are no settings.
func Refuse(code int, message string) []byte {
	w := xmlWriter{}
	w.open("Autodiscover", "xmlns", schemaResponse)
	w.open("Response")
	w.open("Error")
	w.leaf("ErrorCode", fmt.Sprint(code))
	w.leaf("Message", message)
	w.leaf("DebugData", "")
	w.end("Error")
	w.end("Response")
	w.end("Autodiscover")
	return w.bytes()
}
