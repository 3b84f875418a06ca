package mua_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/vault"
)

// saved is what add saves for an address, whose servers are nowhere.
func saved(t *testing.T, addr string) string {
	t.Helper()
	server := func(p clientconfig.Protocol) profile.Server {
		return profile.Server{Login: addr, Accepted: strings.Repeat("ab", 32), Server: clientconfig.Server{Protocol: p, Host: "127.0.0.1", Port: 9, Security: clientconfig.TLS}}
	}
	text, err := json.Marshal(mua.NewAccount{Account: profile.Account{Address: addr, Incoming: server(clientconfig.POP3), Outgoing: server(clientconfig.SMTP), Policy: profile.Policy{Keep: profile.Leave}}, Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestReadyBeforeAnythingIsAsked says that an account exists, and that the passphrase is wrong, once.
func TestReadyBeforeAnythingIsAsked(t *testing.T) {
	t.Parallel()
	folder, asked, phrase := t.TempDir(), 0, "correct horse battery"
	h := &house{t: t, folder: folder}
	open := func() {
		var err error
		h.Mail, err = mua.Open(t.Context(), mua.Config{Folder: folder, VaultFile: true, VaultWork: 10, Ask: func(bool) (string, error) { asked++; return phrase, nil }})
		h.must(err)
	}
	open()
	h.must(h.desk("", false).Ready(t.Context(), "ala@house.example"))
	if asked > 0 {
		t.Errorf("asked for the passphrase of no file")
	}
	h.must(h.desk(saved(t, "ala@house.example"), false).AccountAdd(t.Context()))
	if out := h.out.String(); !strings.Contains(out, "Everything stays on the server.") {
		t.Error(out)
	}
	if err := h.desk("", false).Ready(t.Context(), "Ala@house.example"); !errors.Is(err, profile.ErrExists) || !strings.Contains(err.Error(), "poczta mail password") {
		t.Errorf("an account that exists: %v", err)
	}
	h.must(h.Close())
	phrase = "wrong horse"
	open()
	defer func() { h.must(h.Close()) }()
	for name, err := range map[string]error{
		"ready": h.desk("", false).Ready(t.Context(), "ola@house.example"),
		"add":   h.desk(saved(t, "ola@house.example"), false).AccountAdd(t.Context()),
		"sync":  h.desk("", false).Sync(t.Context(), nil),
		"watch": h.desk("", false).Watch(t.Context()),
	} {
		if !errors.Is(err, vault.ErrPassphrase) || strings.Count(err.Error(), vault.ErrPassphrase.Error()) != 1 {
			t.Errorf("%s: %v", name, err)
		}
		if advice := mua.Advice(err, "en"); !strings.Contains(advice, "secrets.age") {
			t.Errorf("%s: advice %q", name, advice)
		}
	}
	if list, err := h.Accounts.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%d accounts, %v", len(list), err)
	}
}

// TestPolicyInSentences says what the flags mean.
func TestPolicyInSentences(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.must(h.desk(saved(t, "ala@house.example"), false).AccountAdd(t.Context()))
	yes, size := true, int64(1<<20)
	for _, c := range []struct {
		change mua.PolicyChange
		says   string
	}{
		{mua.PolicyChange{}, "ala@house.example: Everything stays on the server. poczta mail sync --watch and open look every 5m.\n"},
		{mua.PolicyChange{Keep: "days:30", Every: new(90 * time.Minute)}, "ala@house.example: Mail is deleted on the server once it has been here for 30 days. poczta mail sync --watch and open look every 1h30m.\n"},
		{mua.PolicyChange{Keep: "fetched", Every: new(10*time.Minute + 30*time.Second)}, "ala@house.example: Mail is deleted on the server once it is here. poczta mail sync --watch and open look every 10m30s.\n"},
		{mua.PolicyChange{Follow: &yes, HeadersAbove: &size, Every: new(2 * time.Hour), Paused: &yes},
			"ala@house.example: Mail is deleted on the server once it is here. What you delete here for good is deleted there, too. Of letters over 1.0 MiB only the header section comes, until you read them. It is not fetched by itself; --resume changes that.\n"},
	} {
		h.must(h.desk("", false).Policy(t.Context(), "ala", c.change))
		if got := h.out.String(); got != c.says {
			t.Errorf("%+v:\n%swant\n%s", c.change, got, c.says)
		}
	}
	if err := h.desk("", false).Policy(t.Context(), "ala", mua.PolicyChange{Every: new(time.Second)}); !errors.Is(err, mua.ErrUsage) || !strings.Contains(err.Error(), "10s or more") {
		t.Errorf("every second: %v", err)
	}
}

// TestServerKeepsWhatWasAccepted changes a port, then the host, then takes nonsense.
func TestServerKeepsWhatWasAccepted(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.must(h.desk(saved(t, "ala@house.example"), false).AccountAdd(t.Context()))
	now := func(c mua.ServerChange) profile.Account {
		c.Untried = true
		h.must(h.desk("", false).Server(t.Context(), "", c))
		a, err := h.Accounts.Find(t.Context(), "")
		h.must(err)
		return a
	}
	a := now(mua.ServerChange{Incoming: "127.0.0.1:22110", Security: "starttls", OutgoingSecurity: "tls"})
	if a.Incoming.Accepted == "" || a.Incoming.Port != 22110 || a.Incoming.Security != clientconfig.StartTLS || a.Outgoing.Security != clientconfig.TLS {
		t.Errorf("another port: %+v %+v", a.Incoming, a.Outgoing)
	}
	if a = now(mua.ServerChange{OutgoingSecurity: "starttls"}); a.Outgoing.Security != clientconfig.StartTLS || a.Outgoing.Port != 9 {
		t.Errorf("security alone: %+v", a.Outgoing)
	}
	if a = now(mua.ServerChange{Incoming: "127.0.0.2:22110"}); a.Incoming.Accepted != "" || a.Outgoing.Accepted == "" {
		t.Errorf("another host: %+v %+v", a.Incoming, a.Outgoing)
	}
	for flag, c := range map[string]mua.ServerChange{"--accept": {Accept: "abc"}, "--accept-outgoing": {AcceptOutgoing: strings.Repeat("z", 64)}} {
		if err := h.desk("", false).Server(t.Context(), "", c); !errors.Is(err, mua.ErrUsage) || strings.Count(err.Error(), "64 hexadecimal") != 1 || !strings.Contains(err.Error(), flag+" ") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// TestFoldersOfARemovedAccountGo lists two accounts' folders, then one's.
func TestFoldersOfARemovedAccountGo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, who := range []string{"ala", "ewa"} {
		h.must(h.desk(saved(t, who+"@house.example"), false).AccountAdd(t.Context()))
	}
	h.must(h.desk("", false).Folders(t.Context()))
	if n := strings.Count(h.out.String(), "ewa@house.example"); n == 0 {
		t.Fatalf("no folders: %s", &h.out)
	}
	h.must(h.desk("", false).Remove(t.Context(), "ewa", false))
	for _, asJSON := range []bool{false, true} {
		h.must(h.desk("", asJSON).Folders(t.Context()))
		if out := h.out.String(); strings.Contains(out, "removed") || !strings.Contains(out, "ala@house.example") {
			t.Errorf("json %v: %s", asJSON, out)
		}
	}
	if err := h.desk("", false).Remove(t.Context(), "ewa", false); err == nil || err.Error() != fmt.Sprintf("%q: %v", "ewa", profile.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

// TestOutboxNamesTheAccount lists as JSON by address, as all other lists do; and with two accounts
// it is said how one is named.
func TestOutboxNamesTheAccount(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.must(h.desk(saved(t, "ala@house.example"), false).AccountAdd(t.Context()))
	text := "At one?"
	w := mua.Writing{To: []string{"ola@house.example"}, Subject: "Lunch", Text: &text, Wait: time.Hour, Unchecked: true}
	h.must(h.desk("", false).Send(t.Context(), w))
	h.must(h.desk("", true).Outgoing(t.Context()))
	var rows []map[string]any
	h.must(json.Unmarshal(h.out.Bytes(), &rows))
	if len(rows) != 1 || rows[0]["account"] != "ala@house.example" || rows[0]["subject"] != "Lunch" {
		t.Errorf("outbox: %s", &h.out)
	}
	h.must(h.desk(saved(t, "ewa@house.example"), false).AccountAdd(t.Context()))
	if err := h.desk("", false).Send(t.Context(), w); !errors.Is(err, profile.ErrNotFound) || err.Error() != "there are 2 accounts; name one with --from: ala@house.example, ewa@house.example" {
		t.Errorf("from nobody: %v", err)
	}
}
