package greeting

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"poczta.example/poczta/internal/verdict"
)

// Reverse says IPRevGeneric when the reverse name of a host at ip is one that providers make of an address.
func Reverse(name string, ip netip.Addr) []verdict.Item {
	if !Generic(name, ip) {
		return nil
	}
	return []verdict.Item{{Name: verdict.IPRevGeneric, Detail: ip.Unmap().String() + " is called " + show(name)}}
}

// Words in names of hosts that are customers' machines, and of those that are mail servers.
var (
	customers = []string{
		"adsl", "broadband", "cable", "client", "clients", "cpe", "cust", "customer", "customers", "dhcp", "dial", "dialin", "dialup", "dsl", "dyn", "dynamic",
		"dynip", "fiber", "ftth", "host", "hsd", "ip", "lte", "mobile", "node", "nat", "pool", "pools", "ppp", "pppoe", "pptp", "res", "residential", "user", "users",
		"vdsl", "vps", "wifi", "wimax", "wireless", "xdsl",
	}
	mailers = []string{"mail", "mx", "smtp", "mta", "mailer", "mailout", "out", "outbound", "relay", "email"}
)

// Generic reports whether a reverse name holds the address, or a word for customers' machines with a part of the address.
// A name with a word for mail servers is not generic: somebody gave it.
func Generic(name string, ip netip.Addr) bool {
	ip = ip.Unmap()
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	own := name
	if domain, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		own = strings.TrimSuffix(strings.TrimSuffix(name, domain), ".")
	}
	if own == "" || !ip.IsValid() || len(name) > 255 {
		return false
	}
	words, numbers := tokens(own)
	if slices.ContainsFunc(words, func(w string) bool { return slices.Contains(mailers, w) }) {
		return false
	}
	customer := slices.ContainsFunc(words, func(w string) bool { return slices.Contains(customers, w) })
	if ip.Is4() {
		return holdsIPv4(own, numbers, ip.As4(), customer)
	}
	return holdsIPv6(own, ip)
}

// tokens splits a name into its runs of letters and its runs of digits, those without leading zeros.
func tokens(s string) (words, numbers []string) {
	for i := 0; i < len(s); {
		j := i
		switch {
		case digit(s[i]):
			for j < len(s) && digit(s[j]) {
				j++
			}
			n := strings.TrimLeft(s[i:j], "0")
			if n == "" {
				n = "0"
			}
			numbers = append(numbers, n)
		case letter(s[i]):
			for j < len(s) && letter(s[j]) {
				j++
			}
			words = append(words, s[i:j])
		default:
			j++
		}
		i = j
	}
	return words, numbers
}

func digit(c byte) bool  { return c >= '0' && c <= '9' }
func letter(c byte) bool { return c >= 'a' && c <= 'z' }

// holdsIPv4 looks for three octets in a row, forwards or backwards, for all four as padded digits or in
// hexadecimal, and for one of the last two beside a word for customers.
func holdsIPv4(own string, numbers []string, octets [4]byte, customer bool) bool {
	var want []string
	padded, hexed := "", hex.EncodeToString(octets[:])
	for _, o := range octets {
		want = append(want, fmt.Sprint(o))
		padded += fmt.Sprintf("%03d", o)
	}
	if customer && (slices.Contains(numbers, want[2]) || slices.Contains(numbers, want[3])) {
		return true
	}
	back := slices.Clone(want)
	slices.Reverse(back)
	for _, order := range [][]string{want, back} {
		for from := range 2 {
			if holds(numbers, order[from:from+3]) {
				return true
			}
		}
	}
	return strings.Contains(own, padded) || strings.Contains(own, hexed)
}

// holds reports whether part stands in all, in a row.
func holds(all, part []string) bool {
	for i := 0; i+len(part) <= len(all); i++ {
		if slices.Equal(all[i:i+len(part)], part) {
			return true
		}
	}
	return false
}

// holdsIPv6 looks for the last eight octets in hexadecimal, forwards or backwards, whatever stands between the digits, and
// for the address as it is written with hyphens for colons.
func holdsIPv6(own string, ip netip.Addr) bool {
	octets := ip.As16()
	tail := hex.EncodeToString(octets[8:])
	back := []byte(tail)
	slices.Reverse(back)
	packed := strings.NewReplacer(".", "", "-", "").Replace(own)
	return strings.Contains(packed, tail) || strings.Contains(packed, string(back)) ||
		strings.Contains(own, strings.ReplaceAll(ip.String(), ":", "-"))
}
