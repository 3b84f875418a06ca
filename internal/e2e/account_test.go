package e2e_test

import "testing"

// TestPasswordChangesUnderSessions: sessions that were opened with the old
// password delete and send nothing any more; nor do those of a disabled account.
func TestPasswordChangesUnderSessions(t *testing.T) {
	t.Parallel()
	s := setup(t, plaintext)
	s.start()
	login, secret := "ala@"+domain, password
	deliver(t, s, "stays")
	for _, step := range []struct {
		change func()
		undo   func()
	}{
		{func() { secret = "Another-Secret-8"; s.run(secret+"\n", "account", "password", login) }, func() {}},
		{func() { s.run("", "account", "disable", login) }, func() { s.run("", "account", "enable", login) }},
	} {
		pop := dial(t, s.addr(110))
		pop.expect("+OK")
		pop.say("USER "+login, "+OK")
		pop.say("PASS "+secret, "+OK")
		pop.say("DELE 1", "+OK")
		smtp := dial(t, s.addr(587))
		smtp.expect("220")
		smtp.say("EHLO client.test", "250")
		smtp.say("AUTH PLAIN "+plain(login, secret), "235")
		step.change()
		pop.say("QUIT", "-ERR [AUTH]")
		smtp.say("MAIL FROM:<"+login+">", "421 4.7.0")
		for _, c := range []*client{pop, smtp} {
			if _, err := c.r.ReadByte(); err == nil {
				t.Error("the connection is open")
			}
		}
		step.undo()
	}
	if got := pop3List(t, s.addr(110), login, secret, "LIST"); len(got) != 1 {
		t.Errorf("got %q, want the message", got)
	}
}
