package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/digest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/training"
)

// offices are the server's own addresses, and the digest that names one of them.
type offices struct {
	digest   *digest.Digest
	training *training.Room
	release  address.Address
	accounts *account.Accounts
	reports  http.Handler // that others bring about our TLS; nil takes none
}

// quarantinePath is below what the digest's pages are served.
const quarantinePath = "/quarantine/"

// readTimeout bounds a request to the digest's pages.
const readTimeout = 10 * time.Second

// newOffices builds the digest and the room that learns from forwarded mail.
func newOffices(r *Rooms, host address.Domain, rep *report.Reporter, metrics *obs.Metrics, log *slog.Logger) (*offices, error) {
	c := r.Config
	o := &offices{accounts: r.Accounts}
	if c.TLSReports.HTTPS {
		o.reports = r.TLSReports
	}
	from, err := address.Parse("poczta@" + host.String())
	if err != nil {
		return nil, fmt.Errorf("address of digests: %w", err)
	}
	if o.release, err = address.Parse("release@" + host.String()); err != nil {
		return nil, fmt.Errorf("address that releases: %w", err)
	}
	o.digest, err = digest.New(digest.Config{DB: r.DB, Quarantine: r.Quarantine, People: r.Accounts, Wishes: r.Preferences, Letters: rep, Hostname: host, From: from,
		Release: o.release, Web: pagesOf(c), Off: !c.Quarantine.Digest, At: c.Quarantine.DigestAt.Duration(), Hooks: metrics.Digest(), Logger: log})
	if err != nil {
		return nil, fmt.Errorf("open digest: %w", err)
	}
	o.training, err = training.New(training.Config{Learner: r.Learner, Mailboxes: r.Mailboxes, Mover: r.Quarantine, Finder: r.Trace, People: r.Accounts, Letters: rep,
		Hostname: host, From: from, Spam: c.Spam.TrainSpam, Ham: c.Spam.TrainHam, Hooks: metrics.Training(), Logger: log})
	if err != nil {
		return nil, fmt.Errorf("open training: %w", err)
	}
	return o, nil
}

// pagesOf is the URL of the digest's pages; nil when HTTPS is not served.
func pagesOf(c *config.Config) *url.URL {
	if len(entries(c, "https")) == 0 {
		return nil
	}
	host := c.Hostname
	if port := portOf(c, "https"); port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(port))
	}
	return &url.URL{Scheme: "https", Host: host, Path: quarantinePath}
}

// tlsReportPath is where others bring reports about TLS (RFC 8460 §5.4).
const tlsReportPath = "/tlsrpt"

// TLSReportURL is the URL of tlsReportPath; ok is false when HTTPS is not served, or no report taken
// there.
func TLSReportURL(c *config.Config) (s string, ok bool) {
	u := pagesOf(c)
	if u == nil || !c.TLSReports.HTTPS {
		return "", false
	}
	u.Path = tlsReportPath
	return u.String(), true
}

// pages serves the digest's pages, and takes reports about TLS, beside another handler.
func (o *offices) pages(other http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(quarantinePath, http.TimeoutHandler(o.digest, readTimeout, ""))
	if o.reports != nil {
		mux.Handle(tlsReportPath, http.TimeoutHandler(o.reports, readTimeout, ""))
	}
	mux.Handle("/", other)
	return mux
}

// Takes implements intake.Office.
func (o *offices) Takes(ctx context.Context, to address.Address, sender envelope.AccountID) (string, bool, error) {
	if to.Key() == o.release.Key() {
		return "read: it releases what was set apart", true, nil
	}
	if sender == 0 {
		return "", false, nil
	}
	spam, ok := o.training.For(to)
	if !ok {
		return "", false, nil
	}
	own, err := o.accounts.IsLocal(ctx, to.Domain())
	if err != nil || !own {
		return "", false, err
	}
	if spam {
		return "learned as spam", true, nil
	}
	return "learned as wanted mail", true, nil
}

// Take implements intake.Office.
func (o *offices) Take(ctx context.Context, l intake.Letter) error {
	if l.To.Key() == o.release.Key() {
		c, err := content.Read(l.Message, l.Size, content.Facts{}, content.Limits{})
		if err != nil {
			return err
		}
		_, err = o.digest.Take(ctx, digest.Message{Account: l.Account, From: l.Author, Header: l.Header, Text: c.Text})
		return notReleased(err)
	}
	root, err := mime.Parse(l.Message, l.Size, mime.Limits{})
	if err != nil {
		return err
	}
	spam, _ := o.training.For(l.To)
	_, err = o.training.Take(ctx, training.Message{Account: l.Account, Login: l.Login, Spam: spam, Root: root, Body: l.Message})
	return err
}

// notReleased refuses a mail that can't release anything, now or later, and says why; other errors
// are temporary.
func notReleased(err error) error {
	for cause, text := range map[error]string{
		digest.ErrNothing:  "The subject must be as the link in the digest makes it; nothing was released",
		digest.ErrNotTheir: "Only mail that is proven to be from the account which got the digest releases; send it from there",
		digest.ErrToken:    "What the subject names is no message of a digest, or the digest is too old; nothing was released",
	} {
		if errors.Is(err, cause) {
			return intake.Refuse(550, 7, 1, text, err)
		}
	}
	return err
}

var _ intake.Office = (*offices)(nil)
