package discover

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"crypto/tls"
	"crypto/x509"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/resolver"
)

// Step is one thing that was tried. Steps hold no credential, and no local part beyond
// what a URL had to carry.
type Step struct {
	Source Source `json:"source"`
	What   string `json:"what"` // a URL, the name of a record, or PROTOCOL HOST:PORT
	Result Result `json:"result"`
	Detail string `json:"detail,omitempty"` // what a server said, a host, a size
}

// OK reports whether the step was a success.
func (s Step) OK() bool {
	return s.Result == Found || s.Result == LoggedIn || s.Result == Open || s.Result == InUse
}

// Result is what came of a step.
type Result string

// The results of looking for settings.
const (
	Found         Result = "found"
	Absent        Result = "absent"         // no such record, host or page
	Declined      Result = "declined"       // DNS says that the service isn't offered (RFC 2782: ".")
	NoDNS         Result = "no-dns"         // DNS gave no answer
	Status        Result = "status"         // another HTTP status than 200
	AsksPassword  Result = "asks-password"  // settings are told after a login only
	PlainRedirect Result = "plain-redirect" // leads to a URL that isn't https
	RedirectLoop  Result = "redirect-loop"  // leads on and on
	TooLarge      Result = "too-large"      //
	Malformed     Result = "malformed"      // what came are no settings
	OnlyIMAP      Result = "only-imap"      // settings without POP3
	NoServer      Result = "no-server"      // settings without any server that can be used
	Turned        Result = "turned-away"    // an autodiscovery error
	Late          Result = "not-in-time"    // the time for all of it was over
)

// The results of connecting and logging in.
const (
	LoggedIn      Result = "logged-in"
	Open          Result = "open"           // takes mail from here without a login
	Refused       Result = "refused"        // nobody listens
	Timeout       Result = "timeout"        // no answer: mostly a blocked port
	Unreachable   Result = "unreachable"    //
	Lost          Result = "lost"           // the server hung up
	CertUnknown   Result = "cert-unknown"   // self-signed, or an authority that is not trusted
	CertExpired   Result = "cert-expired"   //
	CertName      Result = "cert-name"      // for another name
	CertInvalid   Result = "cert-invalid"   // for another reason
	NoTLS         Result = "no-tls"         // STARTTLS isn't offered, or TLS isn't spoken
	OtherProtocol Result = "other-protocol" // something else than mail answers
	WrongPassword Result = "wrong-password"
	NoMechanism   Result = "no-mechanism" // no way to log in that both sides know
	NeedsOAuth    Result = "needs-oauth"  // takes tokens, not passwords
	InUse         Result = "in-use"       // another session has the mailbox
	Later         Result = "later"        // a fault there, or too many logins
	Trouble       Result = "trouble"      // a refusal that is none of these
)

// sentences are the results in English and in Polish.
var sentences = map[Result][2]string{
	Found:         {"found", "znaleziono"},
	Absent:        {"there is nothing", "nic tam nie ma"},
	Declined:      {"the domain says that it does not offer this service", "domena podaje, że nie oferuje tej usługi"},
	NoDNS:         {"DNS gave no answer; try again later", "DNS nie odpowiedział; spróbuj później"},
	Status:        {"the web server has no settings there", "serwer WWW nie ma tam ustawień"},
	AsksPassword:  {"settings are told after a login only; no password was sent", "ustawienia dostępne dopiero po zalogowaniu; hasła nie wysłano"},
	PlainRedirect: {"it leads to an address without encryption, which is not used", "prowadzi pod adres bez szyfrowania, którego się nie używa"},
	RedirectLoop:  {"it leads from one address to the next without end", "prowadzi bez końca spod jednego adresu pod drugi"},
	TooLarge:      {"the answer is too large to be settings", "odpowiedź jest za duża jak na ustawienia"},
	Malformed:     {"what came is not settings", "to, co przyszło, nie jest ustawieniami"},
	OnlyIMAP:      {"the settings have no POP3 server, only IMAP", "w ustawieniach nie ma serwera POP3, jest tylko IMAP"},
	NoServer:      {"the settings have no server that can be used", "w ustawieniach nie ma serwera, którego można użyć"},
	Turned:        {"the server has no settings for this address", "serwer nie ma ustawień dla tego adresu"},
	Late:          {"there was no time left for it", "zabrakło na to czasu"},

	LoggedIn:      {"logged in", "zalogowano"},
	Open:          {"it takes mail from here without a login", "przyjmuje stąd pocztę bez logowania"},
	Refused:       {"nobody listens there", "nikt tam nie nasłuchuje"},
	Timeout:       {"no answer; the port is probably blocked on the way", "brak odpowiedzi; port jest zapewne zablokowany po drodze"},
	Unreachable:   {"it can't be reached", "nie da się tam połączyć"},
	Lost:          {"the server closed the connection", "serwer zamknął połączenie"},
	CertUnknown:   {"the certificate is self-signed or from an unknown authority; nothing was sent. If you trust it, name its authority for this account", "certyfikat jest podpisany przez samego siebie lub nieznany urząd; nic nie wysłano. Jeśli mu ufasz, wskaż jego urząd dla tego konta"},
	CertExpired:   {"the certificate has expired or is not valid yet; nothing was sent. Check this computer's clock, or tell the provider", "certyfikat wygasł albo jeszcze nie obowiązuje; nic nie wysłano. Sprawdź zegar komputera albo powiadom dostawcę"},
	CertName:      {"the certificate is for another name; nothing was sent", "certyfikat jest na inną nazwę; nic nie wysłano"},
	CertInvalid:   {"the certificate can't be verified; nothing was sent", "certyfikatu nie da się sprawdzić; nic nie wysłano"},
	NoTLS:         {"the server does not encrypt; nothing was sent", "serwer nie szyfruje; nic nie wysłano"},
	OtherProtocol: {"something else than a mail server answers", "odpowiada coś innego niż serwer poczty"},
	WrongPassword: {"the server does not take this name and password", "serwer nie przyjmuje tej nazwy i hasła"},
	NoMechanism:   {"the server offers no way to log in that is known and safe", "serwer nie oferuje znanego i bezpiecznego sposobu logowania"},
	NeedsOAuth:    {"the provider asks for a login in the browser (OAuth2) instead of a password; no password was sent", "dostawca wymaga logowania w przeglądarce (OAuth2) zamiast hasła; hasła nie wysłano"},
	InUse:         {"another program has the mailbox open; the password was taken", "skrzynka jest otwarta w innym programie; hasło przyjęto"},
	Later:         {"the server can't log anyone in now; try again later", "serwer nie może teraz nikogo zalogować; spróbuj później"},
	Trouble:       {"the server refused", "serwer odmówił"},
}

// Text says a step in a sentence for people, in English, or in Polish for "pl".
func (s Step) Text(language string) string {
	t, ok := sentences[s.Result]
	text := string(s.Result)
	if ok {
		text = choose(language, t[0], t[1])
	}
	if s.Detail != "" {
		text += " (" + s.Detail + ")"
	}
	return s.What + ": " + text
}

// connectionRefused are the system's words for it: POSIX's, and Windows' WSAECONNREFUSED.
var connectionRefused = []error{syscall.ECONNREFUSED, syscall.Errno(10061)}

// hangups end a connection from the other side.
var hangups = []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.Errno(10054)}

// failure says what an error of connecting, of TLS or of reading settings means.
func failure(err error) (Result, string) {
	if r, detail, ok := certificateFailure(err); ok {
		return r, detail
	}
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, clientconfig.ErrTooLarge):
		return TooLarge, ""
	case errors.Is(err, clientconfig.ErrSyntax):
		return Malformed, ""
	case errors.Is(err, clientconfig.ErrEmpty):
		return NoServer, ""
	case errors.Is(err, resolver.ErrNotFound), errors.Is(err, resolver.ErrName):
		return Absent, ""
	case errors.Is(err, resolver.ErrTemporary):
		return NoDNS, ""
	case isAny(err, connectionRefused):
		return Refused, ""
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return Timeout, ""
	case isAny(err, hangups):
		return Lost, ""
	}
	return Unreachable, clip(err.Error())
}

func isAny(err error, list []error) bool {
	for _, e := range list {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// certificateFailure tells the faults of certificates, and of TLS itself, apart.
func certificateFailure(err error) (Result, string, bool) {
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		who := ""
		if unknown.Cert != nil {
			who = clip(unknown.Cert.Issuer.CommonName)
		}
		return CertUnknown, who, true
	}
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		names := ""
		if name.Certificate != nil {
			names = clip(strings.Join(name.Certificate.DNSNames, ", "))
		}
		return CertName, names, true
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if invalid.Reason == x509.Expired {
			until := ""
			if invalid.Cert != nil {
				until = fmt.Sprintf("%s – %s", invalid.Cert.NotBefore.Format("2006-01-02"), invalid.Cert.NotAfter.Format("2006-01-02"))
			}
			return CertExpired, until, true
		}
		return CertInvalid, clip(invalid.Error()), true
	}
	if v, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return CertInvalid, clip(v.Err.Error()), true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return NoTLS, "", true
	}
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return NoTLS, clip(alert.Error()), true
	}
	return "", "", false
}

// clip makes one short line of foreign text.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return strings.TrimSpace(s)
}
