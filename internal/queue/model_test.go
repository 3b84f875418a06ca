package queue_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

// key names a recipient by its fate, which for remote ones alone is its number.
type key struct {
	id message.ID
	n  int
}

// process is one of the model's processes: a house, and its incarnation now.
type process struct {
	house *posttest.House
	name  string

	mu    sync.RWMutex // written by kill
	node  *queue.Node
	epoch int
}

// world is the model: what was accepted, what was said about it, and who has whom.
type world struct {
	processes []*process

	mu     sync.Mutex
	owner  map[key]*queue.Node // in flight
	dead   map[*queue.Node]bool
	said   map[key]map[trace.State]bool // final results given to Settle
	failed []string
}

func (w *world) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = append(w.failed, fmt.Sprintf(format, args...))
}

// enlist notes jobs in flight: nobody who lives may have them.
func (w *world) enlist(n *queue.Node, jobs []queue.Job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, j := range jobs {
		for _, r := range j.Recipients {
			k := key{j.Message.ID, r.N}
			if o := w.owner[k]; o != nil && !w.dead[o] && !w.dead[n] {
				w.failed = append(w.failed, fmt.Sprintf("recipient %d of %s is in flight twice", r.N, j.Message.ID))
			}
			w.owner[k] = n
		}
	}
}

func (w *world) discharge(n *queue.Node, k key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.owner[k] == n {
		delete(w.owner, k)
	}
}

func modelDestination(r *rand.Rand) string { return fmt.Sprintf("d%d.example", r.IntN(6)) }

// act does one random act of a process.
func (w *world) act(t *testing.T, p *process, r *rand.Rand) error {
	ctx := context.Background()
	q := p.house.Queue
	f := queue.Filter{Destination: modelDestination(r)}
	switch op := r.IntN(40); {
	case op < 12:
		return w.accept(t, p, r)
	case op < 30:
		return w.serve(ctx, p, r)
	case op < 31:
		_, err := q.Hold(ctx, f, "model")
		return err
	case op < 33:
		_, err := q.Release(ctx, f)
		return err
	case op < 34:
		_, err := q.Bounce(ctx, f, "model")
		return err
	case op < 35:
		_, err := q.Retry(ctx, f)
		return err
	case op < 36:
		return q.Suspend(ctx, f.Destination, "model")
	case op < 38:
		_, err := q.Resume(ctx, f.Destination)
		return err
	case op < 39:
		p.house.Clock.Advance(time.Duration(r.IntN(600)) * time.Second)
		return nil
	}
	return w.kill(ctx, t, p)
}

func (w *world) accept(t *testing.T, p *process, r *rand.Rand) error {
	var to []string
	for i := range 1 + r.IntN(4) {
		to = append(to, fmt.Sprintf("r%d@%s", i, modelDestination(r)))
	}
	d := p.house.Delivery(t, posttest.Text("x"), nil, to...)
	d.Envelope.Priority = r.IntN(3)
	w.mu.Lock()
	for i := range to {
		w.said[key{d.ID, i}] = make(map[trace.State]bool)
	}
	w.mu.Unlock()
	return p.house.Post.Accept(context.Background(), d)
}

// serve claims, takes, settles at random and releases, as a relay does.
func (w *world) serve(ctx context.Context, p *process, r *rand.Rand) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	n := p.node
	claims, _, err := n.Claim(ctx, 1+r.IntN(3))
	if err != nil {
		return err
	}
	for _, c := range claims {
		if r.IntN(8) == 0 {
			if err := n.HostDown(ctx, c, p.house.Clock.Now().Add(time.Duration(r.IntN(600))*time.Second), "down"); err != nil {
				return err
			}
			continue
		}
		for range 1 + r.IntN(3) {
			jobs, err := n.Take(ctx, c, 1+r.IntN(20))
			if err != nil {
				return err
			}
			w.enlist(n, jobs)
			if err := w.settle(ctx, p, r, jobs); err != nil {
				return err
			}
		}
		if r.IntN(4) == 0 {
			if err := n.HostUp(ctx, c); err != nil {
				return err
			}
		}
	}
	return n.Release(ctx, claims...)
}

// settle gives random outcomes, or gives jobs back.
func (w *world) settle(ctx context.Context, p *process, r *rand.Rand, jobs []queue.Job) error {
	n := p.node
	var all []queue.Result
	for _, j := range jobs {
		if r.IntN(10) == 0 {
			for _, rc := range j.Recipients {
				w.discharge(n, key{j.Message.ID, rc.N})
			}
			n.Return(j)
			continue
		}
		for _, rc := range j.Recipients {
			o := []queue.Outcome{queue.Relayed, queue.Returned, queue.Dropped, queue.Deferred, queue.Deferred}[r.IntN(5)]
			if rc.State == queue.Returning {
				o = queue.Returned
			}
			now := p.house.Clock.Now()
			all = append(all, queue.Result{ID: j.Message.ID, N: rc.N, Outcome: o, At: now, Next: now.Add(time.Duration(r.IntN(900)) * time.Second), Status: "250 2.0.0 model"})
			if state := map[queue.Outcome]trace.State{queue.Relayed: trace.Relayed, queue.Returned: trace.Bounced, queue.Dropped: trace.Discarded}[o]; state != 0 {
				w.mu.Lock()
				w.said[key{j.Message.ID, rc.N}][state] = true
				w.mu.Unlock()
			}
		}
	}
	for i := range all { // before Settle: once it has settled, another may take
		defer w.discharge(n, key{all[i].ID, all[i].N})
	}
	w.mu.Lock()
	for i := range all {
		if k := (key{all[i].ID, all[i].N}); w.owner[k] == n {
			delete(w.owner, k)
		}
	}
	w.mu.Unlock()
	return n.Settle(ctx, all)
}

// kill ends an incarnation without a word, in the middle of its work, and begins another.
func (w *world) kill(ctx context.Context, t *testing.T, p *process) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	claims, _, err := p.node.Claim(ctx, 2)
	if err != nil {
		return err
	}
	for _, c := range claims {
		jobs, err := p.node.Take(ctx, c, 5)
		if err != nil {
			return err
		}
		w.enlist(p.node, jobs)
	}
	w.mu.Lock()
	w.dead[p.node] = true
	w.mu.Unlock()
	err = p.house.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec("UPDATE node SET until = 1 WHERE name = ?", p.name)
		return err
	})
	if err != nil {
		return err
	}
	p.epoch++
	p.name = fmt.Sprintf("%p %d", p, p.epoch)
	p.node, err = p.house.Queue.Join(ctx, p.name)
	return err
}

// TestModel runs processes at once, each with several workers, and then lets one process
// do what is left without its upkeep: nothing that was announced may be forgotten.
func TestModel(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, posttest.Components(), func(t *testing.T, d db.Database) {
		w := &world{owner: make(map[key]*queue.Node), dead: make(map[*queue.Node]bool), said: make(map[key]map[trace.State]bool)}
		first := posttest.Open(t, d, posttest.Options{})
		nodes := 1
		if d.Engine() == "postgresql" {
			nodes = 3
		}
		for i := range nodes {
			p := &process{name: fmt.Sprint("node", i)}
			p.house = posttest.Open(t, d, posttest.Options{Body: first.Body, Clock: first.Clock, Queue: func(c *queue.Config) { c.ShardOver = 30; c.Shards = 3 }})
			p.node = join(t, p.house, p.name)
			w.processes = append(w.processes, p)
		}
		acts := 120
		if testing.Short() {
			acts = 30
		}
		var wg sync.WaitGroup
		for i, p := range w.processes {
			for k := range 6 / nodes {
				r := rand.New(rand.NewPCG(uint64(i), uint64(k)))
				wg.Go(func() {
					for range acts {
						if err := w.act(t, p, r); err != nil {
							w.fault("%s: %v", p.name, err)
							return
						}
					}
				})
			}
		}
		wg.Wait()
		w.drain(t)
		for _, f := range w.failed {
			t.Error(f)
		}
		w.check(t, first)
	})
}

// drain ends all suspensions and holds and works until nothing is left.
func (w *world) drain(t *testing.T) {
	ctx := t.Context()
	for _, p := range w.processes {
		claim(t, p.node, 0) // announces what the process knows
	}
	p := w.processes[0]
	for _, other := range w.processes[1:] {
		if err := other.node.Leave(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.house.Queue.Release(ctx, queue.Filter{All: true}); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if _, err := p.house.Queue.Resume(ctx, fmt.Sprintf("d%d.example", i)); err != nil {
			t.Fatal(err)
		}
	}
	p.house.Clock.Advance(time.Hour)
	work(t, p.house, p.node, queue.Dropped)
}

// check compares what is stored with what was said.
func (w *world) check(t *testing.T, h *posttest.House) {
	for _, table := range []string{"queued_message", "queued_recipient", "queued_shard", "body"} {
		if got := number(t, h, "SELECT COUNT(*) FROM "+table); got != 0 {
			t.Errorf("%d rows of %s are left", got, table)
		}
	}
	seen := make(map[message.ID]bool)
	for k := range w.said {
		if seen[k.id] {
			continue
		}
		seen[k.id] = true
		found, err := h.Trace.Find(t.Context(), trace.Viewer{Operator: true}, trace.Query{ID: k.id})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found[0].Fates {
			if !f.State.Final() {
				t.Errorf("fate %d of %s is %s", f.N, k.id, f.State)
			} else if f.State != trace.Discarded && !w.said[key{k.id, f.N}][f.State] {
				t.Errorf("fate %d of %s is %s, which nobody said", f.N, k.id, f.State)
			}
		}
	}
	t.Logf("%d messages, %d recipients", len(seen), len(w.said))
}
