package pdf

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"crypto/rc4"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
)

// key decrypts a file that asks for no password (ISO 32000-2 §7.6).
type key struct {
	secret     []byte
	text, data method // of strings, of streams
	self       int    // the object that describes the encryption; nothing in it is encrypted
}

type method byte

const (
	methodNone method = iota
	methodRC4
	methodAES    // with a key for each object
	methodAES256 // with one key
)

// padding is what fills a password (ISO 32000-2 §7.6.4.3.2).
const padding = "\x28\xbf\x4e\x5e\x4e\x75\x8a\x41\x64\x00\x4e\x56\xff\xfa\x01\x08\x2e\x2e\x00\xb6\xd0\x68\x3e\x80\x2f\x0c\xa9\xfe\x64\x53\x69\x7a"

// newKey makes the key of an empty password.
func (f *file) newKey(d dict, id []byte) (*key, error) {
	if f.name(d["Filter"]) != "Standard" {
		return nil, ErrPassword
	}
	v, r := f.integer(d["V"]), f.integer(d["R"])
	k := &key{text: methodRC4, data: methodRC4}
	size := 5
	switch v {
	case 1:
	case 2, 3:
		size = f.integer(d["Length"]) / 8
	case 4, 5:
		size = 16
		k.text, k.data = f.method(d, "StrF"), f.method(d, "StmF")
	default:
		return nil, ErrPassword
	}
	if size < 5 || size > 16 {
		size = 5
	}
	o, u := f.bytes(d["O"]), f.bytes(d["U"])
	if v == 5 {
		k.secret = secret256(u, f.bytes(d["UE"]), r)
	} else {
		plain, ok := f.resolve(d["EncryptMetadata"]).(bool)
		k.secret = secretMD5(o, id, uint32(int64(f.number(d["P"]))), r, size, ok && !plain)
		if !fits(k.secret, u, id, r) {
			k.secret = nil
		}
	}
	if k.secret == nil {
		return nil, ErrPassword
	}
	return k, nil
}

// method is the method of a crypt filter.
func (f *file) method(d dict, which name) method {
	filter := f.dict(f.dict(d["CF"])[f.name(d[which])])
	switch f.name(filter["CFM"]) {
	case "V2":
		return methodRC4
	case "AESV2":
		return methodAES
	case "AESV3":
		return methodAES256
	}
	return methodNone
}

// secretMD5 is algorithm 2 of ISO 32000-2 §7.6.4.3.
func secretMD5(o, id []byte, permissions uint32, r, size int, plainMetadata bool) []byte {
	b := append([]byte(padding), o[:min(32, len(o))]...)
	b = binary.LittleEndian.AppendUint32(b, permissions)
	b = append(b, id...)
	if r >= 4 && plainMetadata {
		b = append(b, 0xff, 0xff, 0xff, 0xff)
	}
	sum := md5.Sum(b)
	if r >= 3 {
		for range 50 {
			sum = md5.Sum(sum[:size])
		}
	}
	return sum[:size]
}

// fits reports whether the secret is that of the file (algorithms 4 to 6).
func fits(secret, u, id []byte, r int) bool {
	out := []byte(padding)
	if r < 3 {
		crypt4(secret, out)
		return bytes.Equal(out, u)
	}
	sum := md5.Sum(append(out, id...))
	out = sum[:]
	turn := make([]byte, len(secret))
	for i := range byte(20) {
		for j := range turn {
			turn[j] = secret[j] ^ i
		}
		crypt4(turn, out)
	}
	return len(u) >= 16 && bytes.Equal(out, u[:16])
}

// crypt4 is RC4, in place.
func crypt4(secret, b []byte) {
	if c, err := rc4.NewCipher(secret); err == nil {
		c.XORKeyStream(b, b)
	}
}

// secret256 is algorithm 2.A of ISO 32000-2 §7.6.4.3.3, for an empty user password.
func secret256(u, ue []byte, r int) []byte {
	if len(u) < 48 || len(ue) < 32 {
		return nil
	}
	hash := hashR6
	if r < 6 {
		hash = func(salt []byte) []byte { s := sha256.Sum256(salt); return s[:] }
	}
	if !bytes.Equal(hash(u[32:40]), u[:32]) {
		return nil
	}
	c, err := aes.NewCipher(hash(u[40:48]))
	if err != nil {
		return nil
	}
	out := bytes.Clone(ue[:32])
	cipher.NewCBCDecrypter(c, make([]byte, 16)).CryptBlocks(out, out)
	return out
}

// hashR6 is algorithm 2.B for an empty user password; it ends after 287 rounds at the latest.
func hashR6(salt []byte) []byte {
	first := sha256.Sum256(salt)
	k := first[:]
	for round := 0; ; round++ {
		e := bytes.Repeat(k, 64)
		c, err := aes.NewCipher(k[:16])
		if err != nil {
			return nil
		}
		cipher.NewCBCEncrypter(c, k[16:32]).CryptBlocks(e, e)
		sum := 0
		for _, b := range e[:16] {
			sum += int(b)
		}
		switch sum % 3 {
		case 0:
			s := sha256.Sum256(e)
			k = s[:]
		case 1:
			s := sha512.Sum384(e)
			k = s[:]
		default:
			s := sha512.Sum512(e)
			k = s[:]
		}
		if round >= 63 && int(e[len(e)-1]) <= round+1-32 {
			return k[:32]
		}
	}
}

// open decrypts octets of an object.
func (k *key) open(m method, b []byte, num, gen int) []byte {
	if m == methodNone || len(b) == 0 {
		return b
	}
	secret := k.secret
	if m != methodAES256 {
		s := append(bytes.Clone(secret), byte(num), byte(num>>8), byte(num>>16), byte(gen), byte(gen>>8))
		if m == methodAES {
			s = append(s, "sAlT"...)
		}
		sum := md5.Sum(s)
		secret = sum[:min(len(k.secret)+5, 16)]
	}
	if m == methodRC4 {
		out := bytes.Clone(b)
		crypt4(secret, out)
		return out
	}
	c, err := aes.NewCipher(secret)
	if err != nil || len(b) < 32 {
		return nil
	}
	out := bytes.Clone(b[16 : len(b)-len(b)%16])
	cipher.NewCBCDecrypter(c, b[:16]).CryptBlocks(out, out)
	if n := int(out[len(out)-1]); n > 0 && n <= 16 {
		out = out[:len(out)-n]
	}
	return out
}

// strings decrypts the strings of a value.
func (k *key) strings(v any, num, gen int) any {
	switch v := v.(type) {
	case []byte:
		return k.open(k.text, v, num, gen)
	case []any:
		for i := range v {
			v[i] = k.strings(v[i], num, gen)
		}
	case dict:
		for i := range v {
			v[i] = k.strings(v[i], num, gen)
		}
	}
	return v
}
