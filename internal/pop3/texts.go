package pop3

// The texts of replies. Those of errors say what to do where there is something
// to be done.
const (
	TextNone Text = iota
	TextReady
	TextBye
	TextByeRemoved
	TextRemoveFailed
	TextMaildrop
	TextPassword
	TextCapa
	TextLanguages
	TextLanguage
	TextNoLanguage
	TextUTF8
	TextUTF8Twice
	TextBeginTLS
	TextNoTLS
	TextTLSActive
	TextTLSAfterUTF8
	TextTLSPipelined
	TextTLSFailed
	TextMechanisms
	TextNoMechanism
	TextCancelled
	TextBadBase64
	TextMalformed
	TextNeedTLS
	TextCredentials
	TextThrottled
	TextUnavailable
	TextLoginDelay
	TextTooManyLogins
	TextNeedUser
	TextUnknown
	TextArguments
	TextOctets
	TextTooLong
	TextTooManyErrors
	TextWrongState
	TextNoMessage
	TextDeleted
	TextMarked
	TextReset
	TextFollows
	TextNoop
	TextTemporary
	TextUnreadable
	TextDamaged
	TextGone
	TextInUse
	TextMemory
	TextChanged
	TextShutdown
	TextTimeout
	TextRefused
	NumTexts // how many Texts there are, TextNone included
)

var texts = [NumTexts][numLanguages]string{
	TextReady:         {"POP3 server ready", "serwer POP3 gotowy"},
	TextBye:           {"bye", "do widzenia"},
	TextByeRemoved:    {"deleted, bye", "usunięto, do widzenia"},
	TextRemoveFailed:  {"nothing was deleted; try again later", "niczego nie usunięto; spróbuj ponownie później"},
	TextMaildrop:      {"maildrop has", "w skrzynce:"},
	TextPassword:      {"send PASS", "podaj PASS"},
	TextCapa:          {"capability list follows", "lista możliwości"},
	TextLanguages:     {"language listing follows", "lista języków"},
	TextLanguage:      {"language changed", "zmieniono język"},
	TextNoLanguage:    {"no such language; LANG lists those there are", "nie ma takiego języka; LANG podaje dostępne"},
	TextUTF8:          {"UTF-8 mode", "tryb UTF-8"},
	TextUTF8Twice:     {"UTF-8 mode is on already", "tryb UTF-8 jest już włączony"},
	TextBeginTLS:      {"begin TLS negotiation", "rozpocznij negocjację TLS"},
	TextNoTLS:         {"TLS is not available here", "TLS nie jest tu dostępne"},
	TextTLSActive:     {"TLS is active already", "TLS jest już włączone"},
	TextTLSAfterUTF8:  {"STLS must come before UTF8", "STLS musi poprzedzać UTF8"},
	TextTLSPipelined:  {"nothing may follow STLS before TLS begins", "po STLS nic nie może nastąpić przed rozpoczęciem TLS"},
	TextTLSFailed:     {"TLS negotiation failed", "negocjacja TLS nie powiodła się"},
	TextMechanisms:    {"mechanisms follow", "lista mechanizmów"},
	TextNoMechanism:   {"mechanism is not available; CAPA lists those there are", "mechanizm niedostępny; CAPA podaje dostępne"},
	TextCancelled:     {"authentication cancelled", "uwierzytelnianie przerwane"},
	TextBadBase64:     {"response is not base64", "odpowiedź nie jest w base64"},
	TextMalformed:     {"authentication response is malformed", "błędna odpowiedź uwierzytelniania"},
	TextNeedTLS:       {"use STLS first: passwords are not taken in the clear", "najpierw użyj STLS: haseł nie przyjmujemy jawnym tekstem"},
	TextCredentials:   {"login name or password is wrong", "błędna nazwa lub hasło"},
	TextThrottled:     {"too many failed logins; try again later", "zbyt wiele nieudanych logowań; spróbuj ponownie później"},
	TextUnavailable:   {"login is unavailable for the moment; try again later", "logowanie chwilowo niedostępne; spróbuj ponownie później"},
	TextLoginDelay:    {"too early after the last login; wait", "zbyt wcześnie po ostatnim logowaniu; poczekaj"},
	TextTooManyLogins: {"too many failed logins", "zbyt wiele nieudanych logowań"},
	TextNeedUser:      {"send USER first", "najpierw podaj USER"},
	TextUnknown:       {"unknown command", "nieznane polecenie"},
	TextArguments:     {"wrong arguments", "błędne argumenty"},
	TextOctets:        {"control characters or malformed UTF-8 in command", "znaki sterujące lub błędne UTF-8 w poleceniu"},
	TextTooLong:       {"line is too long", "zbyt długi wiersz"},
	TextTooManyErrors: {"too many errors", "zbyt wiele błędów"},
	TextWrongState:    {"command is not valid in this state", "polecenie niedozwolone w tym stanie"},
	TextNoMessage:     {"no such message", "nie ma takiej wiadomości"},
	TextDeleted:       {"message is marked as deleted", "wiadomość oznaczona jako usunięta"},
	TextMarked:        {"marked as deleted", "oznaczono jako usuniętą"},
	TextReset:         {"marks removed", "cofnięto oznaczenia"},
	TextFollows:       {"follows", "w załączeniu"},
	TextNoop:          {"nothing done", "nic nie zrobiono"},
	TextTemporary:     {"maildrop is unavailable for the moment; try again later", "skrzynka chwilowo niedostępna; spróbuj ponownie później"},
	TextUnreadable:    {"message cannot be read for the moment; try again later", "wiadomości chwilowo nie można odczytać; spróbuj ponownie później"},
	TextDamaged:       {"message is damaged; tell the administrator", "wiadomość jest uszkodzona; powiadom administratora"},
	TextGone:          {"message was removed by another session", "wiadomość usunęła inna sesja"},
	TextInUse:         {"maildrop is in use by another session", "skrzynki używa inna sesja"},
	TextMemory:        {"server is short of memory; try again later", "serwerowi brakuje pamięci; spróbuj ponownie później"},
	TextChanged:       {"your account has changed since you logged in; connect and log in again; nothing was deleted", "konto zmieniono po zalogowaniu; połącz się i zaloguj ponownie; niczego nie usunięto"},
	TextShutdown:      {"server is shutting down; nothing was deleted", "serwer kończy pracę; niczego nie usunięto"},
	TextTimeout:       {"autologout: no command came in time; nothing was deleted", "wylogowano z braku poleceń; niczego nie usunięto"},
	TextRefused:       {"server is busy; try again later", "serwer jest zajęty; spróbuj ponownie później"},
}
