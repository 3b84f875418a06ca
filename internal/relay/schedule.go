package relay

import (
	"errors"
	"fmt"
	"time"
)

// Defaults of a Schedule.
var (
	defaultRetry = []time.Duration{time.Minute, 3 * time.Minute, 7 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour}
	defaultProbe = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, time.Hour}
)

// leastWait is the shortest wait of a schedule.
const leastWait = time.Second

// Schedule says how long to wait after failed attempts. There are two clocks: a
// recipient that its host put off waits by Retry; a host that could not be
// reached is left alone by Probe, and its recipients wait with it. A wait is
// never shorter than the schedule's and at most Jitter longer.
type Schedule struct {
	Retry  []time.Duration // after the first, second … attempt; the last repeats
	Probe  []time.Duration // after the first, second … failed probe; the last repeats
	Jitter float64         // part of a wait by which it may grow at random, 0 to 1; default 0.2
}

func (s *Schedule) fill() {
	if len(s.Retry) == 0 {
		s.Retry = defaultRetry
	}
	if len(s.Probe) == 0 {
		s.Probe = defaultProbe
	}
	if s.Jitter == 0 {
		s.Jitter = 0.2
	}
}

func (s *Schedule) validate() error {
	var errs []error
	for _, list := range [][]time.Duration{s.Retry, s.Probe} {
		for _, w := range list {
			if w < leastWait {
				errs = append(errs, fmt.Errorf("relay: a wait of %v in the schedule is shorter than %v", w, leastWait))
			}
		}
	}
	if s.Jitter < 0 || s.Jitter > 1 {
		errs = append(errs, fmt.Errorf("relay: a jitter of %v is not between 0 and 1", s.Jitter))
	}
	return errors.Join(errs...)
}

// RetryAfter is the wait of a recipient after so many failed attempts, at least
// one. random is from [0, 1).
func (s *Schedule) RetryAfter(attempts int, random float64) time.Duration {
	return s.wait(s.Retry, attempts, random)
}

// ProbeAfter is the wait of a host after so many failed probes, at least one.
func (s *Schedule) ProbeAfter(failures int, random float64) time.Duration {
	return s.wait(s.Probe, failures, random)
}

func (s *Schedule) wait(list []time.Duration, n int, random float64) time.Duration {
	w := list[min(max(n, 1), len(list))-1]
	return w + time.Duration(float64(w)*s.Jitter*random)
}
