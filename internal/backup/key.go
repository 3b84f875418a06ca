package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
)

// Key opens an encrypted repository: a passphrase, or the text of a file of age
// identities (lines "AGE-SECRET-KEY-…"). The zero Key is for repositories that are
// not encrypted.
type Key struct {
	Passphrase string
	Identities string
	// WorkFactor is scrypt's cost for a new passphrase, as a power of two; 0 is age's
	// own, which takes about a second.
	WorkFactor int
}

// ParseKey reads a key from the octets of a file: age identities, or else a
// passphrase in its first line.
func ParseKey(file []byte) (Key, error) {
	text := string(file)
	if strings.Contains(text, "AGE-SECRET-KEY-") {
		if _, err := age.ParseIdentities(strings.NewReader(text)); err != nil {
			return Key{}, fmt.Errorf("read backup key: %w", err)
		}
		return Key{Identities: text}, nil
	}
	line, _, _ := strings.Cut(text, "\n")
	line = strings.TrimRight(line, "\r")
	if len(line) < 8 {
		return Key{}, errors.New("read backup key: the file holds neither an age identity (AGE-SECRET-KEY-…) nor a passphrase of at least 8 octets in its first line")
	}
	return Key{Passphrase: line}, nil
}

// NewKeyFile makes the text of a new key file: one age identity.
func NewKeyFile() (string, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", fmt.Errorf("make backup key: %w", err)
	}
	return "# Key of a Poczta backup. Without it the backup can't be read: keep a copy away from this machine.\n# public key: " +
		id.Recipient().String() + "\n" + id.String() + "\n", nil
}

// IsZero reports whether k opens nothing.
func (k Key) IsZero() bool { return k.Passphrase == "" && k.Identities == "" }

// identities are what decrypts.
func (k Key) identities() ([]age.Identity, error) {
	if k.Identities != "" {
		return age.ParseIdentities(strings.NewReader(k.Identities))
	}
	id, err := age.NewScryptIdentity(k.Passphrase)
	if err != nil {
		return nil, err
	}
	return []age.Identity{id}, nil
}

// recipients are to whom the repository's own key is encrypted.
func (k Key) recipients() ([]age.Recipient, error) {
	if k.Identities == "" {
		r, err := age.NewScryptRecipient(k.Passphrase)
		if err != nil {
			return nil, err
		}
		if k.WorkFactor > 0 {
			r.SetWorkFactor(k.WorkFactor)
		}
		return []age.Recipient{r}, nil
	}
	ids, err := age.ParseIdentities(strings.NewReader(k.Identities))
	if err != nil {
		return nil, err
	}
	var out []age.Recipient
	for _, id := range ids {
		switch id := id.(type) {
		case *age.X25519Identity:
			out = append(out, id.Recipient())
		case *age.HybridIdentity:
			return []age.Recipient{id.Recipient()}, nil // these can't be mixed with others
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the key file holds no age identity that others can encrypt to")
	}
	return out, nil
}

// keys are what a repository encrypts and hashes with; the zero value is for one
// that is not encrypted.
type keys struct {
	identity *age.X25519Identity // encrypts and decrypts objects
	mac      []byte              // keys the names of chunks
}

// storedKeys are keys as they lie, encrypted, in the repository.
type storedKeys struct {
	Identity string `json:"identity"`
	MAC      []byte `json:"mac"`
}

// encrypt makes an object of plain octets.
func (k *keys) encrypt(plain []byte) ([]byte, error) {
	if k.identity == nil {
		return plain, nil
	}
	return encryptTo(plain, k.identity.Recipient())
}

func encryptTo(plain []byte, to ...age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	out.Grow(len(plain) + len(plain)/4096 + 512)
	w, err := age.Encrypt(&out, to...)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return out.Bytes(), nil
}

// decrypt is the opposite of encrypt.
func (k *keys) decrypt(object []byte) ([]byte, error) {
	if k.identity == nil {
		return object, nil
	}
	r, err := age.Decrypt(bytes.NewReader(object), k.identity)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	var plain bytes.Buffer
	plain.Grow(len(object) + bytes.MinRead) // what is encrypted is longer
	if _, err := plain.ReadFrom(r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return plain.Bytes(), nil
}

// makeKeys makes the keys of a new repository and the object that holds them.
func makeKeys(k Key) (*keys, []byte, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, nil, err
	}
	own := &keys{identity: id, mac: make([]byte, 32)}
	rand.Read(own.mac)
	to, err := k.recipients()
	if err != nil {
		return nil, nil, err
	}
	plain, err := json.Marshal(storedKeys{Identity: id.String(), MAC: own.mac})
	if err != nil {
		return nil, nil, err
	}
	object, err := encryptTo(plain, to...)
	return own, object, err
}

// keyFolder holds the objects of makeKeys; any one of them opens the repository.
const keyFolder = "keys/"

// loadKeys opens the repository's keys with k.
func loadKeys(ctx context.Context, t Target, k Key) (*keys, error) {
	ids, err := k.identities()
	if err != nil {
		return nil, fmt.Errorf("read backup key: %w", err)
	}
	var found *keys
	err = t.List(ctx, keyFolder, func(o Object) error {
		if found != nil {
			return nil
		}
		object, err := t.Get(ctx, o.Name, 0, -1)
		if err != nil {
			return err
		}
		r, err := age.Decrypt(bytes.NewReader(object), ids...)
		if err != nil {
			return nil // of another key
		}
		var s storedKeys
		if err := json.NewDecoder(r).Decode(&s); err != nil {
			return fmt.Errorf("%s: %w", o.Name, ErrDamaged)
		}
		id, err := age.ParseX25519Identity(s.Identity)
		if err != nil || len(s.MAC) != 32 {
			return fmt.Errorf("%s: %w", o.Name, ErrDamaged)
		}
		found = &keys{identity: id, mac: s.MAC}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read keys of the backup repository: %w", err)
	}
	if found == nil {
		return nil, fmt.Errorf("%w: name the key file or passphrase that it was made with", ErrKey)
	}
	return found, nil
}

// randomName is a name that nobody else has.
func randomName() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
