package backup

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"

	"github.com/klauspost/compress/zstd"
)

// ID is the name of a chunk: the hash of its octets, keyed in an encrypted repository.
type ID [sha256.Size]byte

// String returns the ID in hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(id)) {
		return fmt.Errorf("name of a chunk: %w", ErrDamaged)
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// chunkHash begins the hash of a chunk.
func (k *keys) chunkHash() hash.Hash {
	if len(k.mac) == 0 {
		return sha256.New()
	}
	return hmac.New(sha256.New, k.mac)
}

// chunkID is the name of a chunk.
func (k *keys) chunkID(octets []byte) ID {
	h := k.chunkHash()
	h.Write(octets)
	return ID(h.Sum(nil))
}

// seal is the check that ends a snapshot: of all octets before it.
func (k *keys) seal(octets []byte) []byte {
	h := k.chunkHash()
	h.Write([]byte("poczta backup snapshot\n"))
	h.Write(octets)
	return h.Sum(nil)
}

// codec compresses chunks. Not for concurrent use.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

// Codecs of a frame.
const (
	codecPlain = 0
	codecZstd  = 1
)

func newCodec() (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithWindowSize(PieceOctets))
	if err != nil {
		return nil, fmt.Errorf("begin compression: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*MaxData))
	if err != nil {
		return nil, fmt.Errorf("begin decompression: %w", err)
	}
	return &codec{enc: enc, dec: dec}, nil
}

func (c *codec) close() {
	_ = c.enc.Close()
	c.dec.Close()
}

// A frame of a pack: its chunk's name, the codec, the length of what follows, and that.
const frameHead = sha256.Size + 1 + 4

// appendFrame adds the frame of a chunk to a pack.
func (c *codec) appendFrame(pack []byte, id ID, octets []byte) []byte {
	at := len(pack)
	pack = append(pack, id[:]...)
	pack = append(pack, codecZstd, 0, 0, 0, 0)
	body := len(pack)
	pack = c.enc.EncodeAll(octets, pack)
	if len(pack)-body >= len(octets) {
		pack = append(pack[:body], octets...)
		pack[at+sha256.Size] = codecPlain
	}
	binary.BigEndian.PutUint32(pack[body-4:], uint32(len(pack)-body))
	return pack
}

var errFrame = errors.New("malformed frame")

// frame reads the frame at the beginning of b and returns the chunk that it holds
// and the rest of b. The chunk's name is not checked here.
func (c *codec) frame(b []byte) (id ID, octets, rest []byte, err error) {
	if len(b) < frameHead {
		return id, nil, nil, errFrame
	}
	copy(id[:], b)
	n := int64(binary.BigEndian.Uint32(b[frameHead-4:]))
	if n > int64(len(b)-frameHead) {
		return id, nil, nil, errFrame
	}
	body, rest := b[frameHead:frameHead+n], b[frameHead+n:]
	switch b[sha256.Size] {
	case codecPlain:
		return id, body, rest, nil
	case codecZstd:
		octets, err = c.dec.DecodeAll(body, nil)
		if err != nil {
			err = fmt.Errorf("%w: %w", errFrame, err)
		}
		return id, octets, rest, err
	}
	return id, nil, rest, fmt.Errorf("%w: codec %d", ErrNewer, b[sha256.Size])
}

// appendBlob adds octets behind their length.
func appendBlob(b, octets []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(octets))), octets...)
}

// scanner reads what appendBlob and binary.AppendUvarint wrote; ok turns false at the
// first thing that does not fit.
type scanner struct {
	b  []byte
	ok bool
}

func (s *scanner) uvarint() uint64 {
	v, n := binary.Uvarint(s.b)
	if n <= 0 {
		s.ok, s.b = false, nil
		return 0
	}
	s.b = s.b[n:]
	return v
}

func (s *scanner) take(n uint64) []byte {
	if n > uint64(len(s.b)) {
		s.ok, s.b = false, nil
		return nil
	}
	out := s.b[:n:n]
	s.b = s.b[n:]
	return out
}

func (s *scanner) blob() []byte { return s.take(s.uvarint()) }

func (s *scanner) id() (id ID) {
	copy(id[:], s.take(sha256.Size))
	return id
}
