// Package mortal runs a test's own program once more, as a process that may be killed at any
// instant. The program's TestMain finds out by its environment that it is meant.
package mortal

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// Run starts the program with the variables added to its environment, kills it after a while, and
// reports whether it had ended by itself before. Ending by itself with an error fails the test.
func Run(t testing.TB, wait time.Duration, variables ...string) bool {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), variables...)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the process: %v", err)
		}
		return true
	case <-time.After(wait):
	}
	if err := c.Process.Kill(); err != nil {
		t.Log(err)
	}
	return <-ended == nil
}
