package admin_test

import (
	"errors"
	"strings"
	"testing"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
)

// TestAccountRemoveAgain has the removal of an account fail half-way: it can be given again, and no mail is left.
func TestAccountRemoveAgain(t *testing.T) {
	t.Parallel()
	o := newStore(t, "", "example.org")
	ctx := t.Context()
	made := must(o.Accounts.Add(ctx, account.NewAccount{Address: must(address.Parse("ala@example.org"))(t), Password: "correct horse"}))(t)
	text := "Subject: x\r\n\r\nx\r\n"
	staged := must(o.Body.Stage(ctx, int64(len(text))))(t)
	defer staged.Discard()
	must(staged.Write([]byte(text)))(t)
	must(o.Mailboxes.Append(ctx, made.ID, made.Login, []mailbox.Import{{Mailbox: mailbox.Inbox, Staged: staged}}))(t)
	do := func(query string) {
		t.Helper()
		o.must(o.DB.Update(ctx, func(tx db.Tx) error {
			_, err := tx.Exec(query)
			return err
		}))
	}

	do(`CREATE TRIGGER fail BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'the disk is tired'); END`)
	if err := o.desk.AccountRemove(ctx, "ala@example.org", false); err == nil || !strings.Contains(err.Error(), "tired") {
		t.Fatalf("removed: %v", err)
	}
	do(`DROP TRIGGER fail`)
	o.must(o.desk.AccountRemove(ctx, "ala@example.org", false))
	if use := must(o.Mailboxes.Usage(ctx, made.ID))(t); use.Messages != 0 {
		t.Errorf("%d messages are left", use.Messages)
	}
	if _, err := o.Accounts.Get(ctx, "ala@example.org"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("the account is there: %v", err)
	}
}
