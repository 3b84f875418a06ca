package smtpserver

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// Server speaks SMTP, or LMTP, on any number of listeners.
type Server struct {
	cfg Config
}

// New returns a server for cfg, or what is wrong with cfg.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure SMTP server: %w", err)
	}
	cfg.fill()
	return &Server{cfg: cfg}, nil
}

// Serve accepts sessions from l until Shutdown is called (then it returns nil) or ctx
// ends (then every session is cut off and it returns ctx's error); l is closed. It
// returns after the last of its sessions ended. May be called for several listeners.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return errors.ErrUnsupported
}

// Shutdown closes the listeners, ends idle sessions with 421, lets transactions
// finish until ctx ends, and then cuts off what is left. It returns after the last
// session ended; the error is ctx's if sessions were cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	return errors.ErrUnsupported
}
