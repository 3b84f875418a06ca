package account

import (
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/md5crypt"
	"github.com/go-crypt/crypt/algorithm/scrypt"
	"github.com/go-crypt/crypt/algorithm/shacrypt"
)

// Bounds of what an imported hash may cost to check: about two seconds of one
// processor and 256 MiB.
const (
	maxArgonKiB     = 256 << 10
	maxArgonPasses  = 20
	maxArgonWork    = 2 << 20 // KiB times passes
	maxArgonLanes   = 16
	maxBcryptCost   = 14
	maxCryptRounds  = 2_000_000
	maxPBKDF2Rounds = 2_000_000
)

// imported is a password field of an import, understood: nothing, a password in
// the clear, SCRAM keys, or a hash to be checked at the first login.
type imported struct {
	plain string
	keys  *scramKeys
	hash  string // the form that checkForeign reads
}

// schemeForm is a Dovecot scheme with its encoding.
var schemeForm = regexp.MustCompile(`^\{([A-Za-z0-9-]{1,24})(?:\.(?i:(b64|base64|hex)))?\}`)

// parseImported reads a password field: {SCHEME} as Dovecot writes it, a crypt
// string beginning with "$", or with bare a password in the clear. Without bare a
// field without scheme is a crypt string, as in a passwd-file. ErrInvalid.
func parseImported(field string, bare bool) (imported, error) {
	if len(field) > maxForeignOctets {
		return imported{}, fmt.Errorf("password %w: it is longer than %d octets", ErrInvalid, maxForeignOctets)
	}
	m := schemeForm.FindStringSubmatch(field)
	switch {
	case field == "":
		return imported{}, nil
	case m == nil && bare && field[0] != '$':
		return imported{plain: field}, nil
	case m == nil:
		return parseCrypt(field)
	}
	scheme, data := strings.ToUpper(m[1]), field[len(m[0]):]
	switch scheme {
	case "PLAIN", "CLEAR", "CLEARTEXT":
		if m[2] != "" {
			b, err := decodeDigest(data, m[2])
			data = string(b)
			if err != nil {
				return imported{}, err
			}
		}
		if data == "" || strings.IndexByte(data, 0) >= 0 {
			return imported{}, fmt.Errorf("password %w: it is empty or holds NUL", ErrInvalid)
		}
		return imported{plain: data}, nil
	case "SCRAM-SHA-256":
		return parseScram(data)
	case "CRYPT", "MD5-CRYPT", "SHA256-CRYPT", "SHA512-CRYPT", "BLF-CRYPT", "ARGON2", "ARGON2I", "ARGON2ID":
		return parseCrypt(data)
	case "PBKDF2":
		_, err := checkDovecotPBKDF2(data, "")
		return imported{hash: "{PBKDF2}" + data}, err
	}
	if _, ok := digestScheme(scheme); !ok {
		return imported{}, fmt.Errorf("password %w: scheme {%s} is not supported; set a new password", ErrInvalid, scheme)
	}
	canonical, err := canonicalDigest(scheme, data, m[2])
	return imported{hash: canonical}, err
}

// maxForeignOctets is the longest password field of an import.
const maxForeignOctets = 1024

// parseScram reads Dovecot's iterations,salt,StoredKey,ServerKey.
func parseScram(data string) (imported, error) {
	bad := fmt.Errorf("password %w: {SCRAM-SHA-256} must be followed by ITERATIONS,SALT,STOREDKEY,SERVERKEY with %d to %d iterations",
		ErrInvalid, minimumIterations, maximumIterations)
	part := strings.Split(data, ",")
	if len(part) != 4 {
		return imported{}, bad
	}
	n, err := strconv.Atoi(part[0])
	salt, err1 := base64.StdEncoding.DecodeString(part[1])
	stored, err2 := base64.StdEncoding.DecodeString(part[2])
	server, err3 := base64.StdEncoding.DecodeString(part[3])
	if err != nil || err1 != nil || err2 != nil || err3 != nil || n < minimumIterations || n > maximumIterations ||
		len(salt) < 8 || len(salt) > 64 || len(stored) != sha256.Size || len(server) != sha256.Size {
		return imported{}, bad
	}
	return imported{keys: &scramKeys{salt: salt, iterations: n, stored: stored, server: server}}, nil
}

// digest is a salted or plain digest: DIGEST followed by the salt.
type digest struct {
	new    func() hash.Hash
	salted bool
}

func digestScheme(scheme string) (digest, bool) {
	switch scheme {
	case "SSHA":
		return digest{sha1.New, true}, true
	case "SSHA256":
		return digest{sha256.New, true}, true
	case "SSHA512":
		return digest{sha512.New, true}, true
	case "SMD5":
		return digest{md5.New, true}, true
	case "SHA", "SHA1":
		return digest{sha1.New, false}, true
	case "SHA256":
		return digest{sha256.New, false}, true
	case "SHA512":
		return digest{sha512.New, false}, true
	case "LDAP-MD5", "PLAIN-MD5":
		return digest{md5.New, false}, true
	}
	return digest{}, false
}

// canonicalDigest checks a digest and writes it as {SCHEME}base64.
func canonicalDigest(scheme, data, encoding string) (string, error) {
	if scheme == "PLAIN-MD5" { // the same digest, in hex unless it says otherwise
		scheme = "LDAP-MD5"
		if encoding == "" {
			encoding = "hex"
		}
	}
	d, _ := digestScheme(scheme)
	b, err := decodeDigest(data, encoding)
	if err != nil {
		return "", err
	}
	size := d.new().Size()
	if len(b) < size || !d.salted && len(b) != size || d.salted && len(b) == size {
		return "", fmt.Errorf("password %w: {%s} has %d octets", ErrInvalid, scheme, len(b))
	}
	return "{" + scheme + "}" + base64.StdEncoding.EncodeToString(b), nil
}

func decodeDigest(data, encoding string) (b []byte, err error) {
	if strings.EqualFold(encoding, "hex") {
		b, err = hex.DecodeString(data)
	} else {
		b, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(data, "="))
	}
	if err != nil {
		return nil, fmt.Errorf("password %w: its digest is neither base64 nor hex as its scheme says: %v", ErrInvalid, err)
	}
	return b, nil
}

// The crypt strings we take, with the numbers that bound their cost.
var (
	argonForm = regexp.MustCompile(`^\$argon2(?:id|i)\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,3})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,172}$`)
	blowForm  = regexp.MustCompile(`^\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}$`)
	shaForm   = regexp.MustCompile(`^\$[56]\$(?:rounds=([0-9]{4,9})\$)?[^$\x00-\x1f]{0,16}\$[./A-Za-z0-9]{43}(?:[./A-Za-z0-9]{43})?$`)
	// Where commas belong to a hash, in a line whose fields are parted by commas.
	argonCommas = regexp.MustCompile(`^[^,]*\$m=[0-9]+,t=[0-9]+,p=[0-9]+\$`)
	scramCommas = regexp.MustCompile(`^\{[^},]*\}[0-9]+,[A-Za-z0-9+/=]+,[A-Za-z0-9+/=]+,[A-Za-z0-9+/=]+`)

	md5Form = regexp.MustCompile(`^\$1\$[^$\x00-\x1f]{0,8}\$[./A-Za-z0-9]{22}$`)
	yesForm = regexp.MustCompile(`^\$y\$j[789AB]T\$[./A-Za-z0-9]{1,64}\$[./A-Za-z0-9]{43}$`)
)

// parseCrypt checks a crypt string and its cost.
func parseCrypt(s string) (imported, error) {
	_, err := cryptDigest(s)
	return imported{hash: s}, err
}

// cryptDigest decodes a crypt string whose cost is bounded.
func cryptDigest(s string) (algorithm.Digest, error) {
	number := func(text string) int { n, _ := strconv.Atoi(text); return n } // the forms admit nine digits at most
	tooDear := false
	var decode algorithm.DecodeFunc
	if m := argonForm.FindStringSubmatch(s); m != nil {
		kib, passes, lanes := number(m[1]), number(m[2]), number(m[3])
		tooDear = kib > maxArgonKiB || passes > maxArgonPasses || kib*passes > maxArgonWork || lanes > maxArgonLanes ||
			kib < 8 || passes < 1 || lanes < 1
		decode = argon2.Decode
	} else if m := blowForm.FindStringSubmatch(s); m != nil {
		tooDear = number(m[1]) > maxBcryptCost || number(m[1]) < 4
		decode = bcrypt.Decode
	} else if m := shaForm.FindStringSubmatch(s); m != nil {
		tooDear = number(m[1]) > maxCryptRounds
		decode = shacrypt.Decode
	} else if md5Form.MatchString(s) {
		decode = md5crypt.Decode
	} else if yesForm.MatchString(s) {
		decode = scrypt.Decode
	}
	switch {
	case decode == nil:
		return nil, fmt.Errorf("password %w: it is not a hash we know ($1$ $2y$ $5$ $6$ $y$ $argon2id$ or {SCHEME}…); "+
			"write {PLAIN} before a password in the clear, and set a new one in place of a DES crypt", ErrInvalid)
	case tooDear:
		return nil, fmt.Errorf("password %w: its hash asks for more work than is allowed to check it (argon2 %d KiB, bcrypt cost %d, %d rounds); set a new password",
			ErrInvalid, maxArgonKiB, maxBcryptCost, maxCryptRounds)
	}
	d, err := decode(s)
	if err != nil {
		return nil, fmt.Errorf("password %w: %v", ErrInvalid, err)
	}
	return d, nil
}

// checkForeign reports whether password fits a stored hash. Call it in the pool.
func checkForeign(stored, password string) (bool, error) {
	m := schemeForm.FindStringSubmatch(stored)
	if m == nil {
		d, err := cryptDigest(stored)
		if err != nil {
			return false, err
		}
		return d.MatchBytesAdvanced([]byte(password))
	}
	data := stored[len(m[0]):]
	if m[1] == "PBKDF2" {
		return checkDovecotPBKDF2(data, password)
	}
	d, ok := digestScheme(m[1])
	want, err := base64.StdEncoding.DecodeString(data)
	h := sha512.New()
	if ok {
		h = d.new()
	}
	if !ok || err != nil || len(want) < h.Size() {
		return false, fmt.Errorf("stored hash of scheme %s %w", m[1], ErrInvalid)
	}
	h.Write([]byte(password))
	h.Write(want[h.Size():])
	return subtle.ConstantTimeCompare(h.Sum(nil), want[:h.Size()]) == 1, nil
}

var pbkdf2Form = regexp.MustCompile(`^\$1\$([^$]{1,64})\$([0-9]{1,9})\$([0-9a-fA-F]{40})$`)

// checkDovecotPBKDF2 reads $1$SALT$ROUNDS$HEX, PBKDF2 with SHA-1; with the empty
// password it only checks the form.
func checkDovecotPBKDF2(data, password string) (bool, error) {
	m := pbkdf2Form.FindStringSubmatch(data)
	if m == nil {
		return false, fmt.Errorf("password %w: {PBKDF2} must be followed by $1$SALT$ROUNDS$HASH", ErrInvalid)
	}
	rounds, _ := strconv.Atoi(m[2])
	if rounds < 1 || rounds > maxPBKDF2Rounds {
		return false, fmt.Errorf("password %w: {PBKDF2} with %d rounds; 1 to %d are allowed", ErrInvalid, rounds, maxPBKDF2Rounds)
	}
	if password == "" {
		return false, nil
	}
	want, err := hex.DecodeString(m[3])
	if err != nil {
		return false, err
	}
	got, err := pbkdf2.Key(sha1.New, password, []byte(m[1]), rounds, sha1.Size)
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1, err
}
