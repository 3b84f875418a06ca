package config

import (
	"net/url"
	"path/filepath"
	"strings"
)

// Backup says where backups go, when they are made, and which are kept.
type Backup struct {
	To          string   `toml:"to" example:"/var/backups/poczta" doc:"Where backups are kept: a folder, or s3://BUCKET/PREFIX. The server makes one every day. Empty: none is made by itself. The folder must be writable for the data folder's owner (with systemd, ReadWritePaths= in poczta.service), and should be another disk."`
	Endpoint    string   `toml:"endpoint" example:"https://s3.example.net" doc:"The S3 server; empty is Amazon's."`
	Region      string   `toml:"region" example:"eu-central-1" doc:"The bucket's region, when the server does not say."`
	Credentials string   `toml:"credentials" example:"/etc/poczta/s3" doc:"A file whose first line is the S3 access key and whose second is the secret key. Empty: they come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."`
	KeyFile     string   `toml:"key_file" example:"/etc/poczta/backup.key" doc:"What backups are encrypted with: a file made by poczta backup key, or one with a passphrase in its first line. Keep a copy elsewhere: without it the backups can't be read. Empty: they are not encrypted."`
	At          Duration `toml:"at" default:"3h" max:"23h" doc:"When the daily backup begins, after midnight of this host's clock."`
	Rate        Size     `toml:"rate" default:"20MiB" min:"64KiB" unit:"per second" doc:"How fast the server reads what is new, so that mail is not held up."`
	KeepLast    int      `toml:"keep_last" default:"3" min:"0" max:"100000" doc:"How many of the newest backups stay. When all of the keep_ keys are 0, every backup stays."`
	KeepDaily   int      `toml:"keep_daily" default:"7" min:"0" max:"100000" doc:"For how many days (that have one) the newest backup of the day stays."`
	KeepWeekly  int      `toml:"keep_weekly" default:"5" min:"0" max:"100000" doc:"The same for weeks."`
	KeepMonthly int      `toml:"keep_monthly" default:"12" min:"0" max:"100000" doc:"The same for months."`
	DrillEvery  Duration `toml:"drill_every" default:"30d" max:"3650d" doc:"How often, after the daily backup, it is restored into a scratch folder in the data folder, checked and removed. It takes as much space as the mail. 0s never does."`
}

// S3 splits an s3://BUCKET/PREFIX; ok is false for what is none.
func (b Backup) S3() (bucket, prefix string, ok bool) {
	rest, ok := strings.CutPrefix(b.To, "s3://")
	bucket, prefix, _ = strings.Cut(rest, "/")
	return bucket, strings.Trim(prefix, "/"), ok
}

// validateBackup checks what can be checked without looking there.
func (d *decoder) validateBackup(c *Config) {
	b := c.Backup
	bucket, _, s3 := b.S3()
	switch {
	case s3 && bucket == "":
		d.problem("backup.to", "%q names no bucket; write it as s3://BUCKET/PREFIX", b.To)
	case !s3 && b.To != "" && !filepath.IsAbs(b.To):
		d.problem("backup.to", "%q is neither an absolute path nor s3://BUCKET/PREFIX", b.To)
	case b.To != "" && !s3 && within(b.To, c.Data):
		d.problem("backup.to", "%q lies in the data folder and would be lost with it; name a folder elsewhere, best on another disk", b.To)
	}
	if b.Endpoint != "" {
		if u, err := url.Parse(b.Endpoint); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			d.problem("backup.endpoint", "%q is not a server's address; write it as https://host or http://host:port", b.Endpoint)
		}
	}
	for _, f := range []struct{ key, file string }{{"credentials", b.Credentials}, {"key_file", b.KeyFile}} {
		if f.file != "" && !filepath.IsAbs(f.file) {
			d.problem("backup."+f.key, "%q is not an absolute path", f.file)
		}
	}
	if b.KeyFile != "" && within(b.KeyFile, c.Data) {
		d.problem("backup.key_file", "%q lies in the data folder and would be lost with it; keep it elsewhere", b.KeyFile)
	}
}

// within reports whether a path is a folder or lies in it.
func within(path, folder string) bool {
	rel, err := filepath.Rel(filepath.Clean(folder), filepath.Clean(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
