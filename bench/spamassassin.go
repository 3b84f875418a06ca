package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// startSpamAssassin starts OpenDKIM, which verifies signatures, and SpamAssassin behind
// spamass-milter, with the configuration of its package and the name server. OpenDKIM, which can't be
// told another port, finds the keys in a file. There is no Bayes, which would have to be taught.
func (b *bench) startSpamAssassin(ctx context.Context, mail *signedMail) (milters []string, err error) {
	const opendkim, spamd, spamassMilter, site = "/usr/sbin/opendkim", "/usr/sbin/spamd", "/usr/sbin/spamass-milter", "/etc/spamassassin"
	for _, there := range []string{opendkim, spamd, spamassMilter, site + "/init.pre", "/usr/share/perl5/Mail/SPF.pm"} {
		if _, err := os.Stat(there); err != nil {
			return nil, missing{fmt.Errorf("%s is not there: install the packages opendkim, spamassassin, spamass-milter and libmail-spf-perl", there)}
		}
	}
	dir, err := os.MkdirTemp(b.dir, "spamassassin-")
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(dir+"/site", os.DirFS(site)); err != nil {
		return nil, err
	}
	var ports [3]int
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	local, err := os.ReadFile(dir + "/site/local.cf")
	if err != nil {
		return nil, err
	}
	var keys strings.Builder
	for i := range signedDomains {
		fmt.Fprintf(&keys, "%s._domainkey.%s %s\n", selector, signedDomain(i), mail.record)
	}
	if err := writeAll(map[string]string{
		dir + "/site/local.cf": string(local) + "\nuse_bayes 0\ndns_available yes\ndns_server " + mail.dns + "\ntrusted_networks 127.0.0.0/8\ninternal_networks 127.0.0.0/8\n",
		dir + "/keys":          keys.String(),
		dir + "/opendkim.conf": fmt.Sprintf("Mode v\nSyslog no\nAuthservID mx.%s\nSocket inet:%d@127.0.0.1\nTestDNSData file:%s/keys\nUserID opendkim\n", domain, ports[0], dir),
	}); err != nil {
		return nil, err
	}
	if err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(path, 0o755)
		}
		return err
	}); err != nil {
		return nil, err
	}
	for i, command := range [][]string{
		{opendkim, "-f", "-x", dir + "/opendkim.conf"},
		{spamd, "--siteconfigpath=" + dir + "/site", "--nouser-config", "--username=nobody", "--listen=" + loopback(ports[1]), "--syslog=" + dir + "/spamd.log", "--max-children=5", "--min-children=4"},
		{spamassMilter, "-p", fmt.Sprintf("inet:%d@127.0.0.1", ports[2]), "-u", "nobody", "--", "-d", "127.0.0.1", "-p", fmt.Sprint(ports[1])},
	} {
		p, err := b.start(ctx, filepath.Base(command[0])+".log", command[0], command[1:]...)
		if err != nil {
			return nil, err
		}
		b.onStop(p.stop)
		if err := waitPort(ctx, loopback(ports[i])); err != nil {
			return nil, err
		}
	}
	return []string{loopback(ports[0]), loopback(ports[2])}, nil
}
