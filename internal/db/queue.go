package db

// queue is a first-in, first-out list of waiting callers.
type queue struct {
	jobs []*job
	head int
}

func (q *queue) len() int { return len(q.jobs) - q.head }

func (q *queue) push(j *job) { q.jobs = append(q.jobs, j) }

func (q *queue) peek() *job {
	if q.len() == 0 {
		return nil
	}
	return q.jobs[q.head]
}

// pop takes the first job, or returns nil.
func (q *queue) pop() *job {
	if q.len() == 0 {
		return nil
	}
	j := q.jobs[q.head]
	q.jobs[q.head] = nil
	q.head++
	switch {
	case q.head == len(q.jobs):
		q.jobs, q.head = q.jobs[:0], 0
	case q.head >= 1024 && q.head*2 >= len(q.jobs): // a queue that never empties
		q.jobs = append(q.jobs[:0], q.jobs[q.head:]...)
		q.head = 0
	}
	return j
}
