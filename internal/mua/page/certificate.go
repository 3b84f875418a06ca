package page

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"poczta.example/poczta/internal/mua/identity"
	"poczta.example/poczta/internal/mua/profile"
)

// soon is how long before its end a certificate's owner is told.
const soon = 30 * 24 * time.Hour

// identityView is a client certificate that is kept with an account.
type identityView struct {
	Of, By, Until, Fingerprint string
	Expired, Soon              bool
	Password                   bool // one is wanted when it is removed
}

// identityView shows an account's certificate; nil where it has none.
func (v *visit) identityView(a profile.Account) (*identityView, error) {
	if a.Certificate == "" {
		return nil, nil
	}
	c, err := identity.Leaf(a.Certificate)
	if err != nil {
		return nil, err
	}
	of := c.Subject.CommonName
	switch {
	case of == "" && len(c.EmailAddresses) > 0:
		of = c.EmailAddresses[0]
	case of == "":
		of = c.Subject.String()
	}
	by := c.Issuer.CommonName
	if by == "" {
		by = c.Issuer.String()
	}
	left := c.NotAfter.Sub(v.p.cfg.Now())
	return &identityView{Of: of, By: by, Until: c.NotAfter.In(v.p.cfg.Zone).Format(time.DateOnly), Fingerprint: grouped(identity.Fingerprint(c)),
		Expired: left <= 0, Soon: left > 0 && left < soon, Password: a.Incoming.External && a.OAuth == nil}, nil
}

// upload reads a form whose files hold a certificate. They are read in memory alone, and never
// reach the disk. problem says that they are too large; the form is not there then.
func (v *visit) upload() (problem string, err error) {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
	err = v.r.ParseMultipartForm(maxForm)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return v.t.trouble(identity.ErrLarge), nil
	}
	if err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return "", errors.Join(errRequest, err)
	}
	return "", nil
}

// identity reads the certificate of the form that upload read; nil is none.
func (v *visit) identity() (*identity.Identity, error) {
	if v.r.MultipartForm == nil {
		return nil, nil
	}
	var all bytes.Buffer
	for _, h := range v.r.MultipartForm.File["identity"] {
		if h.Size > identity.MaxFile {
			return nil, identity.ErrLarge
		}
		f, err := h.Open()
		if err != nil {
			return nil, errors.Join(errRequest, err)
		}
		if all.Len() > 0 {
			all.WriteByte('\n') // two PEM files
		}
		_, err = io.Copy(&all, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, errors.Join(errRequest, err)
		}
	}
	if all.Len() == 0 {
		return nil, nil
	}
	return identity.Read(all.Bytes(), v.r.PostForm.Get("file_password"), v.p.cfg.Now())
}

// certifying is the attempt to log in with the certificate of the form, or without the one there is.
// problem says what is wrong with the form.
func (v *visit) certifying(k Keeper, a profile.Account, remove bool) (w talkWish, problem string) {
	f := v.r.PostForm
	c := Certificate{External: f.Get("external") != ""}
	success := v.t.CertSaved
	if remove {
		c = Certificate{Password: f.Get("password")}
		success = v.t.CertRemoved
		if a.Incoming.External && a.OAuth == nil && c.Password == "" {
			return w, v.t.trouble(ErrNoPassword)
		}
	} else {
		var err error
		if c.Identity, err = v.identity(); err != nil {
			return w, v.t.trouble(err)
		}
		if c.Identity == nil {
			return w, v.t.CertChoose
		}
	}
	return talkWish{kind: "certificate", account: a.ID, title: v.t.about(v.t.CertTrying, a.Address), back: accountPath(a.ID), done: accountPath(a.ID), success: v.t.about(success, a.Address),
		run: func(ctx context.Context, _ *talk) error { return k.Certificate(ctx, a.ID, c) }}, ""
}
