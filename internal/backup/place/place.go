// Package place opens backup repositories where people say they are: in a folder, or in
// a bucket of S3, with a key from a file.
package place

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/bucket"
	"poczta.example/poczta/internal/disk"
)

// Place is where a repository is. To is required.
type Place struct {
	To          string // a folder, or s3://BUCKET/PREFIX
	Endpoint    string // the S3 server, as an URL; "" is Amazon's
	Region      string
	Credentials string // file with the access key and the secret key, each in a line; "" looks into the environment
	KeyFile     string // see backup.ParseKey; "" is for repositories that are not encrypted
}

// Options say how Open opens. The zero value opens what is there.
type Options struct {
	Make     bool // make the repository when there is none
	Rate     int64
	Progress func(backup.Progress)
	Logger   *slog.Logger
}

// maxKeyFile bounds a key file, in octets.
const maxKeyFile = 64 << 10

// Open opens the repository. backup.ErrNoRepository when there is none, unless
// Options.Make is set. Call the function returned at the end.
func Open(ctx context.Context, p Place, o Options) (*backup.Repository, func(), error) {
	key, err := readKey(p.KeyFile)
	if err != nil {
		return nil, nil, err
	}
	target, end, err := p.target(o.Make)
	if err != nil {
		return nil, nil, err
	}
	host, _ := os.Hostname()
	c := backup.Config{Target: target, Key: key, Rate: o.Rate, Host: host, Logger: o.Logger, Progress: o.Progress}
	open := backup.Open
	if o.Make {
		open = backup.OpenOrInit
	}
	r, err := open(ctx, c)
	if err != nil {
		end()
		if errors.Is(err, backup.ErrNoRepository) {
			err = fmt.Errorf("%w in %s; the first backup makes one", err, p.To)
		}
		return nil, nil, err
	}
	return r, func() { r.Close(); end() }, nil
}

// S3 splits s3://BUCKET/PREFIX; ok is false for what is none.
func S3(to string) (name, prefix string, ok bool) {
	rest, ok := strings.CutPrefix(to, "s3://")
	name, prefix, _ = strings.Cut(rest, "/")
	return name, strings.Trim(prefix, "/"), ok
}

func readKey(file string) (backup.Key, error) {
	if file == "" {
		return backup.Key{}, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return backup.Key{}, fmt.Errorf("read backup key %s: it does not exist; make one with: poczta backup key %s", file, file)
	}
	if err == nil && len(text) > maxKeyFile {
		err = errors.New("it is too long for a key")
	}
	if err != nil {
		return backup.Key{}, fmt.Errorf("read backup key: %w; it must be readable for whom the backup is made by", err)
	}
	return backup.ParseKey(text)
}

// target opens the place; fresh makes a folder that is missing.
func (p Place) target(fresh bool) (backup.Target, func(), error) {
	if p.To == "" {
		return nil, nil, errors.New("no place for backups is named: set backup.to in the configuration, or say --to FOLDER or --to s3://BUCKET/PREFIX")
	}
	if name, prefix, ok := S3(p.To); ok {
		c := bucket.Config{Endpoint: p.Endpoint, Region: p.Region, Bucket: name, Prefix: prefix}
		if p.Credentials != "" {
			text, err := os.ReadFile(p.Credentials)
			words := strings.Fields(string(text))
			if err == nil && len(words) != 2 {
				err = fmt.Errorf("%s: the first line must be the access key, the second the secret key, and no more", p.Credentials)
			}
			if err != nil {
				return nil, nil, fmt.Errorf("read S3 credentials: %w", err)
			}
			c.AccessKey, c.SecretKey = words[0], words[1]
		}
		t, err := bucket.New(c)
		return t, func() {}, err
	}
	if fresh {
		if err := os.MkdirAll(p.To, 0o700); err != nil {
			return nil, nil, fmt.Errorf("make folder for backups: %w; make it by hand, for whom the backup is made by", err)
		}
	}
	files, err := disk.OS(p.To)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w in %s: the folder does not exist", backup.ErrNoRepository, p.To)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open folder for backups: %w", err)
	}
	return backup.NewFolder(files, "."), func() { _ = files.Close() }, nil
}
