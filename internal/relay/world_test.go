package relay_test

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/relay"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/smtp"
)

// rowKey names a recipient.
type rowKey struct {
	id message.ID
	n  int
}

// row is a recipient in the fake queue.
type row struct {
	queue.Recipient
	msg    *queue.Message
	dest   *destination
	flying bool
	gone   bool
	fates  []string // what settled it; one in the end
	next   time.Time
	warned int
	log    []string // status of each result
	hosts  []string
	dialog []byte
}

// destination is a host's clock in the fake queue.
type destination struct {
	name     string
	rows     []*row
	leased   bool
	notUntil time.Time
	failures int
	status   string
	ups      int
}

// fakeQueue is a queue in memory with the contract of queue.Node. It checks that contract.
type fakeQueue struct {
	t     testing.TB
	woken chan struct{}

	mu        sync.Mutex
	dests     map[string]*destination
	rows      map[rowKey]*row
	watched   []*row // those of whom a delay may be reported
	due       dueHeap
	invalid   bool
	nodes     int
	flying    int
	mostFly   int
	lines     int
	mostLine  int
	settleErr error // of the next calls of Settle
	errs      int
}

type dueEntry struct {
	at   time.Time
	dest *destination
}

type dueHeap []dueEntry

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, k int) bool { return h[i].at.Before(h[k].at) }
func (h dueHeap) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(dueEntry)) }
func (h *dueHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

func newQueue(t testing.TB) *fakeQueue {
	return &fakeQueue{t: t, woken: make(chan struct{}, 1), dests: make(map[string]*destination), rows: make(map[rowKey]*row)}
}

// put enqueues a message; its recipients are due at once unless they say otherwise.
func (q *fakeQueue) put(m *queue.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if m.Expires.IsZero() {
		m.Expires = m.Queued.Add(queue.DefaultLifetime)
	}
	touched := make(map[*destination]bool)
	for _, r := range m.Recipients {
		name := r.Destination
		if name == "" {
			name = r.ForwardPath[strings.LastIndexByte(r.ForwardPath, '@')+1:]
		}
		d := q.dests[name]
		if d == nil {
			d = &destination{name: name}
			q.dests[name] = d
		}
		if r.State == 0 {
			r.State = queue.Waiting
		}
		facts := *m
		facts.Recipients = nil
		x := &row{Recipient: r, msg: &facts, dest: d, next: m.Queued}
		q.rows[rowKey{m.ID, r.N}] = x
		q.watched = append(q.watched, x)
		d.rows = append(d.rows, x)
		touched[d] = true
	}
	for d := range touched {
		q.schedule(d)
	}
	select {
	case q.woken <- struct{}{}:
	default:
	}
}

// schedule puts a destination into the heap; q.mu is held.
func (q *fakeQueue) schedule(d *destination) {
	var first time.Time
	for _, r := range d.rows {
		if !r.gone && !r.flying && (first.IsZero() || r.next.Before(first)) {
			first = r.next
		}
	}
	if first.IsZero() || d.leased {
		return
	}
	if d.notUntil.After(first) {
		first = d.notUntil
	}
	heap.Push(&q.due, dueEntry{first, d})
}

func (q *fakeQueue) Wake() <-chan struct{} { return q.woken }

func (q *fakeQueue) Join(context.Context, string) (relay.Node, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.nodes++
	q.invalid = false
	return &fakeNode{fakeQueue: q, number: q.nodes}, nil
}

// lose ends the incarnation.
func (q *fakeQueue) lose() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.invalid = true
}

type fakeNode struct {
	*fakeQueue
	number int
}

// Run implements relay.Lease.
func (n *fakeNode) Run(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !n.Valid() {
			return queue.ErrLeaseLost
		}
	}
}

func (n *fakeNode) Valid() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.invalid && n.number == n.nodes
}

func (n *fakeNode) Leave(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.flying != 0 {
		n.t.Errorf("left with %d recipients in flight", n.flying)
	}
	for _, d := range n.dests {
		if d.leased {
			n.t.Errorf("left with destination %s on lease", d.name)
		}
	}
	return nil
}

// reset is what a lost lease does to what was in flight.
func (q *fakeQueue) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flying, q.lines = 0, 0
	for _, r := range q.rows {
		r.flying = false
	}
	for _, d := range q.dests {
		d.leased = false
		q.schedule(d)
	}
}

func (n *fakeNode) Claim(_ context.Context, limit int) (claims []queue.Claim, next time.Time, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.invalid || n.number != n.nodes {
		return nil, time.Time{}, queue.ErrLeaseLost
	}
	now := time.Now()
	for len(claims) < limit && len(n.due) > 0 && !n.due[0].at.After(now) {
		d := heap.Pop(&n.due).(dueEntry).dest
		if d.leased || d.notUntil.After(now) || !d.waiting(now) {
			n.schedule(d)
			if len(n.due) > 0 && n.due[0].dest == d && !n.due[0].at.After(now) {
				heap.Pop(&n.due) // nothing there after all
			}
			continue
		}
		d.leased = true
		n.lines++
		n.mostLine = max(n.mostLine, n.lines)
		claims = append(claims, queue.Claim{Destination: d.name, Failures: d.failures, Status: d.status})
	}
	if len(n.due) > 0 {
		next = n.due[0].at
	}
	return claims, next, nil
}

func (d *destination) waiting(now time.Time) bool {
	return slices.ContainsFunc(d.rows, func(r *row) bool { return !r.gone && !r.flying && !r.next.After(now) })
}

func (n *fakeNode) Take(_ context.Context, c queue.Claim, limit int) ([]queue.Job, error) {
	now := time.Now()
	return n.read(c, limit, func(r *row) bool { return !r.next.After(now) && !r.dest.notUntil.After(now) })
}

func (n *fakeNode) Expired(_ context.Context, c queue.Claim, limit int) ([]queue.Job, error) {
	now := time.Now()
	return n.read(c, limit, func(r *row) bool { return !now.Before(r.msg.Expires) })
}

func (n *fakeNode) read(c queue.Claim, limit int, ok func(*row) bool) ([]queue.Job, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.number != n.nodes {
		return nil, queue.ErrLeaseLost
	}
	var jobs []queue.Job
	at := make(map[message.ID]int)
	for _, r := range n.dests[c.Destination].rows {
		if r.gone || r.flying || limit == 0 || !ok(r) {
			continue
		}
		limit--
		r.flying = true
		n.flying++
		i, there := at[r.msg.ID]
		if !there {
			i = len(jobs)
			at[r.msg.ID] = i
			jobs = append(jobs, queue.Job{Message: *r.msg, Destination: c.Destination})
		}
		jobs[i].Recipients = append(jobs[i].Recipients, r.Recipient)
	}
	n.mostFly = max(n.mostFly, n.flying)
	return jobs, nil
}

func (n *fakeNode) Return(jobs ...queue.Job) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, j := range jobs {
		for _, r := range j.Recipients {
			n.land(n.rows[rowKey{j.Message.ID, r.N}])
		}
	}
}

func (n *fakeNode) land(r *row) {
	if !r.flying {
		n.t.Errorf("recipient %s landed twice", r.ForwardPath)
		return
	}
	r.flying = false
	n.flying--
}

func (n *fakeNode) Release(_ context.Context, claims ...queue.Claim) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.number != n.nodes {
		return queue.ErrLeaseLost
	}
	for _, c := range claims {
		d := n.dests[c.Destination]
		if !d.leased {
			n.t.Errorf("destination %s released twice", d.name)
		}
		d.leased = false
		n.lines--
		live := d.rows[:0]
		for _, r := range d.rows {
			if r.flying {
				n.t.Errorf("destination %s released with a recipient in flight", d.name)
			}
			if !r.gone {
				live = append(live, r)
			}
		}
		d.rows = live
		n.schedule(d)
	}
	return nil
}

func (n *fakeNode) Settle(_ context.Context, results []queue.Result) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.settleErr != nil && n.errs > 0 {
		n.errs--
		return n.settleErr
	}
	for _, r := range results {
		n.apply(r)
	}
	return nil
}

func (n *fakeNode) SettleTx(_ db.Tx, results []queue.Result) (func(), error) {
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, r := range results {
			n.apply(r)
		}
	}, nil
}

func (n *fakeNode) apply(res queue.Result) {
	r := n.rows[rowKey{res.ID, res.N}]
	if res.Outcome == queue.Warned {
		r.warned++
		r.Warned = true
		return
	}
	if n.number != n.nodes {
		return
	}
	n.land(r)
	r.log = append(r.log, res.Outcome.String()+" "+res.Status)
	r.hosts = append(r.hosts, res.Host)
	if res.Dialogue != nil {
		r.dialog = res.Dialogue
	}
	if res.Outcome == queue.Deferred {
		if !res.Next.After(time.Now()) {
			n.t.Errorf("%s is put off until %s, which is over", r.ForwardPath, res.Next)
		}
		r.next = res.Next
		r.Attempts++
		r.LastStatus = res.Status
		return
	}
	if r.gone {
		n.t.Errorf("%s is settled twice", r.ForwardPath)
	}
	r.gone = true
	r.fates = append(r.fates, res.Outcome.String()+" "+res.Status)
}

func (n *fakeNode) HostDown(_ context.Context, c queue.Claim, until time.Time, status string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.dests[c.Destination]
	d.notUntil, d.status = until, status
	d.failures++
	return nil
}

func (n *fakeNode) HostUp(_ context.Context, c queue.Claim) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.dests[c.Destination]
	d.notUntil, d.failures, d.status = time.Time{}, 0, ""
	d.ups++
	return nil
}

func (n *fakeNode) Overdue(_ context.Context, before time.Time, limit int) ([]queue.Job, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var jobs []queue.Job
	live := n.watched[:0]
	for _, r := range n.watched {
		if !r.gone && !r.Warned && r.msg.Ours {
			live = append(live, r)
		}
	}
	n.watched = live
	for _, r := range live {
		if len(jobs) < limit && r.msg.Queued.Before(before) {
			jobs = append(jobs, queue.Job{Message: *r.msg, Recipients: []queue.Recipient{r.Recipient}})
		}
	}
	return jobs, nil
}

// left is how many recipients have no fate.
func (q *fakeQueue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, r := range q.rows {
		if !r.gone {
			n++
		}
	}
	return n
}

// row returns a recipient's row.
func (q *fakeQueue) row(path string) *row {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.rows {
		if r.ForwardPath == path {
			return r
		}
	}
	q.t.Fatalf("no recipient %s", path)
	return nil
}

// fate is the last result of a recipient.
func (q *fakeQueue) fate(path string) string {
	r := q.row(path)
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(r.log) == 0 {
		return "nothing"
	}
	return r.log[len(r.log)-1]
}

// notes are reports that would have been sent.
type notes struct {
	t  testing.TB
	mu sync.Mutex
	// by message and action, each recipient's final address
	sent []note
	err  error // of the next Prepare calls
	errs int
}

type note struct {
	about report.Original
	recs  []dsn.Recipient
}

type noteStaged struct {
	intaketest.Staged
	note note
}

func (n *notes) Prepare(_ context.Context, o report.Original, recs []dsn.Recipient) (*post.Delivery, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.errs > 0 {
		n.errs--
		return nil, n.err
	}
	if o.Content != nil {
		b, err := io.ReadAll(o.Content)
		if err != nil {
			return nil, err
		}
		o.Content = bytes.NewReader(b)
	}
	return &post.Delivery{Staged: &noteStaged{note: note{o, slices.Clone(recs)}}}, nil
}

func (n *notes) Accept(_ context.Context, d *post.Delivery) error {
	n.mu.Lock()
	n.sent = append(n.sent, d.Staged.(*noteStaged).note)
	n.mu.Unlock()
	if d.Within == nil {
		n.t.Error("a report without the fates it tells of")
		return nil
	}
	return d.Within(nil)
}

// all is the reports in short: action, status and address of each recipient.
func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, x := range n.sent {
		var words []string
		for _, r := range x.recs {
			words = append(words, fmt.Sprintf("%s %s %s", r.Action, r.Status, r.Final.Address()))
		}
		out = append(out, strings.Join(words, ", "))
	}
	slices.Sort(out)
	return out
}

// bodies are messages in memory.
type bodies struct {
	mu  sync.Mutex
	all map[message.ID]string
}

func (b *bodies) Open(_ context.Context, id message.ID, from, n int64) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, ok := b.all[id]
	if !ok {
		text = "From: us@here.example\r\nMessage-ID: <" + id.String() + "@here.example>\r\nSubject: x\r\n\r\nHello\r\n"
	}
	if text == "broken" {
		return nil, errors.New("the disk is broken")
	}
	text = text[from:]
	if n >= 0 && n < int64(len(text)) {
		text = text[:n]
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

func (b *bodies) set(id message.ID, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all == nil {
		b.all = make(map[message.ID]string)
	}
	b.all[id] = text
}

// names is DNS: hosts by domain, addresses by host.
type names struct {
	mu    sync.Mutex
	hosts map[string][]string // domain: "mx.example=192.0.2.1,192.0.2.2"
	errs  map[string]*mx.Error
	// secure: DNSSEC vouches for every answer
	secure bool
}

func domainOf(s string) address.Domain {
	d, err := address.ParseDomain(s)
	if err != nil {
		panic(err)
	}
	return d
}

func (n *names) Hosts(_ context.Context, d address.Domain) (mx.Route, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.errs[d.String()]; err != nil {
		return mx.Route{}, err
	}
	list, ok := n.hosts[d.String()]
	if !ok {
		return mx.Route{}, &mx.Error{Domain: d, Reply: smtp.Reply{Code: 550, Subject: 1, Detail: 2, Text: "no such domain"}}
	}
	r := mx.Route{Domain: d, Secure: n.secure}
	for i, spec := range list {
		host, addrs, _ := strings.Cut(spec, "=")
		h := mx.Host{Name: domainOf(host), Preference: uint16(10 * i), Expanded: host, Secure: n.secure}
		for a := range strings.SplitSeq(addrs, ",") {
			h.Addrs = append(h.Addrs, netip.MustParseAddr(a))
		}
		r.Hosts = append(r.Hosts, h)
	}
	return r, nil
}

func (n *names) Addrs(ctx context.Context, d address.Domain) (mx.Route, error) {
	return n.Hosts(ctx, d)
}

// world is a relay with everything around it.
type world struct {
	*fakeQueue
	notes  *notes
	bodies *bodies
	names  *names
	cfg    relay.Config
	hosts  map[string]func() (net.Conn, error) // by address and port
	dialMu sync.Mutex
	dials  map[string]int
	serial int
}

func newWorld(t testing.TB) *world {
	w := &world{fakeQueue: newQueue(t), notes: &notes{t: t}, bodies: &bodies{}, names: &names{hosts: map[string][]string{}, errs: map[string]*mx.Error{}},
		hosts: map[string]func() (net.Conn, error){}, dials: map[string]int{}}
	w.cfg = relay.Config{Queue: w.fakeQueue, Bodies: w.bodies, MX: w.names, Reports: w.notes, Accepter: w.notes, Hello: "here.example", Poll: time.Minute, Dial: w.dial,
		Random: func() float64 { return 0 }}
	return w
}

func (w *world) dial(ctx context.Context, _, addr string, _ netip.Addr) (net.Conn, error) {
	w.dialMu.Lock()
	w.dials[addr]++
	fn := w.hosts[addr]
	w.dialMu.Unlock()
	if fn == nil { // silent
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return fn()
}

// letter makes a message of ours.
func (w *world) letter(to ...string) *queue.Message {
	w.serial++
	m := &queue.Message{Queued: time.Now(), ReversePath: "us@here.example", Ours: true}
	m.ID[15], m.ID[14], m.ID[13] = byte(w.serial), byte(w.serial>>8), byte(w.serial>>16)
	m.ID[0] = 1
	for i, path := range to {
		m.Recipients = append(m.Recipients, queue.Recipient{N: i, Fate: i, ForwardPath: path})
	}
	r, _ := w.bodies.Open(context.Background(), m.ID, 0, -1)
	text, _ := io.ReadAll(r)
	m.Octets = int64(len(text))
	return m
}

// start runs the relay until the test's end or stop.
func (w *world) start(t testing.TB) (stop func()) {
	t.Helper()
	r, err := relay.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
