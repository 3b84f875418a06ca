// Package attachment looks at what is attached to a message: the names, the true types by
// their first octets, and what is inside of archives and documents. It finds evidence
// (verdict.Item) and decides nothing. It opens no files and no sockets.
//
// # What is read
//
// zip (also with a broken or lying directory), gzip, bzip2, xz, tar, ISO 9660, TNEF and
// enclosed messages are entered, to Config.Depth. Of RAR and 7z archives the names are read, and
// what is stored without compression. OLE2 and OOXML documents are read for macros and embedded
// objects, RTF, HTML, SVG and PDF for what acts by itself. What is merely known by its first
// octets (zstd, ARJ, LHA, ACE, CAB …) counts as not inspected.
//
// The readers are our own because those of libraries refuse what mail programs still open, trust
// one of two places that tell different names, and take as much memory as a header asks for.
//
// # Bounds
//
// A message costs at most Config.Unpacked octets of unpacking, Config.Files files and
// Config.Spool octets of memory, plus some 1 MiB of buffers; all messages together at most
// Config.Memory. Whatever exceeds a bound is left: with the evidence verdict.Bomb where an archive
// is nested too deep or unpacks to too much, else with verdict.Uninspected.
package attachment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/verdict"
)

// The defaults of Config.
const (
	DefaultDepth    = 5
	DefaultFiles    = 1000
	DefaultUnpacked = 128 << 20
	DefaultRatio    = 200
	DefaultSpool    = 16 << 20
	DefaultMemory   = 48 << 20
)

// ErrConfig means that New was given something that can't work.
var ErrConfig = errors.New("attachment rules are configured wrongly")

// Config says what is forbidden and how much is looked at. Zero values are the defaults.
type Config struct {
	// Forbidden are extensions without their dot; nil is DefaultForbidden. They hold for names
	// and, where an extension is that of a type that can be recognised, for true types: with
	// "exe" a Windows program is forbidden under any name. The types without a usual extension
	// are "elf" and "macho" (programs of Unix and macOS) and "class" (Java).
	Forbidden []string
	// Suspicious are extensions that count less; nil is DefaultSuspicious.
	Suspicious []string
	// Depth is how many archives within archives are entered.
	Depth int
	// Files is how many files of a message are looked at, those in archives included.
	Files int
	// Unpacked is how many octets of a message's archives are unpacked.
	Unpacked int64
	// Ratio is how many times its size a packed file may unpack to, beyond its first MiB.
	Ratio int64
	// Spool is how many octets of a message are held in memory, where a format can't be read
	// in one pass. Of a larger attachment the beginning is looked at.
	Spool int64
	// Memory bounds what is held for all messages at once; a message waits for it.
	Memory int64
	// Bomb is what evidence of verdict.Bomb demands; Deliver lets it count its points alone.
	Bomb verdict.Action
	// Hooks are told of what was looked at.
	Hooks Hooks
}

// Hooks are functions for metrics; nil ones are left out.
type Hooks struct {
	// Inspected is called after each message with the files looked at and the octets unpacked.
	Inspected func(files int, unpacked int64)
	// Memory is called whenever the octets held for all messages change.
	Memory func(held int64)
}

// Inspector looks at attachments. Safe for concurrent use.
type Inspector struct {
	config     Config
	forbidden  map[string]bool
	suspicious map[string]bool
	memory     *memory
	readers    sync.Pool // of *bufio.Reader
	inflaters  sync.Pool // of io.ReadCloser, flate.Resetter too
}

// New makes an inspector. The error wraps ErrConfig.
func New(c Config) (*Inspector, error) {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	depth, files := int64(c.Depth), int64(c.Files)
	set(&depth, DefaultDepth)
	set(&files, DefaultFiles)
	set(&c.Unpacked, DefaultUnpacked)
	set(&c.Ratio, DefaultRatio)
	set(&c.Spool, DefaultSpool)
	set(&c.Memory, DefaultMemory)
	c.Depth, c.Files = int(depth), int(files)
	if min(depth, files, c.Unpacked, c.Ratio, c.Spool, c.Memory) < 0 {
		return nil, fmt.Errorf("%w: limits can't be negative", ErrConfig)
	}
	if c.Spool > c.Memory {
		return nil, fmt.Errorf("%w: the memory of one message (%d octets) can't be above that of all (%d)", ErrConfig, c.Spool, c.Memory)
	}
	if c.Forbidden == nil {
		c.Forbidden = DefaultForbidden()
	}
	if c.Suspicious == nil {
		c.Suspicious = DefaultSuspicious()
	}
	i := &Inspector{config: c, memory: newMemory(c.Memory, c.Hooks.Memory)}
	var errs [2]error
	i.forbidden, errs[0] = extensions("forbidden", c.Forbidden)
	i.suspicious, errs[1] = extensions("suspicious", c.Suspicious)
	return i, errors.Join(errs[:]...)
}

// extensions makes a set of a list.
func extensions(what string, list []string) (map[string]bool, error) {
	set := make(map[string]bool, len(list))
	for _, e := range list {
		e = strings.ToLower(e)
		if e == "" || strings.ContainsAny(e, "./\\ *") {
			return nil, fmt.Errorf("%w: %s extension %q: write it without a dot, as in exe", ErrConfig, what, e)
		}
		set[e] = true
	}
	return set, nil
}

// Inspect looks at parts of the message in r: leaves that are attachments, or that are no text.
// There is at most one Item for each name of evidence; its detail tells of the first occurrence
// and counts the others. When ctx ends, or r fails, the rest is verdict.Uninspected. It blocks
// while Config.Memory is taken by other messages.
func (i *Inspector) Inspect(ctx context.Context, r io.ReaderAt, parts []*mime.Part) []verdict.Item {
	x := &examination{Inspector: i, ctx: ctx}
	for _, p := range parts {
		if p.Leaf() && p.Type != "multipart" {
			x.part(r, p, nil, 0)
		}
	}
	if i.config.Hooks.Inspected != nil {
		i.config.Hooks.Inspected(x.files, x.unpacked)
	}
	return x.items()
}
