package mua_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/profile"
)

// TestArchiveBesideAnAccount: who has both answers old letters from the account, which is meant
// wherever servers are; the archive stands in nobody's way.
func TestArchiveBesideAnAccount(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	h := newHouse(t)
	old := filepath.Join(t.TempDir(), "old.mbox")
	h.must(os.WriteFile(old, []byte("From ola@example.org Mon Nov 23 10:00:00 2009\nFrom: Ola <ola@example.org>\nSubject: Lunch\nMessage-ID: <lunch@example.org>\n\nsoup\n\n"), 0o600))
	h.must(h.desk("", false).Import(ctx, mua.ImportFrom{Path: old}))
	server := func(p clientconfig.Protocol) profile.Server {
		return profile.Server{Server: clientconfig.Server{Protocol: p, Host: "127.0.0.1", Port: 1, Security: clientconfig.Plain}, Login: "ala"}
	}
	text, err := json.Marshal(mua.NewAccount{Password: "secret", Account: profile.Account{Address: "ala@house.example", Policy: profile.Policy{Keep: profile.Leave}, Incoming: server(clientconfig.POP3), Outgoing: server(clientconfig.SMTP)}})
	h.must(err)
	h.must(h.desk(string(text), false).AccountAdd(ctx))

	h.must(h.desk("", false).Policy(ctx, "", mua.PolicyChange{}))
	if !strings.HasPrefix(h.out.String(), "ala@house.example: ") {
		t.Errorf("the account that is meant: %s", &h.out)
	}
	body := "As ever."
	h.must(h.desk("", false).Send(ctx, mua.Writing{Reply: "1", Text: &body, Draft: true}))
	drafts := h.rows(mua.Listing{Folder: "Drafts"})
	if len(drafts) != 1 || drafts[0].Account != "ala@house.example" || drafts[0].Subject != "Re: Lunch" || drafts[0].From[0].Address != "ala@house.example" {
		t.Errorf("an answer to an old letter: %+v", drafts)
	}
	if _, err := h.Outbox.Hand(ctx, outbox.Handed{Recipients: []string{"ewa@them.example"}}, strings.NewReader("Subject: cron\n\nx\n")); err != nil {
		t.Errorf("a program's letter: %v", err)
	}
	waiting, err := h.Outbox.List(ctx)
	h.must(err)
	ala, err := h.Accounts.Find(ctx, "ala")
	h.must(err)
	if len(waiting) != 1 || waiting[0].Account != ala.ID {
		t.Errorf("in the outbox: %+v", waiting)
	}
	archive, err := h.Accounts.Find(ctx, mua.FirstArchive)
	h.must(err)
	_, err = h.Outbox.Put(ctx, outbox.Letter{Account: archive.ID, Recipients: []string{"ewa@them.example"}, Message: strings.NewReader("Subject: x\n\nx\n")})
	if !errors.Is(err, profile.ErrArchive) {
		t.Errorf("a letter of an archive: %v", err)
	}
	if _, err := h.Outbox.Hand(ctx, outbox.Handed{Account: mua.FirstArchive, Recipients: []string{"ewa@them.example"}}, strings.NewReader("Subject: x\n\nx\n")); !errors.Is(err, profile.ErrArchive) || !errors.Is(err, outbox.ErrAccount) {
		t.Errorf("a program's letter of an archive: %v", err)
	}
	if err := h.desk("", true).Sync(ctx, nil); err == nil {
		t.Error("nobody listens at the account's server, and the fetch succeeded")
	}
	var synced []mua.SyncRow
	h.must(json.Unmarshal(h.out.Bytes(), &synced))
	if len(synced) != 1 || synced[0].Account != "ala@house.example" {
		t.Errorf("fetched: %+v", synced)
	}
}
