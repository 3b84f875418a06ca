package classifier

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/verdict"
)

// Limits of what is looked at.
const (
	maxWords    = 4000 // words of subject and text
	maxSubject  = 1024 // octets of the subject, so that it leaves words to the text
	maxName     = 256  // octets of an author's name
	maxLinks    = 100  // links
	maxParts    = 50   // parts
	maxWord     = 24   // octets of a word that is kept as it is
	maxFeatures = 1 << 14
)

// version is the first octet of packed features. Samples of another version are not counted;
// it changes whenever the same message gives other features.
const version = 1

// Features is what a message is recognised by: hashes of its words, of neighbouring words, of
// the hosts it links to, of its author's name and address, and of its form. It holds no text.
// Its zero value is a message without any. Features are never changed.
type Features struct{ hashes []uint32 } // ascending, each once

// Len is how many features there are.
func (f Features) Len() int { return len(f.hashes) }

// Features reads a message's features. It is pure; its time and memory are bounded by the
// Limits of content.Read and by constants of its own.
//
// It leaves out what mail systems and lists add, since that says where a message came
// through and not what it says: Received, Date, Message-ID, List-*, X-*, To and Cc, a tag in
// brackets before the subject, a list's footer.
func (c *Classifier) Features(ct *content.Content) Features { return FeaturesOf(ct) }

// FeaturesOf is Classifier.Features, which needs no Classifier.
func FeaturesOf(ct *content.Content) Features {
	b := newBuilder(ct, false)
	b.content(ct)
	return b.features()
}

// The kinds of features, mixed into their hashes.
const (
	kindWord    = 'w'
	kindSubject = 's'
	kindName    = 'n' // of the author
	kindAddress = 'a'
	kindDomain  = 'd'
	kindHost    = 'h' // of a link
	kindPath    = 'p'
	kindType    = 't'
	kindSuffix  = 'x' // of a file name
	kindCharset = 'c'
	kindOddity  = 'o'
)

// kindWords is how a kind is told to people.
var kindWords = map[byte]string{
	kindSubject: "subject: ", kindName: "author: ", kindAddress: "from: ", kindDomain: "from: ", kindHost: "link: ",
	kindPath: "link path: ", kindType: "part: ", kindSuffix: "file: ", kindCharset: "charset: ", kindOddity: "oddity: ",
}

// builder collects features.
type builder struct {
	hashes []uint32
	left   int    // words that may still be read
	word   []byte // the word being read
	folded []byte
	names  map[uint32]string // what hashes stand for; nil unless wanted

	// the word before, for pairs
	last     uint64
	lastWord string
}

// newBuilder returns a builder with room for what a text mostly has: a word, and a pair, for each
// six octets.
func newBuilder(ct *content.Content, named bool) *builder {
	room := 64 + min(len(ct.Text)/6, maxWords)*2
	b := &builder{hashes: make([]uint32, 0, room), left: maxWords, word: make([]byte, 0, 2*maxWord+utf8.UTFMax)}
	if named {
		b.names = map[uint32]string{}
	}
	return b
}

func (b *builder) features() Features {
	h := slices.Compact(sorted(b.hashes))
	return Features{h[:min(len(h), maxFeatures)]}
}

// sorted sorts hashes: by their first bits in one go, and then the few that share them, which takes
// a fifth of the time of comparing all. It may use the slice for other things.
func sorted(hashes []uint32) []uint32 {
	const bits, most = 9, 64 // hashes that share the first bits; more were made by somebody
	var place [1 << bits]uint32
	for _, h := range hashes {
		place[h>>(32-bits)]++
	}
	next := uint32(0)
	for i, n := range place {
		if n > most {
			slices.Sort(hashes)
			return hashes
		}
		place[i], next = next, next+n
	}
	out := make([]uint32, len(hashes))
	for _, h := range hashes {
		at := &place[h>>(32-bits)]
		out[*at] = h
		*at++
	}
	for i := 1; i < len(out); i++ {
		h, k := out[i], i
		for ; k > 0 && out[k-1] > h; k-- {
			out[k] = out[k-1]
		}
		out[k] = h
	}
	return out
}

func (b *builder) content(ct *content.Content) {
	b.from(ct)
	subject := subject(ct.Subject[:min(len(ct.Subject), maxSubject)])
	b.sequence(kindSubject, subject)
	b.sequence(kindWord, subject)
	b.sequence(kindWord, withoutFooter(ct.Text))
	for _, l := range ct.Links[:min(len(ct.Links), maxLinks)] {
		b.link(l)
	}
	b.form(ct)
}

// from reads the author.
func (b *builder) from(ct *content.Content) {
	for _, m := range ct.From[:min(len(ct.From), 4)] {
		b.alone(kindName, m.Name[:min(len(m.Name), maxName)])
		if m.Address.IsZero() {
			continue
		}
		b.add(kindAddress, []byte(m.Address.Key()))
		b.domain(kindDomain, m.Address.Domain().String())
	}
}

// domain reads a host with the domains it lies in.
func (b *builder) domain(kind byte, name string) {
	for n := 0; name != "" && n < 8; n++ {
		b.add(kind, []byte(name))
		_, name, _ = strings.Cut(name, ".")
	}
}

func (b *builder) link(l content.Link) {
	switch {
	case l.Host == "":
	case strings.Trim(l.Host, "0123456789.") == "" || strings.Contains(l.Host, ":"):
		b.add(kindHost, []byte("address"))
	default:
		b.domain(kindHost, l.Host)
	}
	if l.Kind == content.Form {
		b.add(kindOddity, []byte("form"))
	}
	_, path, found := strings.Cut(l.URL, "://")
	if !found {
		return
	}
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	if _, path, found = strings.Cut(path, "/"); found {
		b.alone(kindPath, strings.Map(func(r rune) rune {
			if strings.ContainsRune("/._-=&;,%$!", r) {
				return ' '
			}
			return r
		}, path))
	}
}

// form reads types, charsets, the suffixes of file names, and the oddities that were found.
func (b *builder) form(ct *content.Content) {
	n := 0
	if ct.Root != nil {
		for p := range ct.Root.All() {
			if n++; n > maxParts {
				break
			}
			b.add(kindType, []byte(p.Type+"/"+p.Subtype))
			if p.Charset != "" {
				b.add(kindCharset, []byte(p.Charset))
			}
			if i := strings.LastIndexByte(p.Filename, '.'); i >= 0 && len(p.Filename)-i <= 9 {
				b.add(kindSuffix, []byte(strings.ToLower(p.Filename[i+1:])))
			}
		}
	}
	for _, it := range ct.Items {
		if verdict.Rows[it.Name].Group == verdict.Content || it.Name == verdict.SubjectOdd {
			b.add(kindOddity, []byte(it.Name))
		}
	}
}

// add notes a feature.
func (b *builder) add(kind byte, word []byte) uint64 {
	h := hash(kind, word)
	f := uint32(h >> 32)
	b.hashes = append(b.hashes, f)
	if b.names != nil {
		b.names[f] = kindWords[kind] + string(word)
	}
	return h
}

// pair notes two neighbouring words.
func (b *builder) pair(kind byte, h uint64, word []byte) {
	if b.last != 0 {
		f := uint32(mix(b.last*0x9E3779B97F4A7C15+h) >> 32)
		b.hashes = append(b.hashes, f)
		if b.names != nil {
			b.names[f] = kindWords[kind] + b.lastWord + " " + string(word)
		}
	}
	b.last = h
	if b.names != nil {
		b.lastWord = string(word)
	}
}

// hash is FNV-1a, mixed so that its upper half is good.
func hash(kind byte, word []byte) uint64 {
	h := (uint64(14695981039346656037) ^ uint64(kind)) * 1099511628211
	for _, c := range word {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return mix(h)
}

func mix(h uint64) uint64 {
	h = (h ^ h>>32) * 0xD6E8FEB86659FD93
	h = (h ^ h>>32) * 0xD6E8FEB86659FD93
	return h ^ h>>32
}

// errPacked: packed features that this program did not write.
var errPacked = errors.New("read features: broken")

// pack writes features for the database: the version, then the differences of the hashes.
func (f Features) pack() []byte {
	b := make([]byte, 1, 1+3*len(f.hashes))
	b[0] = version
	last := uint32(0)
	for _, h := range f.hashes {
		b = binary.AppendUvarint(b, uint64(h-last))
		last = h
	}
	return b
}

// unpack reads what pack wrote. known is false for features of another version.
func unpack(b []byte) (f Features, known bool, err error) {
	if len(b) == 0 {
		return f, false, errPacked
	}
	if b[0] != version {
		return f, false, nil
	}
	f.hashes = make([]uint32, 0, len(b)/2)
	last := uint64(0)
	for b = b[1:]; len(b) > 0; {
		d, n := binary.Uvarint(b)
		if n <= 0 || d > 1<<32 || len(f.hashes) > 0 && d == 0 || last+d >= 1<<32 || len(f.hashes) == maxFeatures {
			return Features{}, false, errPacked
		}
		last += d
		f.hashes = append(f.hashes, uint32(last))
		b = b[n:]
	}
	return f, true, nil
}
