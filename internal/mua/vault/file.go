package vault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"sync"

	"filippo.io/age"

	"poczta.example/poczta/internal/disk"
)

// Bounds of the file.
const (
	maxFile     = 4 << 20 // octets
	defaultWork = 16
	maxWork     = 20
)

// file keeps secrets in a file of age (age-encryption.org/v1) under a passphrase. It is read
// when it is first needed, and written anew, whole, with each change.
type file struct {
	fs   disk.FS
	ask  func(fresh bool) (string, error)
	work int

	mu         sync.Mutex
	open       bool
	passphrase string
	secrets    map[string]string
}

func newFile(c Config) *file {
	if c.Work == 0 {
		c.Work = defaultWork
	}
	return &file{fs: c.FS, ask: c.Ask, work: c.Work}
}

// Where implements Secrets.
func (*file) Where() string { return "the encrypted file " + FileName }

// Locked implements Locker.
func (f *file) Locked() (locked, fresh bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open {
		return false, false, nil
	}
	there, err := exists(f.fs, FileName)
	if err != nil {
		return true, false, fmt.Errorf("look for %s: %w", FileName, err)
	}
	return true, !there, nil
}

// Get implements Secrets.
func (f *file) Get(name string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(false); err != nil {
		return "", err
	}
	s, ok := f.secrets[name]
	if !ok {
		return "", fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return s, nil
}

// Set implements Secrets.
func (f *file) Set(name, secret string) error {
	return f.change(func(m map[string]string) { m[name] = secret })
}

// Remove implements Secrets.
func (f *file) Remove(name string) error {
	f.mu.Lock()
	opened := f.open
	f.mu.Unlock()
	if there, err := exists(f.fs, FileName); !opened && err == nil && !there {
		return nil // nobody is asked for a passphrase to forget nothing
	}
	return f.change(func(m map[string]string) { delete(m, name) })
}

func (f *file) change(fn func(map[string]string)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(true); err != nil {
		return err
	}
	changed := maps.Clone(f.secrets)
	fn(changed)
	if maps.Equal(changed, f.secrets) {
		return nil
	}
	if err := f.save(changed); err != nil {
		return err
	}
	f.secrets = changed
	return nil
}

// load asks for the passphrase and reads the file, once. An absent file holds nothing; write
// asks for the passphrase of the one that will be.
func (f *file) load(write bool) error {
	if f.open {
		return nil
	}
	data, err := disk.ReadFile(f.fs, FileName, maxFile)
	absent := errors.Is(err, fs.ErrNotExist)
	if err != nil && !absent {
		return fmt.Errorf("read %s: %w", FileName, err)
	}
	if absent && !write {
		return nil
	}
	if f.ask == nil {
		return errors.New("the passwords are encrypted and nobody can be asked for the passphrase; give its first line in a file with --passphrase-file")
	}
	passphrase, err := f.ask(absent)
	if err != nil {
		return fmt.Errorf("ask for the passphrase: %w", err)
	}
	if passphrase == "" {
		return errors.New("the passphrase is empty; the passwords would not be protected")
	}
	secrets := map[string]string{}
	if !absent {
		if secrets, err = decrypt(data, passphrase); err != nil {
			return err
		}
	}
	f.open, f.passphrase, f.secrets = true, passphrase, secrets
	return nil
}

func decrypt(data []byte, passphrase string) (map[string]string, error) {
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", FileName, err)
	}
	id.SetMaxWorkFactor(maxWork)
	r, err := age.Decrypt(bytes.NewReader(data), id)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, fmt.Errorf("open %s: %w", FileName, ErrPassphrase)
	}
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(r, maxFile))
	}
	m := map[string]string{}
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: it is damaged; restore it from a backup, or remove it and enter the passwords again", FileName)
	}
	return m, nil
}

func (f *file) save(secrets map[string]string) error {
	text, err := json.Marshal(secrets)
	if err != nil {
		return fmt.Errorf("write %s: %w", FileName, err)
	}
	to, err := age.NewScryptRecipient(f.passphrase)
	if err != nil {
		return fmt.Errorf("write %s: %w", FileName, err)
	}
	to.SetWorkFactor(f.work)
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = disk.WriteFile(f.fs, FileName, b.Bytes())
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", FileName, err)
	}
	return nil
}

// exists reports whether there is a file.
func exists(fsys disk.FS, name string) (bool, error) {
	_, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
