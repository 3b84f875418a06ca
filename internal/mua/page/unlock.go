package page

import (
	"net/http"
	"net/url"
)

// unlockView is the page that asks for the passphrase.
type unlockView struct {
	frame
	Fresh   bool
	Back    string
	Problem string
}

// unlock asks for the passphrase of the encrypted file.
func (v *visit) unlock() error { return v.showUnlock("") }

func (v *visit) showUnlock(problem string) error {
	lock, err := v.lock()
	if err != nil {
		return err
	}
	if lock == Unlocked && problem == "" {
		return v.redirect(v.back())
	}
	f, err := v.full(v.t.Unlock, "settings", where{})
	if err != nil {
		return err
	}
	if problem != "" {
		v.w.WriteHeader(http.StatusUnprocessableEntity)
	}
	return v.show("unlock.html", unlockView{frame: f, Fresh: lock == Fresh, Back: v.back(), Problem: problem})
}

// unlocked takes the passphrase.
func (v *visit) unlocked() error {
	if err := v.form(); err != nil {
		return err
	}
	k, err := v.keeper()
	if err != nil {
		return err
	}
	f := v.r.PostForm
	problem := v.choosePassphrase(k, f)
	if lock, err := k.Lock(); problem == "" && (err != nil || lock == Locked) {
		if err == nil {
			err = k.Unlock(f.Get("passphrase"))
		}
		if err != nil {
			problem = v.t.trouble(err)
		}
	}
	if problem != "" {
		return v.showUnlock(problem)
	}
	v.say(flash{Text: v.t.UnlockedText})
	return v.redirect(v.back())
}

// choosePassphrase takes the passphrase of the file that will be, where the form asks for it, and
// says what is wrong with it.
func (v *visit) choosePassphrase(k Keeper, f url.Values) string {
	lock, err := k.Lock()
	if err == nil && lock == Fresh {
		if f.Get("passphrase") == "" || f.Get("passphrase") != f.Get("passphrase2") {
			return v.t.PassphrasesDiffer
		}
		err = k.Unlock(f.Get("passphrase"))
	}
	if err != nil {
		return v.t.trouble(err)
	}
	return ""
}
