// Package page is a person's mail in their browser: pages made here, served on loopback to who has
// the token. Reading works without script; a little of it adds the keyboard, saving while typing
// and search as you type. Nothing is asked of any other host unless the person wants a letter's
// remote images.
package page

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

//go:embed templates static
var files embed.FS

// Accounts are the person's accounts; profile.Profiles are it.
type Accounts interface {
	List(ctx context.Context) ([]profile.Account, error)
	Update(ctx context.Context, a profile.Account) error
}

// Fetcher brings what is not here yet; fetch.Fetcher is it.
type Fetcher interface {
	// Complete fetches the whole of a letter of which only the header section is here.
	Complete(ctx context.Context, a profile.Account, id store.LetterID) error
}

// Config is what a Page needs. Store and Accounts are required; the store has Schema among its
// components.
type Config struct {
	Store    *store.Store
	Accounts Accounts
	Fetcher  Fetcher // nil: partial letters stay partial
	Keeper   Keeper  // nil: accounts are set up by the commands alone
	Outbox   Outbox  // nil: letters are written and kept as drafts, but not sent
	// Look asks for a look at all servers now; it must not block. Nil leaves the button out.
	Look func()
	// Looks says what the last look at each account found; nil says nothing.
	Looks func() []Look
	// Fetching are the fetches that run, as fetch.Fetcher's Running; nil says nothing.
	Fetching func() []fetch.Progress
	// Trouble says in a sentence, in a language, what else should be known on every page, as that
	// backups fail; "" is nothing. Nil says nothing.
	Trouble func(ctx context.Context, language string) string
	Zone    *time.Location // of the times shown; nil is the system's
	Now     func() time.Time
	Rand    io.Reader
	Logger  *slog.Logger // nil discards
}

// Look is the outcome of a look at an account's server.
type Look struct {
	Account string // its address
	At      time.Time
	Err     error // nil when all went well
}

// Page serves a person's mail. Safe for concurrent use.
type Page struct {
	cfg       Config
	templates *template.Template
	static    map[string]asset
	gate      *gate
	talks     talks
	handler   http.Handler
}

// asset is an embedded file.
type asset struct {
	octets []byte
	kind   string
	tag    string // of its content, for its address
}

// Bounds of requests.
const (
	maxForm    = 1 << 20  // octets of a form without files
	maxUpload  = 64 << 20 // octets of a form with files
	formMemory = 4 << 20  // of it held in memory
	maxPicked  = 2000     // letters that one command changes
)

// New checks the configuration and reads what is embedded; it serves nothing yet.
func New(c Config) (*Page, error) {
	if c.Store == nil || c.Accounts == nil {
		return nil, errors.New("page: Config.Store and Accounts are required")
	}
	if c.Zone == nil {
		c.Zone = time.Local
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Page{cfg: c, static: map[string]asset{}, talks: talks{all: map[string]*talk{}}}
	for name, kind := range map[string]string{"style.css": "text/css; charset=utf-8", "letter.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"} {
		b, err := files.ReadFile("static/" + name)
		if err != nil {
			return nil, fmt.Errorf("page: %w", err)
		}
		sum := sha256.Sum256(b)
		p.static[name] = asset{b, kind, hex.EncodeToString(sum[:6])}
	}
	var err error
	if p.gate, err = newGate(c.Rand, c.Now); err != nil {
		return nil, err
	}
	if p.templates, err = template.New("").Funcs(p.functions()).ParseFS(files, "templates/*.html"); err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	p.handler = p.routes()
	return p, nil
}

// routes are the addresses of the page. What changes something is a POST, apart from opening a
// letter, which marks it as read.
func (p *Page) routes() http.Handler {
	mux := http.NewServeMux()
	open := func(pattern string, f func(*visit) error) { mux.HandleFunc(pattern, p.visited(f)) }
	open("GET /{$}", func(v *visit) error { return v.redirect("/mail") })
	open("GET /static/{tag}/{name}", (*visit).asset)
	open("GET /mail", (*visit).mail)
	open("GET /letter/{id}/html", (*visit).frame)
	open("GET /letter/{id}/source", (*visit).source)
	open("GET /letter/{id}/original", (*visit).original)
	open("GET /letter/{id}/part/{n}", (*visit).part)
	open("POST /letter/{id}/complete", (*visit).complete)
	open("POST /act", (*visit).act)
	open("POST /undo", (*visit).undo)
	open("POST /look", (*visit).look)
	open("GET /fetching", (*visit).fetching)
	open("POST /preferences", (*visit).preferences)
	open("GET /write", (*visit).write)
	open("POST /write", (*visit).written)
	open("GET /addresses", (*visit).addresses)
	open("GET /people", (*visit).book)
	open("GET /outbox", (*visit).outbox)
	open("POST /outbox", (*visit).decide)
	open("GET /settings", (*visit).settings)
	open("POST /settings", (*visit).settled)
	open("GET /accounts/new", (*visit).newAccount)
	open("POST /accounts/new", (*visit).addAccount)
	open("GET /accounts/{id}", (*visit).accountPage)
	open("POST /accounts/{id}", (*visit).changeAccount)
	open("GET /talk/{id}", (*visit).talk)
	open("POST /talk/{id}", (*visit).answered)
	open("GET /unlock", (*visit).unlock)
	open("POST /unlock", (*visit).unlocked)
	open("GET /folders", (*visit).folders)
	open("POST /folders", (*visit).foldered)
	open("GET /rules", (*visit).rules)
	open("GET /rules/{id}", (*visit).rule)
	open("POST /rules", (*visit).ruled)
	open("GET /", (*visit).missing)
	inside := p.guarded(mux)
	outer := http.NewServeMux()
	outer.HandleFunc("GET /enter", p.enter)
	outer.HandleFunc("GET /inline/{seal}/{id}/{n}", p.inline)
	outer.Handle(p.gate.base+"/", http.StripPrefix(p.gate.base, inside))
	outer.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { p.refuse(w, r, http.StatusUnauthorized) })
	return p.outermost(outer)
}

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// Serve serves l, which must listen on loopback, until ctx ends; it returns nil then.
func (p *Page) Serve(ctx context.Context, l net.Listener) error {
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return errors.Join(fmt.Errorf("page: %v is not an address of this computer alone; listen on 127.0.0.1 or [::1]", l.Addr()), l.Close())
	}
	s := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 5 * time.Minute, WriteTimeout: 10 * time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(p.cfg.Logger.Handler(), slog.LevelDebug)}
	defer p.talks.end()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if s.Shutdown(grace) != nil {
		s.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Enter makes an address below base ("http://127.0.0.1:1234") that opens the page once, within
// ten minutes; the browser that opens it may read and write this mail until the Page ends.
func (p *Page) Enter(base string) (string, error) {
	token, err := p.gate.invite()
	if err != nil {
		return "", err
	}
	return base + "/enter?token=" + token, nil
}
