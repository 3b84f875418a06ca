package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"golang.org/x/time/rate"
)

// Config says where a repository is and how it is used. Target is required.
type Config struct {
	Target Target
	Key    Key // the zero Key is for a repository that is not encrypted
	// Rate bounds how fast Create reads what is new, and a restore what is stored, in
	// octets a second; 0 is unlimited. Verify and Prune are not bounded.
	Rate int64
	// Host is written into locks and snapshots, for people.
	Host     string
	Now      func() time.Time // nil is time.Now
	Logger   *slog.Logger     // nil discards
	Progress func(Progress)   // called now and then by the working goroutine; nil for none
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	return c
}

// Repository is an open repository. Not for concurrent use; several processes may
// read one while another writes.
type Repository struct {
	config Config
	format format
	keys   *keys
	codec  *codec
	index  *index
	reader *packReader
	pace   *rate.Limiter
	fixed  bool // the index is not read again when a pack is missing
}

// The object that says that a prefix is a repository, and of what format.
const (
	formatName   = "poczta-backup.json"
	formatNumber = 1
)

// format is the object formatName.
type format struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"`
	Encrypted bool      `json:"encrypted"`
	Created   time.Time `json:"created"`
}

// Init makes a new repository, encrypted if Config.Key is not zero, and opens it.
// fs.ErrExist when there is one already.
func Init(ctx context.Context, c Config) (*Repository, error) {
	c = c.withDefaults()
	l, err := takeLock(ctx, c, "init")
	if err != nil {
		return nil, fmt.Errorf("make backup repository: %w", err)
	}
	err = create(ctx, c)
	if err := errors.Join(err, l.release(ctx)); err != nil {
		return nil, fmt.Errorf("make backup repository: %w", err)
	}
	return Open(ctx, c)
}

func create(ctx context.Context, c Config) error {
	_, err := readFormat(ctx, c.Target)
	if err == nil {
		return fs.ErrExist
	}
	if !errors.Is(err, ErrNoRepository) {
		return err
	}
	f := format{Format: formatNumber, ID: randomName() + randomName(), Created: c.Now().UTC()}
	if !c.Key.IsZero() {
		f.Encrypted = true
		if err := storeKeys(ctx, c); err != nil {
			return err
		}
	}
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return c.Target.Put(ctx, formatName, append(text, '\n'))
}

// storeKeys makes the keys, unless an Init that was broken off has made some that Config.Key
// opens: no others may stand beside those that something could be encrypted to.
func storeKeys(ctx context.Context, c Config) error {
	if _, err := loadKeys(ctx, c.Target, c.Key); !errors.Is(err, ErrKey) {
		return err
	}
	_, object, err := makeKeys(c.Key)
	if err != nil {
		return err
	}
	return c.Target.Put(ctx, keyFolder+randomName()+".age", object)
}

func readFormat(ctx context.Context, t Target) (f format, err error) {
	text, err := t.Get(ctx, formatName, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return f, ErrNoRepository
	}
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(text, &f); err != nil || f.ID == "" {
		return f, fmt.Errorf("%s: %w", formatName, ErrDamaged)
	}
	if f.Format > formatNumber {
		return f, fmt.Errorf("%w: format %d", ErrNewer, f.Format)
	}
	return f, nil
}

// Open opens a repository: ErrNoRepository, ErrKey, ErrNewer. The index is read when
// it is needed.
func Open(ctx context.Context, c Config) (*Repository, error) {
	c = c.withDefaults()
	r := &Repository{config: c, keys: &keys{}}
	var err error
	if r.format, err = readFormat(ctx, c.Target); err != nil {
		return nil, fmt.Errorf("open backup repository: %w", err)
	}
	switch {
	case r.format.Encrypted && c.Key.IsZero():
		return nil, noKey{}
	case r.format.Encrypted:
		if r.keys, err = loadKeys(ctx, c.Target, c.Key); err != nil {
			return nil, fmt.Errorf("open backup repository: %w", err)
		}
	case !c.Key.IsZero():
		return nil, errors.New("open backup repository: a key was given, but the repository is not encrypted; begin a new one, or give no key")
	}
	if r.codec, err = newCodec(); err != nil {
		return nil, err
	}
	r.reader = newPackReader(c.Target, r.keys)
	r.pace = rate.NewLimiter(rate.Inf, 0)
	if c.Rate > 0 {
		r.pace = rate.NewLimiter(rate.Limit(c.Rate), PieceOctets)
	}
	return r, nil
}

// OpenOrInit opens the repository, or makes it when there is none.
func OpenOrInit(ctx context.Context, c Config) (*Repository, error) {
	r, err := Open(ctx, c)
	if errors.Is(err, ErrNoRepository) {
		return Init(ctx, c)
	}
	return r, err
}

// Encrypted reports whether the repository is.
func (r *Repository) Encrypted() bool { return r.format.Encrypted }

// ID names the repository for ever.
func (r *Repository) ID() string { return r.format.ID }

// Close gives the memory back. It touches nothing in the target.
func (r *Repository) Close() {
	r.codec.close()
	r.index, r.reader = nil, nil
}

// wait keeps to the rate.
func (r *Repository) wait(ctx context.Context, octets int64) error {
	if r.config.Rate <= 0 {
		return ctx.Err()
	}
	for octets > 0 {
		n := min(octets, PieceOctets)
		if err := r.pace.WaitN(ctx, int(n)); err != nil {
			return err
		}
		octets -= n
	}
	return nil
}

// hold reads the index, which then stays: for works that have the lock, or that look at
// one moment. Call the function that it returns at the end.
func (r *Repository) hold(ctx context.Context) (func(), error) {
	r.index, r.fixed = nil, true
	r.reader = newPackReader(r.config.Target, r.keys)
	return func() { r.index, r.fixed = nil, false }, r.loaded(ctx)
}

// loaded reads the index when that was not done yet.
func (r *Repository) loaded(ctx context.Context) error {
	if r.index != nil {
		return nil
	}
	x, err := loadIndex(ctx, r.config.Target, r.keys)
	if err != nil {
		return fmt.Errorf("read index of the backup repository: %w", err)
	}
	r.index = x
	return nil
}

// chunk reads a chunk and checks it.
func (r *Repository) chunk(ctx context.Context, id ID) ([]byte, error) {
	if err := r.loaded(ctx); err != nil {
		return nil, err
	}
	frame, err := r.frame(ctx, id)
	if errors.Is(err, errNoPack) && !r.fixed { // a prune may have moved it since
		r.index, r.fixed = nil, true
		if err := r.loaded(ctx); err != nil {
			return nil, err
		}
		frame, err = r.frame(ctx, id)
	}
	if err != nil {
		return nil, fmt.Errorf("read chunk %s: %w", id, err)
	}
	return r.check(frame, id)
}

// errNoPack wraps ErrDamaged: a pack that is missing.
var errNoPack = fmt.Errorf("missing: %w", ErrDamaged)

// frame reads the frame of a chunk.
func (r *Repository) frame(ctx context.Context, id ID) ([]byte, error) {
	at, ok := r.index.find(id)
	if !ok {
		return nil, fmt.Errorf("it is in no pack: %w", errNoPack)
	}
	return r.reader.read(ctx, r.index.packs[at.pack], r.index.sizes[at.pack], at.offset, at.length)
}

// check takes the chunk id out of its frame.
func (r *Repository) check(frame []byte, id ID) ([]byte, error) {
	got, octets, rest, err := r.codec.frame(frame)
	if errors.Is(err, ErrNewer) {
		return nil, err
	}
	if err != nil || got != id || len(rest) > 0 || r.keys.chunkID(octets) != id {
		return nil, fmt.Errorf("chunk %s: %w", id, ErrDamaged)
	}
	return octets, nil
}

// noKey says that no key was given for an encrypted repository. It is ErrKey.
type noKey struct{}

// Error says what to do.
func (noKey) Error() string {
	return "open backup repository: it is encrypted, and no key was named; name the key file with --key-file FILE"
}

// Is makes it ErrKey.
func (noKey) Is(target error) bool { return target == ErrKey }
