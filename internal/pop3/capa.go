package pop3

import (
	"strconv"
	"time"
)

// Capabilities is what CAPA tells (RFC 2449 §5, §6). TOP, UIDL, RESP-CODES,
// AUTH-RESP-CODE, PIPELINING, LANG and UTF8 USER are always told: they are always there.
type Capabilities struct {
	User           bool          // USER and PASS are allowed now
	SASL           []string      // mechanisms; none leaves the line out
	STLS           bool          // STLS is possible now (RFC 2595 §4)
	LoginDelay     time.Duration // 0 leaves the line out (RFC 2449 §6.5)
	Expire         time.Duration // how long mail stays at least; 0 is NEVER (RFC 2449 §6.7)
	Implementation string        // "" leaves the line out (RFC 2449 §6.9)
}

// AppendCapa appends the lines of the CAPA reply without its status line, ended
// by the termination octet. No line is longer than MaxCapaOctets: mechanisms
// that do not fit are left out.
func AppendCapa(b []byte, c Capabilities) []byte {
	b = append(b, "TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\n"...)
	if c.User {
		b = append(b, "USER\r\n"...)
	}
	if len(c.SASL) > 0 {
		start := len(b)
		b = append(b, "SASL"...)
		for _, m := range c.SASL {
			if len(b)-start+1+len(m)+2 > MaxCapaOctets {
				break
			}
			b = append(append(b, ' '), m...)
		}
		b = append(b, "\r\n"...)
	}
	if c.STLS {
		b = append(b, "STLS\r\n"...)
	}
	b = append(b, "UTF8 USER\r\nLANG\r\n"...)
	b = appendExpire(b, c.Expire)
	if c.LoginDelay > 0 {
		b = append(b, "LOGIN-DELAY "...)
		b = strconv.AppendInt(b, int64((c.LoginDelay+time.Second-1)/time.Second), 10)
		b = append(b, "\r\n"...)
	}
	if c.Implementation != "" {
		b = append(b, "IMPLEMENTATION "...)
		b = append(b, truncate(c.Implementation, MaxCapaOctets-len("IMPLEMENTATION \r\n"))...)
		b = append(b, "\r\n"...)
	}
	return append(b, ".\r\n"...)
}

// appendExpire tells whole days, rounded down: the promise is a minimum. Less
// than a day is told as 1, because EXPIRE 0 means something else.
func appendExpire(b []byte, d time.Duration) []byte {
	if d <= 0 {
		return append(b, "EXPIRE NEVER\r\n"...)
	}
	b = append(b, "EXPIRE "...)
	b = strconv.AppendInt(b, max(1, int64(d/(24*time.Hour))), 10)
	return append(b, "\r\n"...)
}

func truncate(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
