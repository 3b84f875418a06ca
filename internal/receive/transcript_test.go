package receive_test

import (
	"context"
	"net"
	"testing"

	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/mailtest/transcript"
	"poczta.example/poczta/internal/smtpserver"
)

// TestTranscripts runs golden dialogues against the real server with this
// service. Options of a script: lmtp=yes.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	transcript.Runner{}.RunFiles(t, "testdata/*.txt", func(t *testing.T, s *transcript.Script) net.Conn {
		service, _ := newService(t, nil)
		server, err := smtpserver.New(smtpserver.Config{Hostname: "mx.example.org", Service: service, LMTP: s.Options["lmtp"] == "yes"})
		if err != nil {
			t.Fatal(err)
		}
		l := memconn.Listen()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(ctx, l) // ends with the test
		}()
		c, err := l.Dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cancel()
			_ = c.Close()
			_ = l.Close()
			<-done
		})
		return c
	})
}
