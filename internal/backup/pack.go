package backup

import (
	"bytes"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"filippo.io/age"
)

// packFolder holds the packs; each is named by the SHA-256 of its octets, in a folder
// of the first two digits.
const packFolder = "packs/"

// indexEvery is after how many packs of a long backup an index is written, so that one
// that is broken off need not store them again.
const indexEvery = 64

func packName(id ID) string { s := id.String(); return packFolder + s[:2] + "/" + s }

// parsePackName is the opposite of packName.
func parsePackName(name string) (id ID, ok bool) {
	if len(name) != len(packFolder)+3+2*len(id) {
		return id, false
	}
	b, err := hex.DecodeString(name[len(packFolder)+3:])
	copy(id[:], b)
	return id, err == nil && packName(id) == name
}

// packer gathers chunks in packs and stores them. Not for concurrent use.
type packer struct {
	r       *Repository
	buf     []byte
	chunks  []located // of the pack being filled
	pending map[ID]struct{}
	packs   []packed // stored, not indexed yet
	stored  int64    // octets written
	hold    bool     // no index is written before finish
}

func newPacker(r *Repository) *packer {
	return &packer{r: r, pending: make(map[ID]struct{})}
}

// littleOctets is room for all that most backups store: those that find nothing new, or a few letters.
const littleOctets = 256 << 10

// room makes room for n octets more: little at first, then for a whole pack at once.
func (p *packer) room(n int) {
	need := len(p.buf) + n + frameHead
	if need <= cap(p.buf) {
		return
	}
	size := littleOctets
	if need > size {
		size = max(need, PackOctets+PieceOctets+frameHead)
	}
	p.buf = append(make([]byte, 0, size), p.buf...)
}

// add stores a chunk unless the repository has it, and returns its name. It is durable
// and findable only after finish.
func (p *packer) add(ctx context.Context, octets []byte) (ID, error) {
	id := p.r.keys.chunkID(octets)
	if _, there := p.r.index.find(id); there {
		return id, nil
	}
	if _, there := p.pending[id]; there {
		return id, nil
	}
	p.room(len(octets))
	at := len(p.buf)
	p.buf = p.r.codec.appendFrame(p.buf, id, octets)
	p.note(id, at)
	return id, p.full(ctx)
}

// copy stores a frame as it is, from another pack.
func (p *packer) copy(ctx context.Context, id ID, frame []byte) error {
	p.room(len(frame))
	at := len(p.buf)
	p.buf = append(p.buf, frame...)
	p.note(id, at)
	return p.full(ctx)
}

func (p *packer) note(id ID, at int) {
	p.chunks = append(p.chunks, located{id, place{offset: uint32(at), length: uint32(len(p.buf) - at)}})
	p.pending[id] = struct{}{}
}

func (p *packer) full(ctx context.Context) error {
	if len(p.buf) < PackOctets {
		return nil
	}
	return p.flush(ctx)
}

// flush stores the pack.
func (p *packer) flush(ctx context.Context) error {
	if len(p.chunks) == 0 {
		return nil
	}
	object, err := p.r.keys.encrypt(p.buf)
	if err != nil {
		return err
	}
	id := ID(sha256.Sum256(object))
	if err := p.r.config.Target.Put(ctx, packName(id), object); err != nil {
		return fmt.Errorf("store pack: %w", err)
	}
	p.stored += int64(len(object))
	n := p.r.index.number(id, int64(len(object)))
	for i := range p.chunks {
		p.chunks[i].pack = n
		p.r.index.fresh[p.chunks[i].id] = p.chunks[i].place
	}
	p.packs = append(p.packs, packed{pack: id, size: int64(len(object)), chunks: p.chunks})
	p.buf, p.chunks = p.buf[:0], nil
	clear(p.pending)
	if p.hold || len(p.packs) < indexEvery {
		return nil
	}
	return p.indexNow(ctx)
}

// indexNow writes an index of the packs stored since the last one.
func (p *packer) indexNow(ctx context.Context) error {
	if len(p.packs) == 0 {
		return nil
	}
	names, octets, err := storeIndex(ctx, p.r.config.Target, p.r.keys, p.packs)
	if err != nil {
		return fmt.Errorf("store index: %w", err)
	}
	p.stored += octets
	p.packs = nil
	p.r.index.objects = append(p.r.index.objects, names...)
	p.r.index.fold()
	return nil
}

// finish stores what is left; then all chunks added are durable and findable.
func (p *packer) finish(ctx context.Context) error {
	if err := p.flush(ctx); err != nil {
		return err
	}
	return p.indexNow(ctx)
}

// How packs are read: by blocks, of which some stay in memory.
const (
	blockOctets = 1 << 20
	blocksKept  = 48
	packsKept   = 64
)

// packReader reads frames from packs. Not for concurrent use.
type packReader struct {
	target Target
	keys   *keys
	packs  *kept[ID, *openPack]
	blocks *kept[blockKey, []byte]
}

type blockKey struct {
	pack ID
	n    int64
}

func newPackReader(t Target, k *keys) *packReader {
	return &packReader{target: t, keys: k, packs: newKept[ID, *openPack](packsKept), blocks: newKept[blockKey, []byte](blocksKept)}
}

// openPack is a pack whose plain octets can be read.
type openPack struct {
	raw   *packBlocks
	plain io.ReaderAt
}

// read returns length plain octets, from offset on, of a pack of size stored octets.
func (p *packReader) read(ctx context.Context, pack ID, size int64, offset, length uint32) ([]byte, error) {
	o, ok := p.packs.get(pack)
	if !ok {
		raw := &packBlocks{p: p, ctx: ctx, pack: pack}
		o = &openPack{raw: raw, plain: raw}
		if p.keys.identity != nil {
			var err error
			if o.plain, _, err = age.DecryptReaderAt(raw, size, p.keys.identity); err != nil {
				return nil, raw.explain(err)
			}
		}
		p.packs.put(pack, o)
	}
	o.raw.ctx, o.raw.err = ctx, nil
	b := make([]byte, length)
	if n, err := o.plain.ReadAt(b, int64(offset)); n < len(b) {
		return nil, o.raw.explain(err)
	}
	return b, nil
}

// packBlocks is a pack's stored octets as an io.ReaderAt.
type packBlocks struct {
	p    *packReader
	ctx  context.Context // of the call that reads, as io.ReaderAt has no place for one
	pack ID
	err  error // of the target, in that call
}

// explain tells faults of the target from damage.
func (b *packBlocks) explain(err error) error {
	switch {
	case errors.Is(b.err, fs.ErrNotExist):
		return fmt.Errorf("pack %s is %w", b.pack, errNoPack)
	case b.err != nil:
		return b.err
	case err == nil:
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("pack %s: %w: %w", b.pack, ErrDamaged, err)
}

func (b *packBlocks) block(n int64) ([]byte, error) {
	key := blockKey{b.pack, n}
	if block, ok := b.p.blocks.get(key); ok {
		return block, nil
	}
	block, err := b.p.target.Get(b.ctx, packName(b.pack), n*blockOctets, blockOctets)
	if err != nil {
		b.err = err
		return nil, err
	}
	b.p.blocks.put(key, block)
	return block, nil
}

// ReadAt implements io.ReaderAt.
func (b *packBlocks) ReadAt(out []byte, off int64) (int, error) {
	done := 0
	for done < len(out) {
		at := off + int64(done)
		block, err := b.block(at / blockOctets)
		if err != nil {
			return done, err
		}
		skip := at % blockOctets
		if skip >= int64(len(block)) {
			return done, io.EOF
		}
		done += copy(out[done:], block[skip:])
	}
	return done, nil
}

// kept keeps the values used last.
type kept[K comparable, V any] struct {
	most  int
	order *list.List // of *keptEntry, the latest in front
	at    map[K]*list.Element
}

type keptEntry[K comparable, V any] struct {
	key   K
	value V
}

func newKept[K comparable, V any](most int) *kept[K, V] {
	return &kept[K, V]{most: most, order: list.New(), at: make(map[K]*list.Element)}
}

func (k *kept[K, V]) get(key K) (v V, ok bool) {
	e, ok := k.at[key]
	if !ok {
		return v, false
	}
	k.order.MoveToFront(e)
	return e.Value.(*keptEntry[K, V]).value, true
}

func (k *kept[K, V]) put(key K, v V) {
	k.at[key] = k.order.PushFront(&keptEntry[K, V]{key, v})
	if k.order.Len() > k.most {
		last := k.order.Back()
		k.order.Remove(last)
		delete(k.at, last.Value.(*keptEntry[K, V]).key)
	}
}

// frames calls fn for each frame of a pack's plain octets.
func frames(c *codec, plain []byte, fn func(id ID, octets []byte, at, length int) error) error {
	for at := 0; at < len(plain); {
		id, octets, rest, err := c.frame(plain[at:])
		if err != nil {
			return err
		}
		length := len(plain) - at - len(rest)
		if err := fn(id, octets, at, length); err != nil {
			return err
		}
		at += length
	}
	return nil
}

// plainPack reads a whole pack and compares its hash with its name.
func (r *Repository) plainPack(ctx context.Context, id ID) (plain []byte, octets int64, err error) {
	object, err := r.config.Target.Get(ctx, packName(id), 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("pack %s is missing: %w", id, ErrDamaged)
	}
	if err != nil {
		return nil, 0, err
	}
	if sum := sha256.Sum256(object); !bytes.Equal(sum[:], id[:]) {
		return nil, int64(len(object)), fmt.Errorf("pack %s: %w", id, ErrDamaged)
	}
	plain, err = r.keys.decrypt(object)
	return plain, int64(len(object)), err
}
