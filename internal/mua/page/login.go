package page

import (
	"context"
	"net/url"
	"strings"

	"poczta.example/poczta/internal/mua/oauth"
	"poczta.example/poczta/internal/mua/profile"
)

// logging is the attempt to log in with the provider again; by a code, on any device, where the form
// says so. problem says what is wrong with the form.
func (v *visit) logging(k Keeper, a profile.Account, byCode bool) (w talkWish, problem string) {
	f := v.r.PostForm
	l := Login{ClientSecret: strings.TrimSpace(f.Get("client_secret"))}
	if byCode {
		l.DeviceURL = strings.TrimSpace(f.Get("device_url"))
		if !providerURL(l.DeviceURL) {
			return w, v.t.about(v.t.BadURL, l.DeviceURL)
		}
	}
	lang := v.t.Lang
	return talkWish{kind: "login", account: a.ID, title: v.t.about(v.t.LoginTrying, a.Address), back: accountPath(a.ID), done: accountPath(a.ID), success: v.t.about(v.t.LoginSaved, a.Address),
		run: func(ctx context.Context, t *talk) error { return k.Login(ctx, t, lang, a.ID, l) }}, ""
}

// providerURL reports an address to which secrets may go: under TLS, or to this computer.
func providerURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && u.Hostname() == "127.0.0.1")
}

// codeView is a code that is to be entered on another device.
type codeView struct {
	Text, Address, Complete string
	Until                   string // when it ends; "" is not said
	Away                    bool
}

func (v *visit) codeView(c oauth.Code) *codeView {
	if c.Text == "" {
		return nil
	}
	out := &codeView{Text: c.Text, Address: c.Address, Complete: c.Complete, Away: c.Away}
	if !c.Until.IsZero() {
		out.Until = v.t.about(v.t.DeviceUntil, c.Until.In(v.p.cfg.Zone).Format("15:04"))
	}
	return out
}
