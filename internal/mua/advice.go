package mua

import (
	"errors"
	"io/fs"
	"syscall"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mua/vault"
)

// Advice says in a sentence what a person can do about a failure of their disk or folder, in
// English, or in Polish for "pl"; "" where the error says so itself, or nobody knows.
func Advice(err error, language string) string {
	switch {
	case err == nil:
		return ""
	case disk.IsFull(err), errors.Is(err, body.ErrFull), errors.Is(err, db.ErrFull):
		return choose(language, "The disk is full: make room on it and do the same again; no mail is lost.",
			"Dysk jest pełny: zwolnij miejsce i powtórz to samo; żaden list nie przepadł.")
	case errors.Is(err, body.ErrFailed), errors.Is(err, syscall.EIO):
		return choose(language, "The disk can't be written or read: look whether it is sound, and do the same again; what is on the server stays there.",
			"Na dysku nie da się pisać lub czytać: sprawdź, czy jest sprawny, i powtórz to samo; to, co jest na serwerze, tam zostaje.")
	case errors.Is(err, syscall.EROFS):
		return choose(language, "The folder of your mail lies on a disk that can't be written: make it writable, or name a copy elsewhere with --data.",
			"Katalog poczty leży na dysku tylko do odczytu: włącz zapis albo podaj przez --data kopię w innym miejscu.")
	case errors.Is(err, db.ErrNewer):
		return choose(language, "A newer version of this program has changed the folder of your mail: use that one.",
			"Katalog poczty zmieniła nowsza wersja tego programu: użyj jej.")
	case errors.Is(err, vault.ErrPassphrase):
		return choose(language, "It is the one that you chose when the first password was saved. Nobody can find it out: without it, remove secrets.age and enter your passwords again with poczta mail password.",
			"To hasło wybrane przy zapisie pierwszego hasła do poczty. Nikt go nie odzyska: bez niego usuń secrets.age i podaj hasła jeszcze raz przez poczta mail password.")
	case errors.Is(err, fs.ErrPermission):
		return choose(language, "Is it a file or folder of another user? Work as that user, or name a folder of your own with --data.",
			"Czy to plik lub katalog innego użytkownika? Pracuj jako on albo podaj własny katalog przez --data.")
	}
	return ""
}
