package outbox_test

import (
	"testing"

	"poczta.example/poczta/internal/mua/outbox"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		r        outbox.Recipient
		language string
		want     string
	}{
		"unknown user":     {outbox.Recipient{State: outbox.Refused, Code: 550, Status: "5.1.1", Reply: "no\nsuch user"}, "en", "There is no such address there. The server said: 550 5.1.1 no such user"},
		"unknown user, pl": {outbox.Recipient{State: outbox.Refused, Code: 550, Status: "5.1.1", Reply: "no such user"}, "pl", "Nie ma tam takiego adresu. Serwer odpowiedział: 550 5.1.1 no such user"},
		"without a status": {outbox.Recipient{State: outbox.Refused, Code: 554, Reply: "go away"}, "", "The server refused it. The server said: 554 go away"},
		"our own words":    {outbox.Recipient{State: outbox.Refused, Status: "5.1.2", Reply: "There is no domain x."}, "", "There is no domain x."},
		"greylisted":       {outbox.Recipient{State: outbox.Waiting, Code: 451, Status: "4.7.1", Reply: "greylisted"}, "en", "The receiving server does not take the message yet. It will be tried again. The server said: 451 4.7.1 greylisted"},
		"offline":          {outbox.Recipient{State: outbox.Waiting}, "pl", "Czeka."},
		"sent":             {outbox.Recipient{State: outbox.Sent, Code: 250}, "", "Your server has taken it."},
	} {
		if got := tt.r.Words(tt.language); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
