package clientconfig

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/limit"
)

// Paths of the answers. The one of autodiscovery is compared without regard to case:
// programs write it in several ways.
const (
	PathAutoconfig   = "/mail/config-v1.1.xml"                        // on autoconfig.DOMAIN
	PathWellKnown    = "/.well-known/autoconfig/mail/config-v1.1.xml" // on DOMAIN
	PathAutodiscover = "/autodiscover/autodiscover.xml"               // on autodiscover.DOMAIN, DOMAIN, or where SRV leads
	PathApple        = "/mail/apple.mobileconfig"                     // ?emailaddress=ADDRESS
)

// Prefixes of the names under which programs look for settings.
const (
	HostAutoconfig   = "autoconfig."
	HostAutodiscover = "autodiscover."
)

// maxQuestion is the longest request body that is read, in octets.
const maxQuestion = 16 << 10

// HandlerConfig is what a Handler works with.
type HandlerConfig struct {
	// Settings returns the settings for a domain's people, or false if the domain is not
	// ours; required. It is called for names that strangers choose. It is not told the
	// local part: what is answered can't depend on whether an account exists.
	Settings func(ctx context.Context, domain address.Domain) (Config, bool)
	Address  limit.Rate       // requests of one address; 0 is 30 at once and one each 2 s
	Network  limit.Rate       // requests of one network; 0 is 300 at once and five each second
	Now      func() time.Time // nil is time.Now
}

// Handler answers programs that look for their settings: Thunderbird's
// autoconfiguration, Microsoft's autodiscovery and Apple's profiles. The domain is
// that of the address asked for, else that of the host in the request. Other paths
// are 404. Safe for concurrent use.
type Handler struct {
	cfg   HandlerConfig
	peers *limit.Buckets[netip.Addr]
	nets  *limit.Buckets[netip.Prefix]
}

// NewHandler makes a Handler.
func NewHandler(c HandlerConfig) (*Handler, error) {
	if c.Settings == nil {
		return nil, fmt.Errorf("clientconfig: Settings is missing")
	}
	if c.Address.IsZero() {
		c.Address = limit.Rate{Burst: 30, Every: 2 * time.Second}
	}
	if c.Network.IsZero() {
		c.Network = limit.Rate{Burst: 300, Every: time.Second / 5}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	h := &Handler{cfg: c}
	var err error
	if h.peers, err = limit.NewBuckets[netip.Addr](c.Address, 0); err != nil {
		return nil, err
	}
	h.nets, err = limit.NewBuckets[netip.Prefix](c.Network, 0)
	return h, err
}

// Serves reports whether a request is for a Handler, by its path.
func Serves(path string) bool {
	return path == PathAutoconfig || path == PathWellKnown || path == PathApple || strings.EqualFold(path, PathAutodiscover)
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if !Serves(req.URL.Path) {
		http.NotFound(w, req)
		return
	}
	if !h.admit(req.RemoteAddr) {
		w.Header().Set("Retry-After", "60")
		http.Error(w, "too many requests; try again in a minute", http.StatusTooManyRequests)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	methods := []string{http.MethodGet, http.MethodHead}
	answer := h.autoconfig
	switch {
	case req.URL.Path == PathApple:
		answer = h.apple
	case strings.EqualFold(req.URL.Path, PathAutodiscover):
		answer, methods = h.autodiscover, append(methods, http.MethodPost)
	}
	for _, m := range methods {
		if req.Method == m {
			answer(w, req)
			return
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
}

// admit counts a request; those of this host are not limited.
func (h *Handler) admit(peer string) bool {
	ap, err := netip.ParseAddrPort(peer)
	if err != nil {
		return false
	}
	addr, now := ap.Addr().Unmap().WithZone(""), h.cfg.Now()
	return addr.IsLoopback() || h.peers.Allow(addr, now) && h.nets.Allow(limit.Networks{}.Of(addr), now)
}

// settings finds the settings for an address that the request names, or for the
// request's host when it names none. person is zero in the second case.
func (h *Handler) settings(req *http.Request, asked string) (c Config, person address.Address, ok bool) {
	domain := address.Domain{}
	if asked != "" {
		a, err := address.Parse(asked)
		if err != nil {
			return c, person, false
		}
		person, domain = a, a.Domain()
	} else {
		host, _, err := net.SplitHostPort(req.Host)
		if err != nil {
			host = req.Host
		}
		host = strings.ToLower(host)
		for _, prefix := range []string{HostAutoconfig, HostAutodiscover} {
			if rest, cut := strings.CutPrefix(host, prefix); cut {
				host = rest
				break
			}
		}
		if domain, err = address.ParseDomain(host); err != nil {
			return c, person, false
		}
	}
	if domain.IsLiteral() {
		return c, person, false
	}
	c, ok = h.cfg.Settings(req.Context(), domain)
	return c, person, ok
}

func (h *Handler) autoconfig(w http.ResponseWriter, req *http.Request) {
	c, _, ok := h.settings(req, req.URL.Query().Get("emailaddress"))
	if !ok {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	_, _ = w.Write(c.XML()) // a client that left needs no answer
}

func (h *Handler) apple(w http.ResponseWriter, req *http.Request) {
	c, person, ok := h.settings(req, req.URL.Query().Get("emailaddress"))
	if !ok || person.IsZero() {
		http.NotFound(w, req)
		return
	}
	profile, err := c.Apple(person)
	if err != nil {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", AppleType)
	w.Header().Set("Content-Disposition", `attachment; filename="mail.mobileconfig"`)
	_, _ = w.Write(profile)
}

// autodiscover answers 200 also when it refuses: programs read what is in the body.
func (h *Handler) autodiscover(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	refuse := func(code int, why string) { _, _ = w.Write(Refuse(code, why)) }
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxQuestion))
	q, syntax := ParseQuestion(body)
	if err != nil || syntax != nil {
		refuse(CodeInvalid, "Invalid request")
		return
	}
	if q.Schema != "" && !strings.EqualFold(q.Schema, schemaOutlook) {
		refuse(CodeUnavailable, "Provider is not available")
		return
	}
	if q.Address == "" {
		refuse(CodeInvalid, "Invalid request")
		return
	}
	c, person, ok := h.settings(req, q.Address)
	if !ok {
		refuse(CodeUnknown, "The domain of the e-mail address is not served here")
		return
	}
	_, _ = w.Write(c.Autodiscover(person))
}
