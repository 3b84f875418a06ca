package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/pkcs12"
)

// errOld is an encryption of before PBES2, which golang.org/x/crypto/pkcs12 knows.
var errOld = errors.New("it is encrypted as was usual before PBES2")

// The structures of RFC 7292 §4 and RFC 8018 §A, as far as they are read.
type (
	pfx struct {
		Version  int
		AuthSafe contentInfo
		MAC      macData `asn1:"optional"`
	}
	macData struct {
		Digest     asn1.RawValue
		Salt       []byte
		Iterations int `asn1:"optional,default:1"`
	}
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
	}
	encryptedData struct {
		Version int
		Content struct {
			Type      asn1.ObjectIdentifier
			Algorithm pkix.AlgorithmIdentifier
			Data      []byte `asn1:"tag:0,optional"`
		}
	}
	safeBag struct {
		ID         asn1.ObjectIdentifier
		Value      asn1.RawValue   `asn1:"tag:0,explicit"`
		Attributes []asn1.RawValue `asn1:"set,optional"`
	}
	certBag struct {
		ID   asn1.ObjectIdentifier
		Data []byte `asn1:"tag:0,explicit"`
	}
	encryptedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2 struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	pbkdf struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	oldPBE struct {
		Salt       []byte
		Iterations int
	}
)

// Object identifiers in their dotted form.
const (
	oidData      = "1.2.840.113549.1.7.1"
	oidEncrypted = "1.2.840.113549.1.7.6"
	oidKeyBag    = "1.2.840.113549.1.12.10.1.1"
	oidShrouded  = "1.2.840.113549.1.12.10.1.2"
	oidCertBag   = "1.2.840.113549.1.12.10.1.3"
	oidX509      = "1.2.840.113549.1.9.22.1"
	oidPBES2     = "1.2.840.113549.1.5.13"
	oidPBKDF2    = "1.2.840.113549.1.5.12"
)

// hashes are the functions of PBKDF2 (RFC 8018 §B.1); none named is the first.
var hashes = map[string]func() hash.Hash{"": sha1.New, "1.2.840.113549.2.7": sha1.New, "1.2.840.113549.2.9": sha256.New, "1.2.840.113549.2.10": sha512.New384, "1.2.840.113549.2.11": sha512.New}

// blocks are the ciphers of PBES2 (RFC 8018 §B.2), with the octets of their keys.
var blocks = map[string]struct {
	key  int
	make func([]byte) (cipher.Block, error)
}{
	"2.16.840.1.101.3.4.1.2": {16, aes.NewCipher}, "2.16.840.1.101.3.4.1.22": {24, aes.NewCipher}, "2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
	"1.2.840.113549.3.7": {24, des.NewTripleDESCipher},
}

// pkcs12 reads PKCS#12. What PBES2 encrypts is read here, and all older kinds by
// golang.org/x/crypto. The file's check code is not looked at here: whose file it is brings it
// themself, and a certificate whose key does not fit is refused.
func (f *found) pkcs12(data []byte, password string) error {
	var p pfx
	if rest, err := asn1.Unmarshal(data, &p); err != nil || len(rest) > 0 || p.Version != 3 {
		return ErrUnreadable
	}
	err := f.safes(&p, password)
	if !errors.Is(err, errOld) {
		return err
	}
	if p.MAC.Iterations > maxWork {
		return ErrUnreadable
	}
	*f = found{}
	parts, err := pkcs12.ToPEM(data, password)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) && password == "":
		return ErrNeedsPassword
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return ErrPassword
	case err != nil || len(parts) > maxParts:
		return ErrUnreadable
	}
	for _, b := range parts {
		if b.Type == "CERTIFICATE" {
			err = f.certificate(b.Bytes)
		} else {
			err = f.privateKey(b.Bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// safes reads the parts of a file; errOld when one is encrypted in an older way.
func (f *found) safes(p *pfx, password string) error {
	var inner []byte
	var list []contentInfo
	if p.AuthSafe.Type.String() != oidData || whole(p.AuthSafe.Content.Bytes, &inner) != nil || whole(inner, &list) != nil || len(list) > maxParts {
		return ErrUnreadable
	}
	old := false
	for _, c := range list {
		var bags []byte
		switch c.Type.String() {
		case oidData:
			if whole(c.Content.Bytes, &bags) != nil {
				return ErrUnreadable
			}
		case oidEncrypted:
			var e encryptedData
			if whole(c.Content.Bytes, &e) != nil {
				return ErrUnreadable
			}
			var err error
			if bags, err = decrypt(e.Content.Algorithm, e.Content.Data, password); errors.Is(err, errOld) {
				old = true
				continue
			} else if err != nil {
				return err
			}
		default: // for a certificate of the recipient's, which nobody uses
			return ErrUnreadable
		}
		if err := f.bags(bags, password, c.Type.String() == oidEncrypted); errors.Is(err, errOld) {
			old = true
		} else if err != nil {
			return err
		}
	}
	if old {
		return errOld
	}
	return nil
}

// bags reads certificates and keys. decrypted says that what can't be read was opened with the wrong
// password.
func (f *found) bags(data []byte, password string, decrypted bool) error {
	var list []safeBag
	if err := whole(data, &list); err != nil {
		if decrypted {
			return ErrPassword
		}
		return ErrUnreadable
	}
	for _, b := range list {
		if len(f.certificates)+len(f.keys) >= maxParts {
			return ErrUnreadable
		}
		var err error
		switch b.ID.String() {
		case oidKeyBag:
			err = f.privateKey(b.Value.Bytes)
		case oidShrouded:
			var plain []byte
			if plain, err = shrouded(b.Value.Bytes, password); err == nil && f.privateKey(plain) != nil {
				err = ErrPassword
			}
		case oidCertBag:
			var c certBag
			if whole(b.Value.Bytes, &c) != nil {
				return ErrUnreadable
			}
			if c.ID.String() == oidX509 {
				err = f.certificate(c.Data)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// shrouded decrypts a key (EncryptedPrivateKeyInfo, RFC 5958 §3).
func shrouded(der []byte, password string) ([]byte, error) {
	var e encryptedKey
	if whole(der, &e) != nil {
		return nil, ErrUnreadable
	}
	return decrypt(e.Algorithm, e.Data, password)
}

// decrypt opens what PBES2 encrypts (RFC 8018 §6.2). errOld for what older schemes do.
func decrypt(a pkix.AlgorithmIdentifier, data []byte, password string) ([]byte, error) {
	if a.Algorithm.String() != oidPBES2 {
		var p oldPBE
		if whole(a.Parameters.FullBytes, &p) != nil || p.Iterations > maxWork {
			return nil, ErrUnreadable
		}
		return nil, errOld
	}
	var s pbes2
	var k pbkdf
	var iv []byte
	if whole(a.Parameters.FullBytes, &s) != nil || s.KDF.Algorithm.String() != oidPBKDF2 || whole(s.KDF.Parameters.FullBytes, &k) != nil || whole(s.Cipher.Parameters.FullBytes, &iv) != nil {
		return nil, ErrUnreadable
	}
	prf := ""
	if k.PRF.Algorithm != nil {
		prf = k.PRF.Algorithm.String()
	}
	h, block := hashes[prf], blocks[s.Cipher.Algorithm.String()]
	if h == nil || block.make == nil || k.Iterations < 1 || k.Iterations > maxWork {
		return nil, fmt.Errorf("%w: it is encrypted in a way that is not known here", ErrUnreadable)
	}
	if password == "" {
		return nil, ErrNeedsPassword
	}
	key, err := pbkdf2.Key(h, password, k.Salt, k.Iterations, block.key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	b, err := block.make(key)
	if err != nil || len(iv) != b.BlockSize() || len(data) == 0 || len(data)%b.BlockSize() != 0 {
		return nil, ErrUnreadable
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(b, iv).CryptBlocks(plain, data)
	return unpadded(plain, b.BlockSize())
}

// unpadded takes the padding away (RFC 8018 §6.1.1); another one comes of another password.
func unpadded(plain []byte, size int) ([]byte, error) {
	n := int(plain[len(plain)-1])
	if n < 1 || n > size {
		return nil, ErrPassword
	}
	for _, c := range plain[len(plain)-n:] {
		if int(c) != n {
			return nil, ErrPassword
		}
	}
	return plain[:len(plain)-n], nil
}

// whole reads one value that fills der.
func whole(der []byte, to any) error {
	rest, err := asn1.Unmarshal(der, to)
	if err == nil && len(rest) > 0 {
		err = errors.New("something follows")
	}
	return err
}
