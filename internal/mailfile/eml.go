package mailfile

import (
	"io/fs"
	"path"
	"strings"
)

func isEML(name string) bool { return strings.EqualFold(path.Ext(name), ".eml") }

// emlNames lists the .eml files below the folder, in the order of their names,
// with their octets; or the one that the source is.
func (s *Source) emlNames() (names []string, total int64, err error) {
	if s.name != "" {
		return []string{s.name}, s.total, nil
	}
	err = walk(s.root, ".", func(name string, d fs.DirEntry) error {
		if !d.Type().IsRegular() || !isEML(name) {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		names = append(names, name)
		total += info.Size()
		return nil
	})
	return names, total, err
}

// emlMessages is Messages of a folder of .eml files. Subfolders are folders.
func (s *Source) emlMessages(yield func(Message, error) bool) {
	names, _, err := s.emlNames()
	if err != nil {
		yield(Message{Folder: Inbox}, err)
		return
	}
	for _, name := range names {
		m := Message{Folder: Inbox, Name: name}
		if dir := path.Dir(name); dir != "." {
			m.Folder = strings.ToValidUTF8(dir, "?")
		}
		before := s.done.Load()
		body, header, info, err := s.openFile(name)
		if err != nil {
			if !yield(m, err) {
				return
			}
			continue
		}
		m.fromHeader(header)
		m.UniqueID = "" // an X-UIDL here is of the server that the file was fetched from
		m.Body, m.Received = body, info.ModTime()
		on := yield(m, nil)
		_ = body.Close()
		s.done.Store(before + info.Size())
		if !on {
			return
		}
	}
}
