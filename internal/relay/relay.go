// Package relay works the queue: it finds the hosts of each destination, delivers by
// SMTP and LMTP with the TLS that is demanded, tries again by two clocks, and settles
// one fate for each recipient, with a report where one is due.
//
// Memory does not depend on the queue: so many destinations are on lease, so many
// recipients taken and so many connections open as Config says, and no more.
package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/smtpclient"
	"poczta.example/poczta/internal/tlspolicy"
)

// ErrLease ends a transaction before its final dot: the lease of the queue is not ours any more.
var ErrLease = errors.New("the lease of the queue is over")

// Queue is the queue as relay sees it; FromQueue makes one of *queue.Queue.
type Queue interface {
	Join(ctx context.Context, name string) (Node, error)
	Wake() <-chan struct{}
}

// Node is an incarnation that works the queue; *queue.Node is one.
type Node interface {
	Lease
	Taker
	Settler
	Hosts
}

// Lease is a node's life.
type Lease interface {
	Run(ctx context.Context) error // renews; returns queue.ErrLeaseLost when it can't
	Valid() bool
	Leave(ctx context.Context) error
}

// Taker gives out work.
type Taker interface {
	Claim(ctx context.Context, limit int) ([]queue.Claim, time.Time, error)
	Take(ctx context.Context, c queue.Claim, limit int) ([]queue.Job, error)
	Return(jobs ...queue.Job)
	Release(ctx context.Context, claims ...queue.Claim) error
}

// Settler takes results.
type Settler interface {
	Settle(ctx context.Context, results []queue.Result) error
	SettleTx(tx db.Tx, results []queue.Result) (after func(), err error)
}

// Hosts holds the times of hosts and finds what is late.
type Hosts interface {
	HostDown(ctx context.Context, c queue.Claim, until time.Time, status string) error
	HostUp(ctx context.Context, c queue.Claim) error
	Expired(ctx context.Context, c queue.Claim, limit int) ([]queue.Job, error)
	Overdue(ctx context.Context, before time.Time, limit int) ([]queue.Job, error)
}

// FromQueue makes a Queue of the real one.
func FromQueue(q *queue.Queue) Queue { return realQueue{q} }

type realQueue struct{ q *queue.Queue }

// Wake implements Queue.
func (r realQueue) Wake() <-chan struct{} { return r.q.Wake() }

// Join implements Queue.
func (r realQueue) Join(ctx context.Context, name string) (Node, error) {
	n, err := r.q.Join(ctx, name)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// Bodies opens stored messages; body.Store is one.
type Bodies interface {
	Open(ctx context.Context, id message.ID, from, n int64) (io.ReadCloser, error)
}

// MX finds hosts; *mx.Lookup is one.
type MX interface {
	Hosts(ctx context.Context, domain address.Domain) (mx.Route, error)
	Addrs(ctx context.Context, host address.Domain) (mx.Route, error)
}

// Reports writes notifications; *report.Reporter is one.
type Reports interface {
	Prepare(ctx context.Context, o report.Original, recipients []dsn.Recipient) (*post.Delivery, error)
}

// Accepter makes them durable; *post.Post is one.
type Accepter interface {
	Accept(ctx context.Context, d *post.Delivery) error
}

// Signer signs a message again whose encoding had to be changed.
type Signer interface {
	// Sign returns DKIM-Signature fields with CRLF for a message of the domain's
	// author; none is no error. body is what follows the empty line.
	Sign(ctx context.Context, domain address.Domain, header []byte, body io.Reader) ([]byte, error)
}

// Decision says whom the failure of a forward is told to.
type Decision uint8

// The decisions.
const (
	TellSender Decision = iota // by a report, as of any recipient
	TellNobody                 // the owner of the forward has been told, or nobody is to be
)

// Forwards judges copies that an alias or account here forwarded.
type Forwards interface {
	// Failed is asked once when a forwarded copy fails for good, before it is settled.
	Failed(ctx context.Context, m *queue.Message, r *queue.Recipient, status string) (Decision, error)
	// Succeeded is told of one that was taken.
	Succeeded(ctx context.Context, m *queue.Message, r *queue.Recipient)
}

// Session is a session with a server; *smtpclient.Session is one.
type Session interface {
	Extensions() smtpclient.Extensions
	TLS() *tls.ConnectionState
	Usable() bool
	Full() bool
	StartTLS(ctx context.Context, c *tls.Config) error
	Auth(ctx context.Context, c smtpclient.Credentials) error
	Send(ctx context.Context, m *smtpclient.Message) (smtpclient.Outcome, error)
	Reset(ctx context.Context) error
	Quit(ctx context.Context) error
	Close() error
}

// DialFunc connects to an address; source is ours to connect from, or invalid for the
// system's choice. network is tcp or unix.
type DialFunc func(ctx context.Context, network, addr string, source netip.Addr) (net.Conn, error)

// OpenFunc begins a session over a connection and closes it when that fails.
type OpenFunc func(ctx context.Context, conn net.Conn, cfg smtpclient.Config) (Session, error)

// Hooks are optional functions for metrics. Sites are named by Config.SiteNames at most;
// the rest is "other". They must return at once.
type Hooks struct {
	// Attempt is one recipient's outcome: relayed, deferred, returned. waited is since it was queued.
	Attempt func(site, outcome string, waited time.Duration)
	// Refused is a recipient of an account of ours, named by itself, whom a host refused for good.
	// It is told once, when that is written.
	Refused func(account envelope.AccountID)
	// Connection is an attempt to connect: ok, refused, timeout, greeting, tls, policy, auth.
	Connection func(site, outcome string)
	// Open tells of connections opened (1) and closed (-1).
	Open func(delta int)
	// Lines tells how many destinations are on lease.
	Lines func(delta int)
	// Blocked tells that port 25 seems to be blocked by the provider.
	Blocked func()
}

// Config is what a Relay needs. Queue, Bodies, MX, Reports, Accepter and Hello are
// required; zero means default.
type Config struct {
	Queue    Queue
	Bodies   Bodies
	MX       MX
	Reports  Reports
	Accepter Accepter
	// TLS decides about TLS; nil never uses it, which is for tests only.
	TLS *tlspolicy.Store
	// TLSConfig is what client configurations are made from; may be nil.
	TLSConfig *tls.Config
	Signer    Signer   // nil: what had to be converted goes unsigned
	Forwards  Forwards // nil: failures of forwards are told to the sender as of any recipient
	Local     Local    // nil: held mail for mailboxes here goes by MX, like any

	Node   string // our name in the queue's leases, for people; default Hello
	Hello  string // our name in EHLO
	Port   uint16 // of MX hosts; default 25
	Routes []Route
	// Sources are this host's addresses that connections are made from, in turn.
	Sources  []netip.Addr
	Schedule Schedule
	// DelayAfter is when our own people are told that a message still waits; default 4 h,
	// negative never.
	DelayAfter time.Duration

	Lines          int           // destinations on lease; default 200 more than connections, so that silent hosts don't have them all
	Window         int           // recipients taken; default 10,000
	Connections    int           // at one time; default 200
	Patient        int           // connections beyond these, whose hosts keep us waiting; default 3 × Connections, negative none
	PerSite        int           // of them to one site; default 20
	RatePerSite    int           // messages a minute; 0 is without limit
	PerConnection  int           // messages over one connection; default 100
	ConnectionAge  time.Duration // default 5 min
	Idle           time.Duration // how long an idle connection is kept; default 3 s
	PerTransaction int           // recipients; default 100 (RFC 5321 §4.5.3.1.8)
	Poll           time.Duration // how often the queue is looked at unasked; default 1 s
	Grace          time.Duration // what transactions get to end when Run is told to stop; default 30 s
	ConnectTimeout time.Duration // of one address; default 30 s
	Addresses      int           // tried in one attempt; default 8
	SiteNames      int           // in metrics; default 50
	Timeouts       smtpclient.Timeouts

	Dial   DialFunc       // default: the system's network
	Open   OpenFunc       // default: smtpclient.Open
	Random func() float64 // from [0, 1); default math/rand/v2; called concurrently
	Now    func() time.Time
	Logger *slog.Logger
	Hooks  Hooks
}

// orElse sets what is zero.
func orElse[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// fill sets what is zero to its default.
func (c *Config) fill() {
	orElse(&c.Node, c.Hello)
	orElse(&c.Port, 25)
	orElse(&c.DelayAfter, 4*time.Hour)
	orElse(&c.Window, 10_000)
	orElse(&c.Connections, 200)
	orElse(&c.Patient, 3*c.Connections)
	orElse(&c.Lines, max(500, c.Connections+max(c.Patient, 0)+200))
	orElse(&c.PerSite, 20)
	orElse(&c.PerConnection, 100)
	orElse(&c.ConnectionAge, 5*time.Minute)
	orElse(&c.Idle, 3*time.Second)
	orElse(&c.PerTransaction, 100)
	orElse(&c.Poll, time.Second)
	orElse(&c.Grace, 30*time.Second)
	orElse(&c.ConnectTimeout, 30*time.Second)
	orElse(&c.Addresses, 8)
	orElse(&c.SiteNames, 50)
	c.Schedule.fill()
	if c.Dial == nil {
		c.Dial = dialSystem
	}
	if c.Open == nil {
		c.Open = openReal
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Relay works the queue. Make one with New, then Run it.
type Relay struct {
	cfg     Config
	blocked blockage
	names   siteNames
}

// New checks the configuration and fills in defaults.
func New(c Config) (*Relay, error) {
	var errs []error
	for _, need := range []struct {
		missing bool
		what    string
	}{{c.Queue == nil, "Queue"}, {c.Bodies == nil, "Bodies"}, {c.MX == nil, "MX"}, {c.Reports == nil, "Reports"}, {c.Accepter == nil, "Accepter"}, {c.Hello == "", "Hello"}} {
		if need.missing {
			errs = append(errs, errors.New("relay: Config."+need.what+" is required"))
		}
	}
	c.fill()
	errs = append(errs, c.Schedule.validate())
	for i := range c.Routes {
		errs = append(errs, c.Routes[i].validate())
	}
	for _, n := range []int{c.Lines, c.Window, c.Connections, c.PerSite, c.PerConnection, c.PerTransaction, c.Addresses} {
		if n < 1 {
			errs = append(errs, errors.New("relay: a limit is less than 1"))
			break
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Relay{cfg: c, names: siteNames{most: c.SiteNames}}, nil
}

// Blocked reports whether port 25 seems to be blocked: hosts of several networks
// did not answer, and nobody did.
func (r *Relay) Blocked() bool { return r.blocked.blocked(r.cfg.Now()) }

// dialSystem is the system's network.
func dialSystem(ctx context.Context, network, addr string, source netip.Addr) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	if source.IsValid() && network != "unix" {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	return d.DialContext(ctx, network, addr)
}

// openReal is smtpclient.Open.
func openReal(ctx context.Context, conn net.Conn, cfg smtpclient.Config) (Session, error) {
	s, err := smtpclient.Open(ctx, conn, cfg)
	if err != nil {
		return nil, err
	}
	return s, nil
}
