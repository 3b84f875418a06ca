package page

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/profile"
)

// setupView is the page on which an account is added.
type setupView struct {
	frame
	First    bool // there is no account and no mail yet
	New      NewAccount
	In, Out  serverView
	Problems []string
	Fresh    bool   // a passphrase is to be chosen
	Again    string // the talk that failed, which knows the password
	ByHand   bool   // which parts are open
	Certs    bool
	Browser  bool
	Kept     bool // a certificate was uploaded in the attempt before
}

// keeper is who changes accounts. Without one the pages of accounts are not there.
func (v *visit) keeper() (Keeper, error) {
	if v.p.cfg.Keeper == nil {
		return nil, profile.ErrNotFound
	}
	return v.p.cfg.Keeper, nil
}

// lock is how the passwords lie.
func (v *visit) lock() (Lock, error) {
	k, err := v.keeper()
	if err != nil {
		return Unlocked, err
	}
	return k.Lock()
}

// newAccount shows the form for an account to be, filled as in an attempt that failed.
func (v *visit) newAccount() error {
	var n NewAccount
	again := ""
	if t := v.p.talks.find(v.r.URL.Query().Get("again")); t != nil && t.wish.kind == "add" {
		n, again = t.wish.new, t.id
	}
	return v.showNew(n, again, nil)
}

func (v *visit) showNew(n NewAccount, again string, problems []string) error {
	lock, err := v.lock()
	if err != nil {
		return err
	}
	if lock == Locked {
		return v.redirect("/unlock?back=" + url.QueryEscape("/accounts/new"))
	}
	f, err := v.full(v.t.AddAccount, "settings", where{})
	if err != nil {
		return err
	}
	view := setupView{frame: f, New: n, Problems: problems, Fresh: lock == Fresh, First: len(f.Accounts) == 0, Again: again}
	if view.First {
		view.Title = v.t.Welcome
	}
	view.New.Password, view.New.ClientSecret = "", ""
	view.Kept = n.Identity != nil
	view.In, view.Out = v.serverViews()
	fill := func(s *serverView, hostport, security string) {
		if host, port, err := net.SplitHostPort(hostport); err == nil {
			s.Host, s.Port = host, port
		} else {
			s.Host = hostport
		}
		if security != "" {
			s.Security = security
		}
	}
	fill(&view.In, n.Incoming, n.IncomingSecurity)
	fill(&view.Out, n.Outgoing, n.OutgoingSecurity)
	view.ByHand = n.Incoming != "" || n.Outgoing != "" || n.Login != ""
	view.Certs = n.AuthorityFile != "" || n.CertificateFile != "" || n.External || view.Kept
	view.Browser = n.ClientID != "" || n.AuthURL != ""
	if t := v.p.talks.find(again); t != nil {
		news, _ := t.look()
		view.ByHand = view.ByHand || errors.Is(news.err, ErrNoServers) || errors.Is(news.err, ErrUnconfirmed)
		view.Browser = view.Browser || errors.Is(news.err, ErrNoClient)
	}
	if len(problems) > 0 {
		v.w.WriteHeader(http.StatusUnprocessableEntity)
	}
	return v.show("account-new.html", view)
}

// addAccount begins to set up what the form says.
func (v *visit) addAccount() error {
	large, err := v.upload()
	if err != nil {
		return err
	}
	if large != "" {
		return v.showNew(NewAccount{}, "", []string{large})
	}
	k, err := v.keeper()
	if err != nil {
		return err
	}
	f := v.r.PostForm
	n, problems := v.newAccountOf(f)
	var allowed map[string]bool
	again := f.Get("again")
	if t := v.p.talks.find(again); t != nil && t.wish.kind == "add" {
		if n.Password == "" {
			n.Password = t.wish.new.Password
		}
		if n.ClientSecret == "" {
			n.ClientSecret = t.wish.new.ClientSecret
		}
		if n.Identity == nil && n.CertificateFile == "" {
			n.Identity = t.wish.new.Identity
		}
		if before := t.wish.new; t.over() && before.Address == n.Address {
			allowed = t.allowed
			if before.Incoming == n.Incoming && before.Outgoing == n.Outgoing {
				n.Accept, n.AcceptOutgoing = before.Accept, before.AcceptOutgoing
			}
		}
	} else {
		again = ""
	}
	if n.External && n.CertificateFile == "" && n.Identity == nil {
		problems = append(problems, v.t.KeyAndCertificate)
	}
	if p := v.choosePassphrase(k, f); p != "" {
		problems = append(problems, p)
	}
	if len(problems) > 0 {
		return v.showNew(n, again, problems)
	}
	t, err := v.p.begin(v.adding(k, n), allowed)
	if err != nil {
		return err
	}
	return v.redirect("/talk/" + t.id)
}

// adding is the attempt to set up an account.
func (v *visit) adding(k Keeper, n NewAccount) talkWish {
	lang := v.t.Lang
	return talkWish{kind: "add", title: n.Address, new: n, back: "/accounts/new", done: "/mail", success: v.t.about(v.t.AccountAdded, n.Address),
		run: func(ctx context.Context, t *talk) error { return k.Add(ctx, t, lang, n) },
		accept: func(v *visit, u *Untrusted) talkWish {
			if u.Outgoing && (n.Accept != "" || u.Certificate.Host != hostOf(n.Incoming)) {
				n.AcceptOutgoing = u.Certificate.SHA256
			} else {
				n.Accept = u.Certificate.SHA256
			}
			return v.adding(k, n)
		}}
}

// newAccountOf reads the form, and says what is wrong with it.
func (v *visit) newAccountOf(f url.Values) (n NewAccount, problems []string) {
	get := func(name string) string { return strings.TrimSpace(f.Get(name)) }
	n = NewAccount{Address: get("address"), Name: strings.Join(strings.Fields(f.Get("name")), " "), Password: f.Get("password"), Login: get("login"),
		AuthorityFile: get("authority"), CertificateFile: get("certificate"), KeyFile: get("key"), External: f.Get("external") != "",
		ClientID: get("client_id"), ClientSecret: get("client_secret"), AuthURL: get("auth_url"), TokenURL: get("token_url"), DeviceURL: get("device_url"), Scope: get("scope")}
	if _, err := address.Parse(n.Address); err != nil {
		problems = append(problems, v.t.about(v.t.BadAddress, n.Address))
	}
	in, out := get("in_host"), get("out_host")
	if (in == "") != (out == "") {
		problems = append(problems, v.t.BadHost)
	}
	if (n.CertificateFile == "") != (n.KeyFile == "") {
		problems = append(problems, v.t.KeyAndCertificate)
	}
	for _, u := range []string{n.AuthURL, n.TokenURL, n.DeviceURL} {
		if u != "" && !providerURL(u) {
			problems = append(problems, v.t.about(v.t.BadURL, u))
		}
	}
	var err error
	if n.Identity, err = v.identity(); err != nil {
		problems = append(problems, v.t.trouble(err))
	}
	read := func(side string) (hostport, security string) {
		s, p := v.serverOf(f, side)
		problems = append(problems, p...)
		return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port))), map[clientconfig.Security]string{clientconfig.TLS: "tls", clientconfig.StartTLS: "starttls", clientconfig.Plain: "none"}[s.Security]
	}
	if in != "" {
		n.Incoming, n.IncomingSecurity = read("in")
	}
	if out != "" {
		n.Outgoing, n.OutgoingSecurity = read("out")
	}
	return n, problems
}

// loginView is the page of one account's servers and login.
type loginView struct {
	frame
	A        profile.Account
	In, Out  serverView
	Problems []string
	ByToken  bool
	ByCert   bool
	Cert     *identityView
}

// accountPage shows an account's servers, login and removal.
func (v *visit) accountPage() error {
	a, err := v.accountOfPath()
	if err != nil {
		return err
	}
	return v.showAccount(a, nil)
}

func (v *visit) accountOfPath() (profile.Account, error) {
	if _, err := v.keeper(); err != nil {
		return profile.Account{}, err
	}
	return v.account(accountOf(v.r.PathValue("id")))
}

func (v *visit) showAccount(a profile.Account, problems []string) error {
	f, err := v.full(a.Address, "settings", where{})
	if err != nil {
		return err
	}
	view := loginView{frame: f, A: a, Problems: problems, ByToken: a.OAuth != nil, ByCert: a.Incoming.External}
	if view.Cert, err = v.identityView(a); err != nil {
		return err
	}
	view.In, view.Out = v.serverViews()
	for _, x := range []struct {
		to   *serverView
		from profile.Server
	}{{&view.In, a.Incoming}, {&view.Out, a.Outgoing}} {
		x.to.Host, x.to.Port, x.to.Login, x.to.Accepted = x.from.Host, strconv.Itoa(int(x.from.Port)), x.from.Login, x.from.Accepted
		x.to.Security = map[clientconfig.Security]string{clientconfig.TLS: "tls", clientconfig.StartTLS: "starttls", clientconfig.Plain: "none"}[x.from.Security]
	}
	if len(problems) > 0 {
		v.w.WriteHeader(http.StatusUnprocessableEntity)
	}
	return v.show("account.html", view)
}

// changeAccount changes an account's servers or login, or removes it.
func (v *visit) changeAccount() error {
	large, err := v.upload()
	if err != nil {
		return err
	}
	a, err := v.accountOfPath()
	if err != nil {
		return err
	}
	if large != "" {
		return v.showAccount(a, []string{large})
	}
	k, f := v.p.cfg.Keeper, v.r.PostForm
	do := f.Get("do")
	if a.Archive {
		if do != "remove" {
			return errRequest
		}
		return v.removeAccount(k, a, f) // without a password to forget
	}
	if lock, err := k.Lock(); err != nil {
		return err
	} else if lock != Unlocked {
		return v.redirect("/unlock?back=" + url.QueryEscape("/accounts/"+v.r.PathValue("id")))
	}
	var w talkWish
	switch do {
	case "server":
		changed, problems := v.serversOf(a, f)
		if len(problems) > 0 {
			return v.showAccount(changed, problems)
		}
		w = v.serving(k, changed)
	case "password":
		if f.Get("password") == "" {
			return v.showAccount(a, []string{v.t.trouble(ErrNoPassword)})
		}
		w = v.passing(k, a, f.Get("password"))
	case "login", "code":
		var problem string
		if w, problem = v.logging(k, a, do == "code"); problem != "" {
			return v.showAccount(a, []string{problem})
		}
	case "certificate", "uncertificate":
		var problem string
		if w, problem = v.certifying(k, a, do == "uncertificate"); problem != "" {
			return v.showAccount(a, []string{problem})
		}
	case "remove":
		return v.removeAccount(k, a, f)
	default:
		return errRequest
	}
	t, err := v.p.begin(w, nil)
	if err != nil {
		return err
	}
	return v.redirect("/talk/" + t.id)
}

// accountPath is the page of an account.
func accountPath(id envelope.AccountID) string {
	return "/accounts/" + strconv.FormatInt(int64(id), 10)
}

func (v *visit) passing(k Keeper, a profile.Account, password string) talkWish {
	return talkWish{kind: "password", account: a.ID, title: v.t.about(v.t.PasswordTrying, a.Address), back: accountPath(a.ID), done: accountPath(a.ID), success: v.t.about(v.t.PasswordSaved, a.Address),
		run: func(ctx context.Context, _ *talk) error { return k.Password(ctx, a.ID, password) }}
}

// removeAccount removes an account whose removal was ticked.
func (v *visit) removeAccount(k Keeper, a profile.Account, f url.Values) error {
	if f.Get("sure") == "" {
		return v.showAccount(a, []string{v.t.RemoveUnsure})
	}
	// A page that is closed meanwhile leaves nothing half removed.
	if err := k.Remove(context.WithoutCancel(v.r.Context()), a.ID, f.Get("letters") != ""); err != nil {
		return v.showAccount(a, []string{v.t.trouble(err)})
	}
	v.say(flash{Text: v.t.about(v.t.AccountRemoved, a.Address)})
	return v.redirect("/settings")
}
