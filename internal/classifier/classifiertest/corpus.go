// Package classifiertest measures the classifier by a corpus of labelled messages.
package classifiertest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/content"
)

// ErrAbsent: there is no foreign test data.
var ErrAbsent = errors.New("no corpus: set POCZTA_TESTDATA to the foreign test data")

// Corpus is the training corpus below POCZTA_TESTDATA.
const Corpus = "spam/spamassassin-train.tar.gz"

// Message is one of a corpus.
type Message struct {
	Name string
	Raw  []byte
	Spam bool
}

// Open reads the corpus Corpus; ErrAbsent when it is not here.
func Open() ([]Message, error) {
	dir := os.Getenv("POCZTA_TESTDATA")
	if dir == "" {
		return nil, ErrAbsent
	}
	file, err := os.Open(filepath.Join(dir, Corpus))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrAbsent
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return Read(file)
}

// Read reads a gzipped tar file with the folders ham and spam.
func Read(r io.Reader) ([]Message, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	var all []Message
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		class, _, _ := strings.Cut(strings.TrimPrefix(h.Name, "./"), "/")
		if h.Typeflag != tar.TypeReg || class != "ham" && class != "spam" {
			continue
		}
		raw, err := io.ReadAll(t)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", h.Name, err)
		}
		all = append(all, Message{Name: h.Name, Raw: raw, Spam: class == "spam"})
	}
}

// Read reads what a message says.
func (m Message) Read() (*content.Content, error) {
	return content.Read(bytes.NewReader(m.Raw), int64(len(m.Raw)), content.Facts{}, content.Limits{})
}

// Label is a message's features with its class.
type Label struct {
	Name     string
	Features classifier.Features
	Spam     bool
}

// Features reads the features of messages.
func Features(all []Message) ([]Label, error) {
	out := make([]Label, len(all))
	for i, m := range all {
		ct, err := m.Read()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", m.Name, err)
		}
		out[i] = Label{m.Name, classifier.FeaturesOf(ct), m.Spam}
	}
	return out, nil
}

// WithoutPath returns messages without the header fields that tell how they came, so that it
// is what they say that counts: Received, Date, Message-ID, List-* and X-*, and such as other
// filters add.
func WithoutPath(all []Message) []Message {
	out := make([]Message, len(all))
	for i, m := range all {
		m.Raw = withoutPath(m.Raw)
		out[i] = m
	}
	return out
}

func withoutPath(raw []byte) []byte {
	var out []byte
	for drop := false; len(raw) > 0; {
		line := raw
		if i := bytes.IndexByte(raw, '\n'); i >= 0 {
			line = raw[:i+1]
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		if line[0] != ' ' && line[0] != '\t' {
			name, _, _ := bytes.Cut(line, []byte(":"))
			drop = pathField(strings.ToLower(string(bytes.TrimSpace(name))))
		}
		if !drop {
			out = append(out, line...)
		}
		raw = raw[len(line):]
	}
	return append(out, raw...)
}

func pathField(name string) bool {
	switch name {
	case "received", "date", "message-id", "delivered-to", "return-path", "sender", "errors-to", "precedence", "mailing-list":
		return true
	}
	return strings.HasPrefix(name, "list-") || strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "resent-")
}
