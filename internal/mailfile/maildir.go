package mailfile

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// maildirFolder is one Maildir of a tree.
type maildirFolder struct {
	dir  string // in the root
	name string
}

// maildirFolders finds the Maildirs of a tree: the root itself is INBOX, .A.B is
// A/B (Maildir++), and a/b is a/b (Dovecot's LAYOUT=fs).
func maildirFolders(root *os.Root) ([]maildirFolder, error) {
	var found []maildirFolder
	look := func(name string) error {
		if _, err := root.Lstat(path.Join(name, "cur")); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		found = append(found, maildirFolder{name, folderName(name)})
		return nil
	}
	if err := look("."); err != nil {
		return nil, err
	}
	err := walk(root, ".", func(name string, d fs.DirEntry) error {
		if !d.IsDir() {
			return nil
		}
		if base := path.Base(name); base == "cur" || base == "new" || base == "tmp" {
			return fs.SkipDir
		}
		return look(name)
	})
	slices.SortFunc(found, func(a, b maildirFolder) int {
		return cmp.Or(cmp.Compare(boolInt(b.dir == "."), boolInt(a.dir == ".")), cmp.Compare(a.name, b.name))
	})
	return found, err
}

// walk calls f for what lies below a directory, in the order of names; with
// fs.SkipDir f keeps it out of a subdirectory. Names may be any octets, as old mail
// programs wrote them, which package fs does not allow.
func walk(root *os.Root, dir string, f func(name string, d fs.DirEntry) error) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	entries, err := d.ReadDir(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		err := f(name, e)
		if err == nil && e.IsDir() {
			err = walk(root, name, f)
		}
		if err != nil && !errors.Is(err, fs.SkipDir) {
			return err
		}
	}
	return nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// folderName is the folder that a directory holds.
func folderName(dir string) string {
	switch {
	case dir == ".":
		return Inbox
	case strings.HasPrefix(dir, ".") && !strings.Contains(dir, "/"):
		dir = strings.ReplaceAll(dir[1:], ".", "/")
	}
	return decodeUTF7(strings.ToValidUTF8(dir, "?"))
}

// maildirEntry is one file of a Maildir.
type maildirEntry struct {
	file string // cur/… or new/…
	base string // without flags
	uid  uint32 // Dovecot's; 0 when unknown
	id   string // POP3 unique-id kept by Dovecot
}

// maildirMessages is Messages of a tree of Maildirs.
func (s *Source) maildirMessages(yield func(Message, error) bool) {
	folders, err := maildirFolders(s.root)
	if err != nil {
		yield(Message{}, err)
		return
	}
	for _, f := range folders {
		if !s.oneMaildir(f, yield) {
			return
		}
	}
}

// oneMaildir yields the messages of one Maildir.
func (s *Source) oneMaildir(f maildirFolder, yield func(Message, error) bool) bool {
	list, err := readUIDList(s.root, path.Join(f.dir, "dovecot-uidlist"))
	if err != nil && !yield(Message{Folder: f.name}, err) { // unique-ids are lost, mail is not
		return false
	}
	keywords, err := readKeywords(s.root, path.Join(f.dir, "dovecot-keywords"))
	if err != nil && !yield(Message{Folder: f.name}, err) {
		return false
	}
	entries, err := maildirEntries(s.root, f.dir, list)
	if err != nil {
		return yield(Message{Folder: f.name}, err)
	}
	for _, e := range entries {
		m := Message{Folder: f.name, Name: path.Join(f.dir, e.file)}
		before := s.done.Load()
		body, _, info, err := s.openFile(m.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a running server has moved or deleted it
		}
		if err != nil {
			if !yield(m, err) {
				return false
			}
			continue
		}
		m.readLetters(e.file, keywords)
		m.Body, m.Received = body, info.ModTime()
		m.UniqueID = uniqueID(e, list, s.options.UIDLFormat)
		on := yield(m, nil)
		_ = body.Close()
		s.done.Store(before + info.Size()) // also when the caller did not read all
		if !on {
			return false
		}
	}
	return true
}

// maildirEntries lists a Maildir: by uid, files without one behind them by name,
// which begins with the time of delivery.
func maildirEntries(root *os.Root, dir string, list uidList) ([]maildirEntry, error) {
	var all []maildirEntry
	for _, sub := range []string{"cur", "new"} {
		err := eachFile(root, path.Join(dir, sub), func(d fs.DirEntry) error {
			base, _ := splitInfo(d.Name())
			l := list.entries[base]
			all = append(all, maildirEntry{file: sub + "/" + d.Name(), base: base, uid: l.uid, id: l.id})
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b maildirEntry) int {
		return cmp.Or(cmp.Compare(a.uid-1, b.uid-1), cmp.Compare(a.base, b.base)) // 0-1 is the greatest
	})
	return all, nil
}

// eachFile calls f for the files of a directory whose names do not begin with a dot.
func eachFile(root *os.Root, dir string, f func(fs.DirEntry) error) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		batch, err := d.ReadDir(1000)
		for _, e := range batch {
			if strings.HasPrefix(e.Name(), ".") || e.IsDir() {
				continue
			}
			if err := f(e); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// maildirTotal sums the octets of all files.
func (s *Source) maildirTotal(folders []maildirFolder) (total int64, err error) {
	for _, f := range folders {
		for _, sub := range []string{"cur", "new"} {
			err := eachFile(s.root, path.Join(f.dir, sub), func(d fs.DirEntry) error {
				info, err := d.Info()
				if err == nil && info.Mode().IsRegular() {
					total += info.Size()
				}
				return nil
			})
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return 0, err
			}
		}
	}
	return total, nil
}

// splitInfo parts a file's name from its flags. Where a colon may not stand in
// names, programs write ; or ! in its place.
func splitInfo(name string) (base, flags string) {
	for _, mark := range []string{":2,", ";2,", "!2,"} {
		if base, flags, found := strings.Cut(name, mark); found {
			return base, flags
		}
	}
	return name, ""
}

// readLetters reads the flags of a file's name: capitals are the standard's,
// small letters stand for the lines of dovecot-keywords.
func (m *Message) readLetters(file string, keywords map[int]string) {
	_, letters := splitInfo(file)
	for _, c := range letters {
		switch {
		case c == 'S':
			m.Flags |= Seen
		case c == 'R':
			m.Flags |= Answered
		case c == 'F':
			m.Flags |= Flagged
		case c == 'D':
			m.Flags |= Draft
		case c == 'T':
			m.Flags |= Deleted
		case c == 'P':
			m.Flags |= Forwarded
		case c >= 'a' && c <= 'z':
			if w := keywords[int(c-'a')]; w != "" {
				m.setKeyword(w)
			}
		}
	}
}

// readKeywords reads dovecot-keywords: lines "number name". None is no error.
func readKeywords(root *os.Root, name string) (map[int]string, error) {
	keywords := map[int]string{}
	err := eachLine(root, name, func(line string) error {
		number, word, found := strings.Cut(line, " ")
		if n, err := strconv.Atoi(number); err == nil && found && n >= 0 && n < 26 {
			keywords[n] = strings.TrimSpace(word)
		}
		return nil
	})
	return keywords, err
}

// eachLine calls f for the lines of a small text file. None is no error.
func eachLine(root *os.Root, name string, f func(string) error) error {
	info, err := root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() { // a pipe would block for ever
		return fmt.Errorf("read %s: not a regular file", name)
	}
	file, err := root.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		if err := f(in.Text()); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}
