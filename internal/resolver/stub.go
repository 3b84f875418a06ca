package resolver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// udpSize is the size of answers we accept over UDP, which avoids fragments (RFC 9715 §3).
const udpSize = 1232

// resolvConf is where the system names its servers.
const resolvConf = "/etc/resolv.conf"

// Config says whom a Stub asks.
type Config struct {
	// Servers are addresses, with a port when it is not 53. Empty means those of
	// /etc/resolv.conf, or the one on 127.0.0.1 if it names none.
	Servers []string
	Timeout time.Duration // for one question to one server; 0 is 5 s
	Total   time.Duration // for a Lookup, however many servers are asked; 0 is 30 s
	// Trusted are the addresses of validating servers reached by a path that nobody
	// can write to: their AD bit is believed, and no other's, since anyone on the way
	// could set it (RFC 4035 §4.9.3). Loopback is no exception: forwarders that pass on
	// what they are told live there too.
	Trusted  []string
	TrustAll bool // all Servers are trusted
}

// Stub is a Resolver that asks recursive servers over UDP, and TCP when an
// answer is truncated. Each server is asked in turn, the whole list twice. It
// keeps no answers: put a Cache before it. Every question has a random id and a
// socket, hence a port, of its own, and an answer to another question, or from
// another address, is ignored.
type Stub struct {
	servers []netip.AddrPort
	timeout time.Duration
	total   time.Duration
	trusted map[netip.Addr]bool
	all     bool // trust every server
}

// New makes a Stub. It reads /etc/resolv.conf when c names no servers.
func New(c Config) (*Stub, error) {
	s := &Stub{timeout: c.Timeout, total: c.Total, trusted: map[netip.Addr]bool{}, all: c.TrustAll}
	if s.timeout == 0 {
		s.timeout = 5 * time.Second
	}
	if s.total == 0 {
		s.total = 30 * time.Second
	}
	names := c.Servers
	if len(names) == 0 {
		if sys, err := dns.ClientConfigFromFile(resolvConf); err == nil {
			names = sys.Servers
		}
	}
	if len(names) == 0 {
		names = []string{"127.0.0.1"}
	}
	for _, n := range names {
		ap, err := server(n)
		if err != nil {
			return nil, err
		}
		s.servers = append(s.servers, ap)
	}
	for _, n := range c.Trusted {
		ap, err := server(n)
		if err != nil {
			return nil, err
		}
		s.trusted[ap.Addr()] = true
	}
	return s, nil
}

// server reads the address of a name server.
func server(name string) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(name); err == nil {
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
	}
	a, err := netip.ParseAddr(strings.Trim(name, "[]"))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("name server %q: not an IP address; write as in 127.0.0.1 or [::1]:53", name)
	}
	return netip.AddrPortFrom(a.Unmap(), 53), nil
}

// Trusts reports whether some server's AD bit is believed, so that answers can be Secure.
func (s *Stub) Trusts() bool { return slices.ContainsFunc(s.servers, s.trusts) }

func (s *Stub) trusts(server netip.AddrPort) bool {
	a := server.Addr()
	return s.all || s.trusted[a]
}

// Servers returns whom the stub asks.
func (s *Stub) Servers() []netip.AddrPort { return s.servers }

// Lookup implements Resolver.
func (s *Stub) Lookup(ctx context.Context, name string, t Type) (Answer, error) {
	fqdn, err := question(name)
	if err != nil {
		return Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.total)
	defer cancel()
	var last error
	for range 2 {
		for _, server := range s.servers {
			reply, err := s.ask(ctx, server, fqdn, t)
			if err == nil {
				reply.AuthenticatedData = reply.AuthenticatedData && s.trusts(server)
				ans, err := read(reply, fqdn, t)
				if err == nil || !errors.Is(err, ErrTemporary) {
					return ans, err
				}
				last = err
				continue
			}
			last = fmt.Errorf("ask %s for %s: %w: %w", server, strings.TrimSuffix(fqdn, "."), ErrTemporary, err)
			if ctx.Err() != nil {
				return Answer{}, last
			}
		}
	}
	return Answer{}, last
}

// ask puts one question to one server.
func (s *Stub) ask(ctx context.Context, server netip.AddrPort, fqdn string, t Type) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	m := new(dns.Msg)
	m.SetQuestion(fqdn, uint16(t))
	m.SetEdns0(udpSize, true)
	m.AuthenticatedData = true
	reply, err := exchange(ctx, "udp", server, m)
	if err == nil && reply.Truncated || errors.Is(err, errForeign) {
		reply, err = exchange(ctx, "tcp", server, m)
	}
	if err == nil && reply.Rcode == dns.RcodeFormatError { // a server from before EDNS
		m.Extra = nil
		reply, err = exchange(ctx, "udp", server, m)
	}
	return reply, err
}

// maxForeign is how many datagrams that do not answer the question are passed over. Who
// sends more guesses its id: the question is put anew by TCP.
const maxForeign = 8

var errForeign = errors.New("too many answers to other questions")

func exchange(ctx context.Context, network string, server netip.AddrPort, m *dns.Msg) (*dns.Msg, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	dc := &dns.Conn{Conn: conn, UDPSize: udpSize}
	if err := dc.WriteMsg(m); err != nil {
		return nil, err
	}
	for foreign := 0; ; foreign++ { // whoever answers another question is ignored, until the deadline
		if foreign > maxForeign {
			return nil, errForeign
		}
		reply, err := dc.ReadMsg()
		if err != nil {
			if network == "udp" && reply != nil && reply.Id == m.Id && reply.Truncated {
				return reply, nil
			}
			if _, isNet := errors.AsType[net.Error](err); isNet || network == "tcp" || ctx.Err() != nil {
				return nil, err
			}
			continue
		}
		if reply.Id == m.Id && reply.Response && len(reply.Question) == 1 &&
			strings.EqualFold(reply.Question[0].Name, m.Question[0].Name) && reply.Question[0].Qtype == m.Question[0].Qtype {
			return reply, nil
		}
		if network == "tcp" {
			return nil, errors.New("answer to another question")
		}
	}
}

// question checks a name and writes it in lower case with its final dot.
func question(name string) (string, error) {
	if plain(name) {
		return name + ".", nil
	}
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return "", fmt.Errorf("look up %q: %w", name, ErrName)
	}
	for _, label := range strings.Split(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > 63 {
			return "", fmt.Errorf("look up %q: %w", name, ErrName)
		}
	}
	return strings.ToLower(dns.Fqdn(name)), nil
}

// plain reports a name that needs no change but a final dot: lower-case letters, digits, hyphens and
// underscores in labels of 1 to 63, as nearly all are.
func plain(name string) bool {
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			if label++; label > 63 {
				return false
			}
		default:
			return false
		}
	}
	return label > 0 && len(name) <= 253
}

// maxAliases bounds the CNAMEs that are followed within an answer.
const maxAliases = 16

// read takes the records of type t from a reply, following CNAMEs inside it.
// What it returns is secure if the reply's AD bit is set.
func read(m *dns.Msg, fqdn string, t Type) (Answer, error) {
	plain := strings.TrimSuffix(fqdn, ".")
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return Answer{}, fmt.Errorf("look up %s: %w (%s)", plain, ErrTemporary, dns.RcodeToString[m.Rcode])
	}
	name, chain := fqdn, time.Duration(math.MaxInt64) // chain: the least TTL of the CNAMEs
	for range maxAliases {
		ans, alias := Answer{Name: strings.TrimSuffix(name, "."), Secure: m.AuthenticatedData}, ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if !strings.EqualFold(h.Name, name) || h.Class != dns.ClassINET {
				continue
			}
			if c, ok := rr.(*dns.CNAME); ok && t != CNAME {
				alias, chain = strings.ToLower(c.Target), min(chain, time.Duration(h.Ttl)*time.Second)
			} else if h.Rrtype == uint16(t) {
				r := record(rr)
				r.TTL = min(r.TTL, chain)
				ans.Records = append(ans.Records, r)
			}
		}
		if len(ans.Records) > 0 && m.Rcode == dns.RcodeSuccess {
			return ans, nil
		}
		if alias == "" {
			return Answer{}, &Absent{Name: plain, NoData: m.Rcode == dns.RcodeSuccess, TTL: negativeTTL(m, name), Secure: m.AuthenticatedData}
		}
		name = alias
	}
	return Answer{}, fmt.Errorf("look up %s: %w (more than %d CNAMEs)", plain, ErrTemporary, maxAliases)
}

// negativeTTL is the lesser of the SOA's TTL and its minimum field, and 0 where
// the reply has no SOA of a zone that holds the name (RFC 2308 §3, §5).
func negativeTTL(m *dns.Msg, name string) time.Duration {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, name) {
			return time.Duration(min(soa.Hdr.Ttl, soa.Minttl)) * time.Second
		}
	}
	return 0
}

func record(rr dns.RR) Record {
	r := Record{TTL: time.Duration(rr.Header().Ttl) * time.Second}
	host := func(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }
	switch x := rr.(type) {
	case *dns.A:
		r.Addr, _ = netip.AddrFromSlice(x.A.To4())
	case *dns.AAAA:
		r.Addr, _ = netip.AddrFromSlice(x.AAAA.To16())
	case *dns.NS:
		r.Host = host(x.Ns)
	case *dns.CNAME:
		r.Host = host(x.Target)
	case *dns.PTR:
		r.Host = host(x.Ptr)
	case *dns.MX:
		r.Host, r.Preference = host(x.Mx), x.Preference
	case *dns.SOA:
		r.Host, r.Serial = host(x.Ns), x.Serial
	case *dns.SRV:
		r.Host, r.Preference, r.Weight, r.Port = host(x.Target), x.Priority, x.Weight, x.Port
	case *dns.TXT:
		for _, part := range x.Txt {
			r.Text += octets(part)
		}
	case *dns.TLSA:
		r.Usage, r.Selector, r.Matching = x.Usage, x.Selector, x.MatchingType
		r.Data = hexOctets(x.Certificate)
	}
	return r
}

// octets undoes the escapes in which the DNS library holds a string (RFC 1035 §5.1).
func octets(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:min(i+4, len(s))], 10, 8); err == nil && i+3 < len(s) {
				b, i = append(b, byte(n)), i+3
				continue
			}
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}
