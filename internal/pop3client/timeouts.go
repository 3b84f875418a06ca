package pop3client

import "time"

// The timeouts of a session. RFC 1939 has none for clients; its §3 lets servers wait ten
// minutes, and that is what work at a large maildrop may take.
const (
	GreetingTimeout = 2 * time.Minute
	CommandTimeout  = 2 * time.Minute  // one reply
	LoginTimeout    = 5 * time.Minute  // the replies to a login, and the first lines of listings
	IdleTimeout     = 2 * time.Minute  // between two octets of a listing or a message
	TLSTimeout      = 1 * time.Minute  // STLS' reply and, once more, the handshake
	QuitTimeout     = 10 * time.Minute // the reply to QUIT when messages are to be removed: it tells whether they are
	ByeTimeout      = 10 * time.Second // the reply to QUIT when nothing depends on it
	// MinRate is the least speed, in octets a second, at which listings and messages must
	// come, beyond IdleTimeout: it bounds what a server that sends drop by drop can hold.
	MinRate = 64
)

// Timeouts are a session's; a zero field means the constant of its name.
type Timeouts struct {
	Greeting, Command, Login, Idle, TLS, Quit, Bye time.Duration
	MinRate                                        int // octets a second
}

func (t Timeouts) withDefaults() Timeouts {
	def := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	def(&t.Greeting, GreetingTimeout)
	def(&t.Command, CommandTimeout)
	def(&t.Login, LoginTimeout)
	def(&t.Idle, IdleTimeout)
	def(&t.TLS, TLSTimeout)
	def(&t.Quit, QuitTimeout)
	def(&t.Bye, ByeTimeout)
	if t.MinRate <= 0 {
		t.MinRate = MinRate
	}
	return t
}
