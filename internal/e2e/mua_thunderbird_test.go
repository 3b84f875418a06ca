package e2e_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// thunderbirdScript runs in Thunderbird when it has started: it looks for the servers of an address
// as its own set-up does, logs in with what it found, and ends.
const thunderbirdScript = `// the first line is passed over
Services.obs.addObserver(async function started() {
  Services.obs.removeObserver(started, "mail-startup-done");
  const told = {};
  try {
    Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).addCertFromBase64("#1", "C,,");
    const { FindConfig } = ChromeUtils.importESModule("resource:///modules/accountcreation/FindConfig.sys.mjs");
    const { AccountConfig } = ChromeUtils.importESModule("resource:///modules/accountcreation/AccountConfig.sys.mjs");
    const { ConfigVerifier } = ChromeUtils.importESModule("resource:///modules/accountcreation/ConfigVerifier.sys.mjs");
    const end = new (Services.wm.getMostRecentWindow("mail:3pane").AbortController)();
    const config = (await FindConfig.parallelAutoDiscovery("#2", "ala@#2", end.signal, "#3").next()).value;
    AccountConfig.replaceVariables(config, "Ala", "ala@#2", "#3");
    told.source = config.source + " " + config.subSource;
    told.name = config.displayName;
    for (const way of ["incoming", "outgoing"]) {
      const s = config[way];
      told[way] = [s.type, s.hostname, s.port, s.socketType, s.auth, s.username].join(" ");
    }
    told.alternatives = config.incomingAlternatives.map(s => [s.type, s.hostname, s.port, s.socketType].join(" "));
    await new ConfigVerifier(null, end.signal).verifyConfig(config);
    told.verified = true;
  } catch (e) {
    told.error = String(e) + " " + (e && e.stack);
  }
  const file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile), out = Cc["@mozilla.org/network/file-output-stream;1"].createInstance(Ci.nsIFileOutputStream);
  file.initWithPath("#4");
  out.init(file, 0x0a, 0o600, 0);
  const text = JSON.stringify(told);
  out.write(text, text.length);
  out.close();
  Services.startup.quit(Ci.nsIAppStartup.eForceQuit);
}, "mail-startup-done");
`

// thunderbird is a folder with Thunderbird that runs the script: its files, and three of ours.
func thunderbird(t *testing.T, root, script string) (program string) {
	t.Helper()
	from, dir := filepath.Join(root, "usr/lib/thunderbird"), filepath.Join(t.TempDir(), "thunderbird")
	if _, err := os.Stat(filepath.Join(from, "thunderbird-bin")); err != nil {
		t.Fatalf("there is no Thunderbird in %s", root)
	}
	for _, name := range glob(t, filepath.Join(from, "*")) {
		to := filepath.Join(dir, filepath.Base(name))
		var err error
		switch filepath.Base(name) {
		case "thunderbird-bin": // finds its files beside itself
			text := readFile(t, name)
			keep(t, dir, "thunderbird-bin", text)
			executable(t, to)
		case "defaults":
			err = os.CopyFS(to, os.DirFS(name))
		default:
			err = errors.Join(os.MkdirAll(dir, 0o755), os.Symlink(name, to))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	keep(t, dir, "defaults/pref/poczta.js", `pref("general.config.filename", "poczta.cfg");
pref("general.config.obscure_value", 0);
pref("general.config.sandbox_enabled", false);
`)
	keep(t, dir, "poczta.cfg", script)
	return filepath.Join(dir, "thunderbird-bin")
}

// TestThunderbirdFindsUs has Thunderbird itself find our server from an address and log in. Its
// package is large, so make test does not fetch it: POCZTA_THUNDERBIRD names a folder in which the
// Debian packages thunderbird, libotr5 and libvpx7 are unpacked (apt-get download, dpkg -x).
func TestThunderbirdFindsUs(t *testing.T) {
	t.Parallel()
	root := os.Getenv("POCZTA_THUNDERBIRD")
	if root == "" {
		t.Skip("skipped: Thunderbird is tried by hand only; POCZTA_THUNDERBIRD names a folder with it unpacked")
	}
	i := newIsland(t)
	home, result := t.TempDir(), filepath.Join(t.TempDir(), "told")
	program := thunderbird(t, root, strings.NewReplacer("#1", base64.StdEncoding.EncodeToString(i.ca.Cert.Raw), "#2", domain, "#3", password, "#4", result).Replace(thunderbirdScript))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute*patience)
	defer cancel()
	args := i.on(program, "--headless", "--no-remote", "--profile", filepath.Join(home, "profile"))
	if err := os.Mkdir(filepath.Join(home, "profile"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+home, "MOZ_HEADLESS=1", "LD_LIBRARY_PATH="+strings.Join(glob(t, filepath.Join(root, "usr/lib/*-linux-gnu")), ":"))
	out, err := cmd.CombinedOutput()
	var told struct {
		Source, Name, Incoming, Outgoing, Error string
		Alternatives                            []string
		Verified                                bool
	}
	text, missing := os.ReadFile(result)
	if missing != nil {
		t.Fatalf("Thunderbird has told nothing: %v\n%.4000s", err, out)
	}
	if err := json.Unmarshal(text, &told); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	if !told.Verified || told.Name != "Our post" || !strings.HasPrefix(told.Incoming, "pop3 mx."+domain+" 995 ") || !strings.HasPrefix(told.Outgoing, "smtp mx."+domain+" 465 ") {
		t.Errorf("Thunderbird found %s", text)
	}
}
