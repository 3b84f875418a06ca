package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// packagingDir is where the units and the package are made from.
const packagingDir = "../../packaging"

// tool finds a program, or skips; where services are required it is an error.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("POCZTA_REQUIRE_SERVICES") != "" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

// TestUnits has systemd read the units. Their program need not be installed, so
// a copy names one that is.
func TestUnits(t *testing.T) {
	t.Parallel()
	analyze := tool(t, "systemd-analyze")
	dir := t.TempDir()
	units, err := filepath.Glob(packagingDir + "/systemd/*")
	if err != nil || len(units) != 7 {
		t.Fatalf("got units %v, %v; want the service and six sockets", units, err)
	}
	args := []string{"verify", "--man=no", "--recursive-errors=no"}
	for _, u := range units {
		text, err := os.ReadFile(u)
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, filepath.Base(u))
		if err := os.WriteFile(copied, []byte(strings.ReplaceAll(string(text), "/usr/bin/poczta", "/bin/true")), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, copied)
	}
	out, err := exec.CommandContext(t.Context(), analyze, args...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "poczta") {
			t.Errorf("systemd says: %s", line)
		}
	}
	if err != nil {
		t.Logf("systemd-analyze: %v: %s", err, out)
	}
}

// TestPackage builds the package around a stand-in for the program and has dpkg read it.
func TestPackage(t *testing.T) {
	t.Parallel()
	deb := tool(t, "dpkg-deb")
	dir := t.TempDir()
	binary := filepath.Join(dir, "poczta")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), packagingDir+"/deb.sh")
	build.Env = append(os.Environ(), "BINARY="+binary, "OUT="+dir, "VERSION=1.2.3", "ARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("deb.sh: %v: %s", err, out)
	}
	file := filepath.Join(dir, "poczta_1.2.3_amd64.deb")
	info, err := exec.CommandContext(t.Context(), deb, "-I", file).CombinedOutput()
	if err != nil || !strings.Contains(string(info), "Package: poczta") || !strings.Contains(string(info), "Version: 1.2.3") {
		t.Errorf("dpkg-deb -I: %v: %s", err, info)
	}
	list, err := exec.CommandContext(t.Context(), deb, "-c", file).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"./usr/bin/poczta", "./lib/systemd/system/poczta.service", "./lib/systemd/system/poczta-smtp.socket",
		"./usr/share/man/man8/poczta.8.gz", "./usr/share/doc/poczta/configuration.md", "./usr/share/doc/poczta/operations.md"} {
		if !strings.Contains(string(list), want) {
			t.Errorf("the package lacks %s", want)
		}
	}
	if strings.Contains(string(info), "mail-transport-agent") {
		t.Error("the package promises /usr/sbin/sendmail and mail to other hosts")
	}
	if strings.Contains(string(list), "poczta.toml") {
		t.Error("the package brings a configuration; setup writes it")
	}
}

// TestMaintainerScripts has the shell parse the package's scripts.
func TestMaintainerScripts(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"postinst", "prerm", "postrm"} {
		if out, err := exec.CommandContext(t.Context(), tool(t, "sh"), "-n", packagingDir+"/debian/"+s).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", s, err, out)
		}
	}
}
