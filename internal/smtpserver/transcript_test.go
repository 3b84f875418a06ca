package smtpserver_test

import (
	"net"
	"testing"

	"poczta.example/poczta/internal/mailtest/transcript"
)

// TestTranscripts runs the golden dialogues in memory, where the peer reads octet
// by octet while idle, and over TCP, where it waits on the descriptor.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	_, client := certificates()
	r := transcript.Runner{TLS: client}
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		r.RunFiles(t, "testdata/*.txt", func(t *testing.T, s *transcript.Script) net.Conn {
			return open(t, configure(t, s.Options)).dial(t)
		})
	})
	t.Run("tcp", func(t *testing.T) {
		t.Parallel()
		r.RunFiles(t, "testdata/*.txt", func(t *testing.T, s *transcript.Script) net.Conn {
			h := open(t, configure(t, s.Options))
			return h.dialTCP(t)
		})
	})
}

// dialTCP connects to the server over loopback.
func (h *house) dialTCP(t testing.TB) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.Serve(t.Context(), l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		_ = l.Close()
		<-done // the test's context has ended, or Shutdown was called
	})
	return c
}
