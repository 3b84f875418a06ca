// Package thunderbird reads the mail of a Thunderbird profile: the folders of its accounts, which are mbox
// files (or Maildirs), with what Thunderbird notes in them. It changes nothing.
package thunderbird

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/mailfile"
	"poczta.example/poczta/internal/message"
)

// ErrProfile is the error of Open for what is no profile.
var ErrProfile = errors.New("neither a Thunderbird profile nor a folder with profiles.ini")

// Bounds of what is read of a profile.
const (
	maxINI   = 1 << 20
	maxDepth = 20 // folders within folders
	maxHead  = 64 << 10
)

// Profile is a person's mail as Thunderbird keeps it.
type Profile struct {
	Name     string // "" when the profile itself was opened
	Path     string
	Accounts []Account
}

// Account is one server's mail, or that of Local Folders.
type Account struct {
	Name    string // the name of its folder: pop.example.org, Local Folders
	IMAP    bool   // copies of what an IMAP server has; there may be gaps
	Folders []Folder
}

// Folder is a folder of mail.
type Folder struct {
	Name   string // levels parted by slashes; Inbox is INBOX, Archives is Archive
	Path   string
	Octets int64 // of an mbox file; 0 for a Maildir
}

// Open reads the outline of the default profile, where path is the folder of profiles.ini,
// or of the profile that path is.
func Open(path string) (*Profile, error) {
	if p, err := readProfile("", path); err != nil || len(p.Accounts) > 0 {
		return p, err
	}
	all, err := Profiles(path)
	if err != nil {
		return nil, err
	}
	return &all[0], nil
}

// Profiles reads all profiles that profiles.ini in a folder names, the default one first.
func Profiles(folder string) ([]Profile, error) {
	sections, err := readINI(filepath.Join(folder, "profiles.ini"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", folder, ErrProfile)
	}
	if err != nil {
		return nil, fmt.Errorf("read profiles.ini: %w", err)
	}
	chosen := ""
	for _, s := range sections {
		if strings.HasPrefix(s.name, "Install") && s.keys["Default"] != "" {
			chosen = s.keys["Default"]
		}
	}
	type ranked struct {
		Profile
		rank int
	}
	var all []ranked
	for _, s := range sections {
		at := s.keys["Path"]
		if !strings.HasPrefix(s.name, "Profile") || at == "" {
			continue
		}
		rank := 2
		if s.keys["Default"] == "1" {
			rank = 1
		}
		if at == chosen {
			rank = 0
		}
		where := filepath.FromSlash(at)
		if s.keys["IsRelative"] != "0" {
			where = filepath.Join(folder, where)
		}
		p, err := readProfile(s.keys["Name"], where)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, ranked{*p, rank})
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	profiles := make([]Profile, len(all))
	for i, p := range all {
		profiles[i] = p.Profile
	}
	if len(profiles) == 0 {
		return nil, fmt.Errorf("open %s: %w: profiles.ini names no profile that is there", folder, ErrProfile)
	}
	return profiles, nil
}

// section is a part of profiles.ini.
type section struct {
	name string
	keys map[string]string
}

func readINI(name string) ([]section, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []section
	in := bufio.NewScanner(io.LimitReader(f, maxINI))
	for in.Scan() {
		line := strings.TrimSpace(in.Text())
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			all = append(all, section{strings.Trim(line, "[]"), map[string]string{}})
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok && len(all) > 0 {
			all[len(all)-1].keys[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return all, in.Err()
}

// readProfile reads the outline of a profile.
func readProfile(name, path string) (*Profile, error) {
	p := &Profile{Name: name, Path: path}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open profile: %w", err)
	}
	for _, kind := range []string{"Mail", "ImapMail"} {
		dirs, err := os.ReadDir(filepath.Join(path, kind))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read profile: %w", err)
		}
		for _, d := range dirs {
			if !d.IsDir() {
				continue
			}
			a := Account{Name: d.Name(), IMAP: kind == "ImapMail"}
			if err := a.read(filepath.Join(path, kind, d.Name()), "", 0); err != nil {
				return nil, fmt.Errorf("read profile: %w", err)
			}
			if len(a.Folders) > 0 {
				p.Accounts = append(p.Accounts, a)
			}
		}
	}
	return p, nil
}

// notMail are the ends of names of files that hold something else.
var notMail = []string{".msf", ".dat", ".html", ".json", ".sqlite", ".sqlite-wal", ".sqlite-shm", ".ini", ".js", ".log", ".wdseml", ".mozeml", ".mozmsgs", ".tmp", ".bak"}

// read finds the folders in a directory: X is a folder's mbox, X.sbd holds those below it.
func (a *Account) read(dir, above string, depth int) error {
	entries, err := os.ReadDir(dir)
	if err != nil || depth > maxDepth {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		path := filepath.Join(dir, name)
		if below, ok := strings.CutSuffix(name, ".sbd"); ok && e.IsDir() {
			if err := a.read(path, join(above, below), depth+1); err != nil {
				return err
			}
			continue
		}
		if strings.HasPrefix(name, ".") || slices.ContainsFunc(notMail, func(end string) bool { return strings.HasSuffix(strings.ToLower(name), end) }) {
			continue
		}
		f := Folder{Name: join(above, name), Path: path}
		switch {
		case e.IsDir():
			if _, err := os.Stat(filepath.Join(path, "cur")); err != nil {
				continue
			}
		case e.Type().IsRegular():
			info, err := e.Info()
			if err != nil || info.Size() == 0 || !beginsAsMbox(path) {
				continue
			}
			f.Octets = info.Size()
		default:
			continue // a link, a pipe
		}
		a.Folders = append(a.Folders, f)
	}
	return nil
}

// beginsAsMbox reports whether a file begins with a From line.
func beginsAsMbox(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	first := make([]byte, 5)
	_, err = io.ReadFull(f, first)
	return err == nil && string(first) == "From "
}

// join is a folder's name below another; the names that Thunderbird gives become ours.
func join(above, name string) string {
	if above != "" {
		return above + "/" + name
	}
	switch name {
	case "Inbox":
		return mailfile.Inbox
	case "Archives":
		return "Archive"
	case "Sent-1", "Sent Messages", "Sent Items":
		return "Sent"
	case "Deleted Messages", "Deleted Items":
		return "Trash"
	case "Spam":
		return "Junk"
	}
	return name
}

// Message is one message with what Thunderbird noted of it.
type Message struct {
	mailfile.Message
	Octets io.Reader // without Thunderbird's own fields; valid until the next message is asked for
}

// The bits of X-Mozilla-Status and X-Mozilla-Status2 that count here.
const (
	statusRead      = 0x0001
	statusReplied   = 0x0002
	statusMarked    = 0x0004
	statusExpunged  = 0x0008
	statusForwarded = 0x1000
	status2Deleted  = 0x00200000 // on the IMAP server
)

// Messages yields the messages of a folder; those that were deleted but not yet compacted away
// are left out. Progress is told by done: octets of the file read so far.
func (f *Folder) Messages(done func(octets int64)) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		src, err := mailfile.Open(f.Path, mailfile.Options{Folder: f.Name})
		if err != nil {
			yield(Message{Message: mailfile.Message{Folder: f.Name, Name: f.Path}}, err)
			return
		}
		defer src.Close()
		for m, err := range src.Messages() {
			m.Folder = f.Name
			if done != nil {
				done(src.Done())
			}
			if err != nil {
				if !yield(Message{Message: m}, err) {
					return
				}
				continue
			}
			t, deleted, err := own(m)
			if deleted && err == nil {
				continue
			}
			if !yield(t, err) {
				return
			}
		}
	}
}

// own reads Thunderbird's fields, which stand in front of the others, and leaves them out.
func own(m mailfile.Message) (t Message, deleted bool, err error) {
	t.Message = m
	r := bufio.NewReaderSize(m.Body, maxHead)
	head, err := r.Peek(maxHead)
	if err != nil && err != io.EOF {
		return t, false, err
	}
	section, _, _ := message.SplitHeader(head)
	skip := 0
	var status, status2 uint64
fields:
	for f := range message.Fields(section) {
		switch {
		case f.Is("X-Mozilla-Status"):
			status, _ = strconv.ParseUint(f.Value(), 16, 32)
		case f.Is("X-Mozilla-Status2"):
			status2, _ = strconv.ParseUint(f.Value(), 16, 64)
		case f.Is("X-Mozilla-Keys"), f.Is("X-Account-Key"), f.Is("X-UIDL"):
		default:
			break fields
		}
		skip = f.Offset + len(f.Raw)
	}
	for _, b := range []struct {
		bit  uint64
		flag mailfile.Flags
	}{{statusRead, mailfile.Seen}, {statusReplied, mailfile.Answered}, {statusMarked, mailfile.Flagged}, {statusForwarded, mailfile.Forwarded}} {
		if status&b.bit != 0 {
			t.Flags |= b.flag
		}
	}
	rest := bytes.Clone(head[skip:])
	_, _ = r.Discard(len(head)) // buffered
	t.Octets = io.MultiReader(bytes.NewReader(rest), r)
	return t, status&statusExpunged != 0 || status2&status2Deleted != 0, nil
}
