package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"poczta.example/poczta/internal/config"
)

// services are the keys of [listen], in the order in which they are opened.
var services = []string{"smtp", "submission", "submissions", "lmtp", "pop3", "pop3s", "http", "https", "metrics"}

// entries returns what the configuration says of a service.
func entries(c *config.Config, service string) []string {
	l := c.Listen
	switch service {
	case "smtp":
		return l.SMTP
	case "submission":
		return l.Submission
	case "submissions":
		return l.Submissions
	case "lmtp":
		return l.LMTP
	case "pop3":
		return l.POP3
	case "pop3s":
		return l.POP3S
	case "metrics":
		return c.Metrics.Listen
	}
	switch {
	case service == "http" && c.TLS.Mode == "acme":
		return l.HTTP
	case service == "https" && c.ServesHTTPS():
		return l.HTTPS
	}
	return nil
}

// Endpoints returns the places where the server will listen, by service.
func Endpoints(c *config.Config) (map[string][]config.Endpoint, error) {
	out := map[string][]config.Endpoint{}
	for _, s := range services {
		eps, err := c.Endpoints("listen."+s, entries(c, s))
		if err != nil {
			return nil, err
		}
		out[s] = eps
	}
	return out, nil
}

// PortOf returns the TCP port of a service, a key of [listen]; 0 when it is off.
func PortOf(c *config.Config, service string) int { return portOf(c, service) }

// listeners are the open sockets by service.
type listeners map[string][]net.Listener

// inherit takes the sockets that the service manager opened.
func (l listeners) inherit(sockets []Inherited) error {
	var errs []error
	for _, s := range sockets {
		name := strings.TrimPrefix(s.Name, "poczta-")
		if !slices.Contains(services, name) {
			errs = append(errs, fmt.Errorf("use inherited socket %q: FileDescriptorName must be one of %s", s.Name, strings.Join(services, ", ")))
			continue
		}
		x, err := s.listener()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l[name] = append(l[name], x)
	}
	return errors.Join(errs...)
}

// Listening is a socket on which a running server listens.
type Listening struct {
	Service   string `json:"service"`   // a key of [listen], or "metrics"
	Network   string `json:"network"`   // "tcp" or "unix"
	Address   string `json:"address"`   // host:port or a path
	Inherited bool   `json:"inherited"` // opened by the service manager
}

// list tells all sockets, those of one service side by side.
func (l listeners) list(inherited []Inherited) []Listening {
	var out []Listening
	for _, s := range services {
		for _, x := range l[s] {
			out = append(out, Listening{s, x.Addr().Network(), x.Addr().String(), isInherited(inherited, s)})
		}
	}
	return out
}

// isInherited reports whether a service's sockets are the service manager's.
func isInherited(inherited []Inherited, service string) bool {
	return slices.ContainsFunc(inherited, func(i Inherited) bool { return strings.TrimPrefix(i.Name, "poczta-") == service })
}

// open opens the places of one network, "tcp" or "unix", that the configuration
// names for services without inherited sockets. All problems are joined.
func (l listeners) open(c *config.Config, network string, inherited []Inherited, log *slog.Logger) error {
	eps, err := Endpoints(c)
	errs := []error{err}
	for _, s := range services {
		if isInherited(inherited, s) {
			continue
		}
		for _, e := range eps[s] {
			if e.Network != network {
				continue
			}
			x, err := Listen(e)
			if errors.Is(err, syscall.EAFNOSUPPORT) && len(eps[s]) > 1 {
				log.Warn("address family is not there", "listen", e.Address)
				continue
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			l[s] = append(l[s], x)
		}
	}
	return errors.Join(errs...)
}

// Listen opens one place. IPv6 sockets take IPv6 alone, so that 0.0.0.0 and ::
// can be named side by side. A UNIX socket that a dead process left is replaced.
func Listen(e config.Endpoint) (net.Listener, error) {
	network := e.Network
	if network == "tcp" {
		network = "tcp4"
		if strings.HasPrefix(e.Address, "[") {
			network = "tcp6"
		}
	} else if err := vacate(e); err != nil {
		return nil, err
	}
	// No probes of idle peers: every protocol has a timeout of its own, and setting
	// probes up takes four system calls a connection.
	l, err := (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), network, e.Address)
	if err != nil {
		return nil, fmt.Errorf("%s: listen on %s: %w%s", e.Key, e.Address, errors.Unwrap(err), listenHint(err))
	}
	if e.Network == "unix" {
		if err := os.Chmod(e.Address, 0o660); err != nil {
			l.Close()
			return nil, fmt.Errorf("%s: protect socket: %w", e.Key, err)
		}
	}
	return l, nil
}

// vacate removes the socket that a dead process left. Whatever else has that name
// stays: a slip of the pen in the configuration must not cost a file.
func vacate(e config.Endpoint) error {
	info, err := os.Lstat(e.Address)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%s: look at %s: %w", e.Key, e.Address, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s: listen on %s: that is there, and it is no socket; name another file", e.Key, e.Address)
	}
	if conn, err := net.Dial("unix", e.Address); err == nil {
		conn.Close()
		return fmt.Errorf("%s: listen on %s: another process listens there", e.Key, e.Address)
	}
	if err := os.Remove(e.Address); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: replace socket: %w", e.Key, err)
	}
	return nil
}

func listenHint(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "; another program has this port: end it, or choose another (listen.port_base moves all)"
	case errors.Is(err, syscall.EACCES):
		return "; ports below 1024 need root, the systemd unit, or CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "; this host does not have that address"
	}
	return ""
}

func (l listeners) close() {
	for _, list := range l {
		for _, x := range list {
			_ = x.Close()
		}
	}
}
