package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// inSession runs a script in a D-Bus session of its own with a Secret Service, GNOME's. In it,
// poczta is the program, and items counts what the keyring holds for it.
const inSession = `set -eu
printf %s 'keyring password' | gnome-keyring-daemon --unlock --components=secrets >/dev/null
# The bus would start another one, whose keyring is locked, for whoever asks before this one is on it.
n=0
until dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner string:org.freedesktop.secrets | grep -q 'boolean true'; do
	n=$((n + 1))
	[ $n -lt 600 ] || { echo "the keyring is not on the bus"; exit 4; }
	sleep 0.1
done
items() {
	dbus-send --session --print-reply --dest=org.freedesktop.secrets /org/freedesktop/secrets org.freedesktop.Secret.Service.SearchItems \
		dict:string:string:service,'poczta mail' | grep -c 'object path "/org/freedesktop/secrets/collection' || true
}
`

// TestMailKeyring keeps passwords in a real Secret Service, from set-up to the account's end.
func TestMailKeyring(t *testing.T) {
	t.Parallel()
	session := tool(t, "dbus-run-session")
	tool(t, "gnome-keyring-daemon")
	p := newProvider(t, nil, "").postfix()
	p.drop("ala", numbered(0, 3)...)
	l := newLaptop(t)
	l.withoutPassphrase()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	l.write("password", secret+"\n")
	script := l.write("session.sh", inSession+`
mail() { echo "+ $*"; '`+bin+`' mail "$@" </dev/null 2>&1; }
mail add ala@provider.test --password-file password --ca '`+p.authority(l)+`' `+strings.Join(p.servers(), " ")+`
echo "items: $(items)"
mail sync
mail send ala@provider.test -s 'by the keyring' --text x --unchecked
mail password --password-file wrong && exit 3
mail password --password-file password
mail sync --json
mail remove ala@provider.test --yes
echo "items: $(items)"
`)
	l.write("wrong", "not it\n")
	out := l.works("", session, "--", "sh", script)
	rest := out
	for _, want := range []string{"its password lies in the system's keyring", "items: 1\n", "3 new letters", "Sent.", "nothing was changed", "saved in the system's keyring", "is removed", "items: 0\n"} {
		var found bool
		if _, rest, found = strings.Cut(rest, want); !found {
			t.Fatalf("want %q, in this order, in\n%s", want, out)
		}
	}
	if _, err := os.Stat(filepath.Join(l.dir, "mail/secrets.age")); err == nil || strings.Contains(out, secret+"\n") {
		t.Errorf("the password does not lie in the keyring alone: %v", err)
	}
	// The keyring's own file is encrypted, and it is not in the folder.
	for _, name := range append(glob(t, filepath.Join(l.dir, "mail/*")), glob(t, filepath.Join(l.dir, ".local/share/keyrings/*"))...) {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() && strings.Contains(readFile(t, name), secret+"\n") {
			t.Errorf("the password stands in %s", name)
		}
	}
}

// emptyBus is a D-Bus session on which nothing can be started.
const emptyBus = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
`

// TestMailWithoutKeyring has no D-Bus, or one without a Secret Service: the encrypted file is used,
// or, where there is nobody to ask for a passphrase, a sentence says what to give. A keyring that is
// there and locked, and can't ask, is told too.
func TestMailWithoutKeyring(t *testing.T) {
	t.Parallel()
	session := tool(t, "dbus-run-session")
	tool(t, "gnome-keyring-daemon")
	p := newProvider(t, nil, "").postfix()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		run  []string // what runs the program
		says string   // without a passphrase
		more []string // flags that it is done with, beside the passphrase
	}{
		"no D-Bus":          {nil, "--passphrase-file", nil},
		"no Secret Service": {[]string{session, "--config-file", keep(t, t.TempDir(), "bus.conf", emptyBus), "--"}, "--passphrase-file", nil},
		"a locked keyring":  {[]string{session, "--"}, "--secrets-file", []string{"--secrets-file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLaptop(t)
			passphrase := l.withoutPassphrase()
			l.write("password", secret+"\n")
			add := slices.Concat(tt.run, []string{bin, "mail", "add", "ala@provider.test", "--password-file", "password", "--ca", p.authority(l)}, p.servers())
			if out, code := l.program("", add[0], add[1:]...); code != 1 || !strings.Contains(out, tt.says) {
				t.Errorf("without a passphrase: exit %d %s", code, out)
			}
			if out, code := l.program("", bin, "mail", "accounts", "--json"); strings.Contains(out, "ala@") {
				t.Errorf("an account without its password was saved: exit %d %s", code, out)
			}
			l.env = append(l.env, passphrase)
			add = append(add, tt.more...)
			if out := l.works("", add[0], add[1:]...); !strings.Contains(out, "secrets.age") || !strings.Contains(out, "encrypted") {
				t.Errorf("it is not said where the password lies: %s", out)
			}
			if text := readFile(t, filepath.Join(l.dir, "mail/secrets.age")); !strings.HasPrefix(text, "age-encryption.org/") {
				t.Errorf("secrets.age: %.40q", text)
			}
		})
	}
}

// withoutPassphrase takes the passphrase and the address of D-Bus out of the environment, and
// returns the passphrase's variable.
func (l *laptop) withoutPassphrase() (variable string) {
	var kept []string
	for _, v := range l.env {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "POCZTA_MAIL_PASSPHRASE_FILE":
			variable = v
		case "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "XDG_DATA_HOME":
		default:
			kept = append(kept, v)
		}
	}
	l.env = append(kept, "XDG_RUNTIME_DIR="+l.dir)
	return variable
}
