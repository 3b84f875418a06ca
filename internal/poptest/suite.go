package poptest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/pop3"
)

// Config says which server is tested, and how.
type Config struct {
	Addr      string // HOST:PORT
	User      string
	Password  string
	TLS       bool        // TLS from the first octet
	StartTLS  bool        // STLS before each login
	TLSConfig *tls.Config // for both; needs a server name or InsecureSkipVerify
	// Destructive allows checks that delete messages of the mailbox.
	Destructive bool
	Timeout     time.Duration // for each reply; 0 is 10 s
	// Seeds are messages that are in the mailbox, as Seed has sent them; checks
	// that need to know what they get are skipped without.
	Seeds []Message
}

// Outcome is what a check found.
type Outcome string

// The outcomes. Info is a fact that no standard judges.
const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	Skip Outcome = "skip"
	Info Outcome = "info"
)

// Result is the outcome of one check. Field names in JSON are a contract.
type Result struct {
	Number   int     `json:"number"`
	Name     string  `json:"name"`
	Source   string  `json:"source"` // the RFC section
	Outcome  Outcome `json:"outcome"`
	Expected string  `json:"expected,omitempty"`
	Got      string  `json:"got,omitempty"`
	Millis   int64   `json:"millis"`
}

// finding is the error by which a check ends with an outcome other than Pass.
type finding struct {
	outcome       Outcome
	expected, got string
}

func (f *finding) Error() string { return string(f.outcome) + ": " + f.got }

func fail(expected, got string) error { return &finding{Fail, expected, got} }
func skip(why string) error           { return &finding{outcome: Skip, got: why} }
func info(format string, a ...any) error {
	return &finding{outcome: Info, got: fmt.Sprintf(format, a...)}
}

// check is one row of the tables of checks.
type check struct {
	number int
	name   string
	source string
	run    func(*Suite, context.Context) error
}

// Suite runs the checks against one server. Not for concurrent use.
type Suite struct {
	config Config
	open   []net.Conn
	capa   map[string]string // capabilities in AUTHORIZATION, secured as configured
	styles []string          // offences of single lines, for the last checks
	codes  map[string]bool   // response codes seen
	longer []string          // status lines over the limit
	braces []string          // texts that begin with "[" but are no code
}

// New makes a suite.
func New(c Config) (*Suite, error) {
	if c.Addr == "" || c.User == "" {
		return nil, errors.New("poptest needs the server's address and a user")
	}
	if c.TLS && c.StartTLS {
		return nil, errors.New("TLS from the first octet and STLS exclude each other: use one of -tls and -starttls")
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.TLSConfig == nil {
		c.TLSConfig = &tls.Config{}
	}
	if c.TLSConfig.ServerName == "" {
		host, _, err := net.SplitHostPort(c.Addr)
		if err != nil {
			return nil, fmt.Errorf("read address: %w: give HOST:PORT", err)
		}
		c.TLSConfig = c.TLSConfig.Clone()
		c.TLSConfig.ServerName = host
	}
	return &Suite{config: c, codes: map[string]bool{}}, nil
}

// Run runs all checks in order and calls tell after each. The error is only that
// the server can't be used at all: no connection, no login.
func (s *Suite) Run(ctx context.Context, tell func(Result)) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	for _, k := range slices.Concat(authorizationChecks, capaChecks, tlsChecks, authChecks, transactionChecks, listingChecks,
		retrieveChecks, deleteChecks, utf8Checks, closingChecks) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		start := time.Now()
		err := k.run(s, ctx)
		s.closeAll()
		tell(result(k, err, time.Since(start)))
	}
	return nil
}

// begin makes sure that there is a server and a login, and reads CAPA.
func (s *Suite) begin(ctx context.Context) error {
	defer s.closeAll()
	if _, err := s.login(ctx); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	c, err := s.secure(ctx)
	if err != nil {
		return err
	}
	s.capa, _ = c.capabilities()
	return nil
}

func (s *Suite) closeAll() {
	for _, c := range s.open {
		_ = c.Close()
	}
	s.open = s.open[:0]
}

func result(k check, err error, took time.Duration) Result {
	r := Result{Number: k.number, Name: k.name, Source: k.source, Outcome: Pass, Millis: took.Milliseconds()}
	if err == nil {
		return r
	}
	if f, ok := errors.AsType[*finding](err); ok {
		r.Outcome, r.Expected, r.Got = f.outcome, f.expected, f.got
		return r
	}
	r.Outcome, r.Expected, r.Got = Fail, "a reply in time", err.Error()
	return r
}

// has reports whether a capability is announced.
func (s *Suite) has(tag string) bool {
	_, ok := s.capa[tag]
	return ok
}

// needs skips a check without the capability.
func (s *Suite) needs(tag string) error {
	if !s.has(tag) {
		return skip("CAPA does not announce " + tag)
	}
	return nil
}

// style notes an offence that concerns every line.
func (s *Suite) style(format string, a ...any) {
	if len(s.styles) < 5 {
		s.styles = append(s.styles, fmt.Sprintf(format, a...))
	}
}

// statusLine notes what the last checks judge.
func (s *Suite) statusLine(line string, r pop3.Reply) {
	if len(line)+2 > pop3.MaxResponseOctets && len(s.longer) < 5 {
		s.longer = append(s.longer, fmt.Sprintf("%d octets: %.40q", len(line)+2, line))
	}
	if r.Status == pop3.StatusChallenge {
		return
	}
	if !strings.HasPrefix(line, "+OK") && !strings.HasPrefix(line, "-ERR") {
		s.style("status %.10q is not in capitals", line)
	}
	if r.Code != "" {
		s.codes[strings.ToUpper(string(r.Code))] = true
	} else if strings.HasPrefix(r.Text, "[") && len(s.braces) < 5 {
		s.braces = append(s.braces, r.Text)
	}
}

// capabilities asks CAPA and returns tag → arguments; the error is a finding.
func (c *client) capabilities() (map[string]string, error) {
	body, err := c.multi("CAPA")
	if err != nil {
		return nil, err
	}
	capa := map[string]string{}
	for _, l := range lines(body) {
		tag, args, _ := strings.Cut(l, " ")
		capa[strings.ToUpper(tag)] = args
		if len(l)+2 > pop3.MaxCapaOctets {
			return capa, fail("lines of at most 512 octets", fmt.Sprintf("%d octets: %.40q", len(l)+2, l))
		}
	}
	return capa, nil
}

// lines splits the octets of a multi-line reply.
func lines(body []byte) []string {
	text := strings.TrimSuffix(string(body), "\r\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\r\n")
}
