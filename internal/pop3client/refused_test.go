package pop3client_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"poczta.example/poczta/internal/pop3client"
)

// TestManyRefusals: a server that refuses each of many deletions at length costs a number for each, and
// the words of the first ones. Alone in its process' memory, so not parallel.
func TestManyRefusals(t *testing.T) {
	const many = 50_000
	conn := &flood{lines: lines{replies: []string{"+OK\r\n", multi("PIPELINING")}}, message: "-ERR [IN-USE] " + strings.Repeat("no such message ", 25) + "\r\n"}
	s, err := pop3client.Open(t.Context(), conn, pop3client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	numbers := make([]int, many)
	for i := range numbers {
		numbers[i] = 3*i + 1
	}
	held := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := held()
	err = s.Delete(t.Context(), numbers)
	grown := held() - before
	t.Logf("%d refusals hold %d KiB", many, grown>>10)
	refused, ok := errors.AsType[*pop3client.Refused](err)
	if !ok || len(refused.Numbers) != many || refused.Numbers[many-1] != 3*many-2 || len(refused.First) != pop3client.MaxRefusals || !s.Usable() {
		t.Fatalf("refused: %.200s", err)
	}
	if !strings.HasPrefix(err.Error(), "50000 messages refused, the first at DELE 1: ") || pop3client.KindOf(err) != pop3client.KindInUse {
		t.Errorf("it says %.200s, of kind %v", err, pop3client.KindOf(err))
	}
	if grown > 4<<20 { // the numbers have half a MiB
		t.Errorf("%d refusals hold %d KiB", many, grown>>10)
	}
	runtime.KeepAlive(numbers)
}
