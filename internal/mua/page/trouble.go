package page

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"regexp"
	"strings"
	"time"

	bodies "poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/discover"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/identity"
	"poczta.example/poczta/internal/mua/line"
	"poczta.example/poczta/internal/mua/oauth"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/mua/vault"
	"poczta.example/poczta/internal/pop3client"
	"poczta.example/poczta/internal/smtpclient"
)

// saying is a sentence in English and in Polish; %s stands for what it is about.
type saying struct{ en, pl string }

// about puts what it is about into a text.
func (t *words) about(text, what string) string { return strings.Replace(text, "%s", what, 1) }

// say says it.
func (t *words) say(s saying, about ...string) string {
	text := s.en
	if t.Lang == polish.Lang {
		text = s.pl
	}
	for _, a := range about {
		text = strings.Replace(text, "%s", a, 1)
	}
	return text
}

// sentinels are errors that mean one thing, in the order in which they are looked for.
var sentinels = []struct {
	err error
	is  saying
}{
	{ErrNoServers, saying{"No servers for fetching and sending were found. Your provider's help pages name them: press “Change and try again” and enter them under “Servers by hand”.", "Nie znaleziono serwerów do pobierania i wysyłania. Podają je strony pomocy dostawcy: naciśnij „Popraw i spróbuj jeszcze raz” i wpisz je w „Serwery podane ręcznie”."}},
	{ErrUnconfirmed, saying{"No server was confirmed, so nothing was sent and nothing is saved. You can press “Change and try again” and enter the servers under “Servers by hand”.", "Nie potwierdzono żadnego serwera, więc nic nie wysłano ani nie zapisano. Możesz nacisnąć „Popraw i spróbuj jeszcze raz” i wpisać serwery w „Serwery podane ręcznie”."}},
	{ErrCredentials, saying{"The password or the login name was refused, and was not tried again. Nothing is saved. Many providers want an app password for mail programs.", "Serwer odrzucił hasło albo nazwę logowania; nie próbowano ponownie i nic nie zapisano. Wielu dostawców wymaga osobnego hasła dla programów pocztowych."}},
	{ErrNoPassword, saying{"No password was given.", "Nie podano hasła."}},
	{ErrNoLogin, saying{"The login to both servers did not succeed; what was tried stands below. Nothing is saved.", "Nie udało się zalogować do obu serwerów; przebieg prób jest niżej. Nic nie zapisano."}},
	{ErrNoClient, saying{"This provider takes no passwords but a login in the browser (OAuth2), from programs that are registered there. Press “Change and try again” and enter the client id that you got for this program under “Login in the browser”.", "Ten dostawca nie przyjmuje haseł, tylko logowanie w przeglądarce (OAuth2) z zarejestrowanych u niego programów. Naciśnij „Popraw i spróbuj jeszcze raz” i wpisz identyfikator klienta uzyskany dla tego programu w „Logowanie w przeglądarce”."}},
	{ErrUnsent, saying{"Letters of this account wait in the outbox. Send them, or take them back, before you remove it.", "Listy z tego konta czekają w skrzynce nadawczej. Wyślij je albo cofnij, zanim usuniesz konto."}},
	{ErrReserved, saying{"Letters that wait to be sent lie in this folder: it can't be made, renamed or removed.", "W tym folderze leżą listy czekające na wysłanie: nie da się go utworzyć, przemianować ani usunąć."}},
	{ErrWithin, saying{"A folder can't be moved into itself.", "Folderu nie da się przenieść do niego samego."}},
	{errLeftAlone, saying{"It was stopped; nothing is saved.", "Przerwano; nic nie zapisano."}},
	{vault.ErrLocked, saying{"Your passwords are locked: enter the passphrase.", "Hasła są zamknięte: podaj hasło do ich pliku."}},
	{vault.ErrPassphrase, saying{"The passphrase is wrong.", "To nie jest hasło do tego pliku."}},
	{vault.ErrNoKeyring, saying{"The system's keyring does not answer; unlock it and try again.", "Systemowy pęk kluczy nie odpowiada; odblokuj go i spróbuj jeszcze raz."}},
	{vault.ErrNotFound, saying{"No password is known for this account; enter it in the settings.", "Nie ma zapisanego hasła do tego konta; podaj je w ustawieniach."}},
	{oauth.ErrDenied, saying{"The provider says that access was denied.", "Dostawca odmówił dostępu."}},
	{oauth.ErrExpired, saying{"The provider no longer accepts this login; log in again in the settings.", "Dostawca nie przyjmuje już tego logowania; zaloguj się ponownie w ustawieniach."}},
	{oauth.ErrLate, saying{"The code was not entered in time, so it is no longer good. Begin again to get another.", "Kodu nie wpisano na czas, więc nie jest już ważny. Zacznij jeszcze raz, aby dostać nowy."}},
	{oauth.ErrAway, saying{"The provider can't be reached; is this computer on the network?", "Nie da się połączyć z dostawcą. Czy ten komputer jest w sieci?"}},
	{identity.ErrLarge, saying{"The file is larger than 256 KiB, which no certificate with its key is.", "Plik jest większy niż 256 KiB; żaden certyfikat z kluczem nie jest tak duży."}},
	{identity.ErrNeedsPassword, saying{"The file is protected by a password: enter it beside the file.", "Plik jest chroniony hasłem: podaj je obok pliku."}},
	{identity.ErrPassword, saying{"The password of the file is wrong.", "Hasło do pliku jest błędne."}},
	{identity.ErrNoKey, saying{"The file holds a certificate without its private key. Choose the file with both, or two PEM files.", "W pliku jest certyfikat bez klucza prywatnego. Wybierz plik z obojgiem albo dwa pliki PEM."}},
	{identity.ErrNoCertificate, saying{"The file holds a private key without its certificate. Choose the file with both, or two PEM files.", "W pliku jest klucz prywatny bez certyfikatu. Wybierz plik z obojgiem albo dwa pliki PEM."}},
	{identity.ErrMismatch, saying{"The private key does not belong to the certificate.", "Klucz prywatny nie pasuje do certyfikatu."}},
	{identity.ErrOldKey, saying{"The key in the file is encrypted in an outdated way. Ask who issued the certificate for a PKCS#12 file (.p12).", "Klucz w pliku jest zaszyfrowany w przestarzały sposób. Poproś wydawcę certyfikatu o plik PKCS#12 (.p12)."}},
	{identity.ErrKeyGone, saying{"The key of your certificate is not known here: upload the certificate with its key again.", "Nie ma tu klucza do Twojego certyfikatu: wczytaj certyfikat z kluczem jeszcze raz."}},
	{identity.ErrUnreadable, saying{"This is no certificate that can be read: choose a file in PEM or PKCS#12 form.", "Nie da się odczytać certyfikatu: wybierz plik PEM albo PKCS#12."}},
	{fetch.ErrBusy, saying{"This account's mail is being fetched already.", "Poczta tego konta jest właśnie pobierana."}},
	{fetch.ErrEnded, saying{"The fetch was ended, since the account is being removed.", "Pobieranie przerwano, bo konto jest usuwane."}},
	{fetch.ErrLeft, saying{"The server does not have this letter any more; only its header is here.", "Serwer nie ma już tego listu; tutaj jest tylko jego nagłówek."}},
	{outbox.ErrNotFound, saying{"There is no such letter in the outbox.", "Nie ma takiego listu w skrzynce nadawczej."}},
	{outbox.ErrLeft, saying{"It is too late: somebody has the letter already, or perhaps has it.", "Za późno: ktoś już ma ten list albo być może go ma."}},
	{outbox.ErrUndecided, saying{"There is nothing to decide about this letter.", "O tym liście nie ma nic do rozstrzygnięcia."}},
	{outbox.ErrRecipients, saying{"Name somebody who should get the letter.", "Podaj kogoś, kto ma dostać list."}},
	{outbox.ErrAddress, saying{"That is no e-mail address.", "To nie jest adres e-mail."}},
	{outbox.ErrAccount, saying{"No account of yours may write from this address.", "Żadne z Twoich kont nie może pisać z tego adresu."}},
	{outbox.ErrHeader, saying{"The header section is larger than 1 MiB.", "Nagłówek listu jest większy niż 1 MiB."}},
	{store.ErrStandard, saying{"Every account has this folder: it can't be renamed or removed.", "Ten folder ma każde konto: nie da się go przemianować ani usunąć."}},
	{mailbox.ErrBadName, saying{"A folder's name has up to 255 octets, no control characters, and between two slashes always something.", "Nazwa folderu ma najwyżej 255 bajtów, nie ma znaków sterujących, a między ukośnikami zawsze coś jest."}},
	{mailbox.ErrExists, saying{"There is a folder of this name already.", "Folder o tej nazwie już istnieje."}},
	{profile.ErrExists, saying{"There is an account with this address already.", "Konto z tym adresem już istnieje."}},
	{profile.ErrArchive, saying{"This is an archive: it keeps letters, and neither fetches nor sends. To write, add an account in the settings.", "To jest archiwum: przechowuje listy, ale nie pobiera ani nie wysyła. Aby pisać, dodaj konto w ustawieniach."}},
	{profile.ErrNotFound, saying{"There is no such account.", "Nie ma takiego konta."}},
	{store.ErrBusy, saying{"Another program uses the mail folder.", "Inny program używa folderu poczty."}},
	{store.ErrNotFound, saying{"There is no such letter, folder or rule.", "Nie ma takiego listu, folderu ani reguły."}},
	{discover.ErrUnconfirmed, saying{"A server outside the address's domain must be confirmed first.", "Serwer spoza domeny adresu trzeba najpierw potwierdzić."}},
	{bodies.ErrDamaged, saying{"The letter is damaged on this computer's disk. If it is still on the server, it can be fetched again; else a backup has it.", "List jest uszkodzony na dysku tego komputera. Jeśli serwer wciąż go ma, można pobrać go ponownie; inaczej jest w kopii zapasowej."}},
	{db.ErrFull, saying{"The disk is full. Make room and try again; nothing was lost.", "Na dysku nie ma miejsca. Zwolnij je i spróbuj jeszcze raz; nic nie przepadło."}},
}

// kinds are what pop3client's kinds mean for a person.
var kinds = map[pop3client.Kind]saying{
	pop3client.KindNetwork:     {"The connection to the server broke, or it was silent. It is tried again.", "Połączenie z serwerem zerwało się albo serwer milczał. Próba będzie powtórzona."},
	pop3client.KindTLS:         {"No safe connection (TLS) to the server came about; no password was sent.", "Nie udało się bezpiecznie (TLS) połączyć z serwerem; hasła nie wysłano."},
	pop3client.KindProtocol:    {"The server does not keep to the protocol.", "Serwer nie trzyma się protokołu."},
	pop3client.KindCredentials: {"The server refuses the login name or the password; change it in the settings.", "Serwer nie przyjmuje nazwy logowania albo hasła; zmień je w ustawieniach."},
	pop3client.KindInUse:       {"Another program has the mailbox open; it is tried again.", "Skrzynka jest otwarta w innym programie; próba będzie powtórzona."},
	pop3client.KindDelay:       {"The server wants more time between two logins; it is tried again.", "Serwer wymaga dłuższej przerwy między logowaniami; próba będzie powtórzona."},
	pop3client.KindTemporary:   {"The server has trouble that passes; it is tried again.", "Serwer ma przejściowe kłopoty; próba będzie powtórzona."},
	pop3client.KindPermanent:   {"The server has trouble that does not pass by itself; ask the provider.", "Serwer ma trwałe kłopoty; zapytaj dostawcę."},
	pop3client.KindRefused:     {"The server refused.", "Serwer odmówił."},
	pop3client.KindStopped:     {"It was stopped.", "Przerwano."},
	pop3client.KindUnsupported: {"The server does not offer what is needed for a safe login.", "Serwer nie oferuje tego, czego wymaga bezpieczne logowanie."},
}

// Sayings of other errors.
var (
	sayUntrusted   = saying{"The certificate of %s is not trusted: %s. No password was sent there. In the account's settings you can look at it, and accept it if you know that it is right.", "Certyfikat serwera %s nie jest zaufany: %s. Nie wysłano tam hasła. W ustawieniach konta można go obejrzeć i przyjąć, jeśli wiadomo, że jest właściwy."}
	sayUnreachable = saying{"%s can't be reached; is this computer on the network?", "Nie da się połączyć z: %s. Czy ten komputer jest w sieci?"}
	sayOffline     = saying{"The server can't be reached; is this computer on the network?", "Nie da się połączyć z serwerem. Czy ten komputer jest w sieci?"}
	saySilent      = saying{"It took too long and was given up.", "Trwało to za długo, więc przerwano."}
	saySaid        = saying{" The server said: “%s”", " Serwer odpowiedział: „%s”"}
	sayRefused     = saying{"The server refused to send the letter.", "Serwer odmówił wysłania listu."}
	sayLater       = saying{"The server can't do it now; it is tried again.", "Serwer nie może teraz tego zrobić; próba będzie powtórzona."}
	sayLacks       = saying{"The server does not offer what this needs (%s).", "Serwer nie oferuje tego, co jest do tego potrzebne (%s)."}
	sayFile        = saying{"This file can't be read: %s", "Nie da się odczytać pliku: %s"}
	sayExpired     = saying{"The certificate is valid from %s until %s alone, so servers refuse it. Ask who issued it for a new one.", "Certyfikat jest ważny tylko od %s do %s, więc serwery go nie przyjmą. Poproś wydawcę o nowy."}
	sayOther       = saying{"It did not work. The program says: “%s”", "Nie udało się. Program podaje: „%s”"}
)

// trouble says an error to a person. What a server or the system said stays in its words, between
// quotation marks.
func (t *words) trouble(err error) string {
	if e, ok := errors.AsType[*line.CertificateError](err); ok {
		return t.say(sayUntrusted, e.Host, t.certificate(e.Err))
	}
	if e, ok := errors.AsType[*identity.ExpiredError](err); ok {
		return t.say(sayExpired, e.From.Format(time.DateOnly), e.Until.Format(time.DateOnly))
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return t.say(s.is)
		}
	}
	if errors.Is(err, store.ErrRule) {
		return t.ruleTrouble(err)
	}
	if disk.IsFull(err) {
		return t.trouble(db.ErrFull)
	}
	if s := t.session(err); s != "" {
		return s
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return t.say(saySilent)
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return t.say(sayFile, e.Path)
	}
	return t.say(sayOther, err.Error())
}

// session says an error of a session with a server, or of the way there; "" for others.
func (t *words) session(err error) string {
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return t.say(sayUnreachable, e.Name)
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		if e.Addr != nil {
			return t.say(sayUnreachable, e.Addr.String())
		}
		return t.say(sayOffline)
	}
	if e, ok := errors.AsType[*smtpclient.Error](err); ok {
		return t.smtp(e)
	}
	if e, ok := errors.AsType[*smtpclient.Unsupported](err); ok {
		return t.say(sayLacks, e.Extension)
	}
	if k := pop3client.KindOf(err); k != pop3client.KindOther {
		text := t.say(kinds[k])
		if e, ok := errors.AsType[*pop3client.Error](err); ok && e.Reply != "" {
			text += t.say(saySaid, e.Reply)
		}
		return text
	}
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	if record || alert {
		return t.say(kinds[pop3client.KindTLS])
	}
	return ""
}

func (t *words) smtp(e *smtpclient.Error) string {
	said := ""
	if e.Reply != nil {
		said = t.say(saySaid, strings.Join(strings.Fields(e.Reply.String()), " "))
	}
	switch {
	case e.Stage == smtpclient.StageStartTLS || e.Stage == smtpclient.StageTLS:
		return t.say(kinds[pop3client.KindTLS]) + said
	case e.Stage == smtpclient.StageAuth && e.Permanent():
		return t.say(kinds[pop3client.KindCredentials]) + said
	case e.Permanent():
		return t.say(sayRefused) + said
	case e.Reply != nil:
		return t.say(sayLater) + said
	case e.Local:
		return t.say(sayOther, e.Error())
	}
	return t.say(kinds[pop3client.KindNetwork])
}

// Sayings of certificates.
var (
	certOther   = saying{"it is another than the one that was accepted", "jest inny niż ten, który przyjęto"}
	certUnknown = saying{"it is self-signed, or its authority is unknown here", "jest podpisany przez samego siebie albo przez nieznany tu urząd"}
	certName    = saying{"it is for another name (%s)", "jest na inną nazwę (%s)"}
	certExpired = saying{"it is valid from %s to %s alone; is this computer's clock right?", "jest ważny tylko od %s do %s; czy zegar tego komputera dobrze chodzi?"}
	certInvalid = saying{"it can't be verified", "nie da się go sprawdzić"}
)

// certificate says what is wrong with a certificate.
func (t *words) certificate(err error) string {
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		names := "?"
		if e.Certificate != nil && len(e.Certificate.DNSNames) > 0 {
			names = strings.Join(e.Certificate.DNSNames[:min(len(e.Certificate.DNSNames), 3)], ", ")
		}
		return t.say(certName, names)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return t.say(certUnknown)
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired && e.Cert != nil {
		return t.say(certExpired, e.Cert.NotBefore.Format("2006-01-02"), e.Cert.NotAfter.Format("2006-01-02"))
	} else if ok {
		return t.say(certInvalid)
	}
	if err != nil && strings.Contains(err.Error(), "another than the one") {
		return t.say(certOther)
	}
	return t.say(certInvalid)
}

// ruleSayings are what the store says of rules that can't be carried out.
var ruleSayings = []struct {
	re *regexp.Regexp
	is saying
}{
	{regexp.MustCompile(`give it a name`), saying{"Give the rule a name of at most 200 octets.", "Podaj nazwę reguły, najwyżej 200 bajtów."}},
	{regexp.MustCompile(`more than (\d+) conditions`), saying{"A rule has at most %s conditions.", "Reguła ma najwyżej tyle warunków: %s."}},
	{regexp.MustCompile(`it does nothing`), saying{"The rule does nothing: choose a folder, a mark, Trash, or that no later rule is asked.", "Reguła nic nie robi: wybierz folder, oznaczenie, kosz albo że dalsze reguły nie są pytane."}},
	{regexp.MustCompile(`both moved and deleted`), saying{"A letter can't be both moved to a folder and to Trash.", "Listu nie da się zarazem przenieść do folderu i do kosza."}},
	{regexp.MustCompile(`a value is longer than (\d+)`), saying{"What is looked for has at most %s octets.", "To, czego reguła szuka, ma najwyżej tyle bajtów: %s."}},
	{regexp.MustCompile(`"([^"]*)" is no field`), saying{"“%s” is no field of a letter that rules know.", "„%s” nie jest polem listu, które znają reguły."}},
	{regexp.MustCompile(`"([^"]*)" is unknown`), saying{"“%s” does not go with this field; sizes are larger or smaller, all else is compared as text.", "„%s” nie pasuje do tego pola; wielkość jest większa lub mniejsza, wszystko inne porównuje się jak tekst."}},
	{regexp.MustCompile(`error parsing regexp: (.*)`), saying{"The expression can't be read: “%s”", "Nie da się odczytać wyrażenia: „%s”"}},
	{regexp.MustCompile(`says nothing to look for`), saying{"A condition does not say what to look for.", "Warunek nie mówi, czego szukać."}},
	{regexp.MustCompile(`there are (\d+) already`), saying{"There are %s rules already; more are not kept.", "Jest już tyle reguł: %s; więcej się nie zmieści."}},
	{regexp.MustCompile(`size "([^"]*)"`), saying{"“%s” is no size; write whole kilobytes.", "„%s” nie jest wielkością; podaj pełne kilobajty."}},
}

func (t *words) ruleTrouble(err error) string {
	for _, s := range ruleSayings {
		if m := s.re.FindStringSubmatch(err.Error()); m != nil {
			return t.say(s.is, m[1:]...)
		}
	}
	return t.say(sayOther, err.Error())
}

var quotedWord = regexp.MustCompile(`"([^"]*)"|(\S+:\S+)`)

// searchTrouble says why a search can't be understood.
func (t *words) searchTrouble(err error) string {
	detail := strings.TrimPrefix(err.Error()[strings.Index(err.Error(), store.ErrQuery.Error())+len(store.ErrQuery.Error()):], ": ")
	about := ""
	if m := quotedWord.FindStringSubmatch(detail); m != nil {
		about = m[1] + m[2]
	}
	if about != "" {
		return t.about(t.SearchWord, strings.TrimRight(about, ";,.")) + " " + t.SearchTry + " " + t.SearchHint
	}
	return t.SearchBad + ". " + t.SearchTry + " " + t.SearchHint
}
