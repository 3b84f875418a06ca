package receive_test

import (
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
		return memconn.Serve(t, server.Serve)
	})
}
