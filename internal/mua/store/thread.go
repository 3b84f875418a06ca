package store

import (
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
)

// A thread is what is connected: letters to the Message-IDs that they bear or name in References
// and In-Reply-To (RFC 5322 §3.6.4), and replies without either to what their subject says. Both are facts of letters
// and of pairs of letters, so that the threads do not depend on the order in which letters come.

// subjectWindow is how long after a letter a reply to it that names none may be written.
const subjectWindow = 30 * 24 * time.Hour

// maxAlike bounds the letters of one subject that a reply is compared with.
const maxAlike = 200

// threadKeys are the hashes of a letter's Message-IDs, each once.
func threadKeys(h *header) []int64 {
	var keys []int64
	if h.messageID != "" {
		keys = append(keys, hash64("id", h.messageID))
	}
	for _, id := range h.references {
		if k := hash64("id", id); !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// join finds the thread of a letter that is to be inserted and makes one of all that it connects.
func (in *entering) join(r *row) (int64, error) {
	threads := make([]int64, 0, 4)
	for _, k := range r.keys {
		if t, there := in.known[k]; there {
			threads = append(threads, t)
		}
	}
	if r.base != 0 && (r.orphan || in.orphans[r.base]) {
		var err error
		if threads, err = alike(in.tx, r, threads); err != nil {
			return 0, err
		}
	}
	thread, err := in.unite(threads)
	if err != nil {
		return 0, err
	}
	if thread == 0 {
		thread = r.id
	}
	if r.orphan {
		in.orphans[r.base] = true
	}
	for _, k := range r.keys {
		if _, there := in.known[k]; there {
			continue
		}
		in.known[k] = thread
		if _, err := in.tx.Exec(`INSERT INTO thread_key (key, thread) VALUES (?, ?) ON CONFLICT (key) DO NOTHING`, k, thread); err != nil {
			return 0, err
		}
	}
	return thread, nil
}

// keysAtOnce is how many keys one statement names.
const keysAtOnce = 64

// What is asked of many keys; one text each, so that one statement is prepared.
var (
	keysHere = `IN (` + strings.Repeat("?, ", keysAtOnce-1) + `?)`
	keyIn    = `SELECT key, thread FROM thread_key WHERE key ` + keysHere
	orphanIn = `SELECT DISTINCT base, 1 FROM letter INDEXED BY letter_orphan WHERE orphan = 1 AND base ` + keysHere
)

// lookUp asks query of all keys and returns what it answers.
func lookUp(tx db.Tx, query string, keys []int64) (map[int64]int64, error) {
	slices.Sort(keys)
	keys = slices.Compact(keys)
	found := make(map[int64]int64)
	args := make([]any, keysAtOnce)
	for chunk := range slices.Chunk(keys, keysAtOnce) {
		for i := range args {
			args[i] = chunk[min(i, len(chunk)-1)]
		}
		rows, err := tx.Query(query, args...)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var key, value int64
			if err := rows.Scan(&key, &value); err != nil {
				return nil, err
			}
			found[key] = value
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
		if err := rows.Close(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// alike adds the threads of letters that a reply without references answers, and of such
// replies that answer this letter. The author of the one must be among the recipients of the other:
// letters that share nothing but a subject stay apart (with more care than RFC 5256 §3 takes).
func alike(tx db.Tx, r *row, threads []int64) ([]int64, error) {
	window := subjectWindow.Microseconds()
	date := db.Micros(r.date)
	if r.orphan {
		found, err := alikeRows(tx, `SELECT thread, sender, recipients FROM letter WHERE base = ? AND base <> 0 AND date BETWEEN ? AND ? ORDER BY date DESC LIMIT ?`,
			r.base, date-window, date)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if overlap(f.from, r.head.to) {
				threads = append(threads, f.thread)
			}
		}
	}
	found, err := alikeRows(tx, `SELECT thread, sender, recipients FROM letter WHERE base = ? AND orphan = 1 AND date BETWEEN ? AND ? ORDER BY date LIMIT ?`,
		r.base, date, date+window)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if overlap(r.head.from, f.to) {
			threads = append(threads, f.thread)
		}
	}
	return threads, nil
}

// alikeRow is a letter of the same subject.
type alikeRow struct {
	thread   int64
	from, to []Address
}

func alikeRows(tx db.Tx, query string, base, from, to int64) ([]alikeRow, error) {
	rows, err := tx.Query(query, base, from, to, int64(maxAlike))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []alikeRow
	for rows.Next() {
		var r alikeRow
		var sender, recipients string
		if err := rows.Scan(&r.thread, &sender, &recipients); err != nil {
			return nil, err
		}
		r.from, r.to = unpackPeople(sender), unpackPeople(recipients)
		all = append(all, r)
	}
	return all, rows.Err()
}

// overlap reports whether somebody is in both.
func overlap(a, b []Address) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Address != "" && strings.EqualFold(x.Address, y.Address) {
				return true
			}
		}
	}
	return false
}

// unite makes one thread of several, the oldest, and returns it; 0 for none.
func (in *entering) unite(threads []int64) (int64, error) {
	if len(threads) == 0 {
		return 0, nil
	}
	slices.Sort(threads)
	threads = slices.Compact(threads)
	for _, t := range threads[1:] {
		for _, q := range []string{`UPDATE letter SET thread = ? WHERE thread = ?`, `UPDATE thread_key SET thread = ? WHERE thread = ?`} {
			if _, err := in.tx.Exec(q, threads[0], t); err != nil {
				return 0, err
			}
		}
	}
	if len(threads) > 1 {
		for k, t := range in.known {
			if slices.Contains(threads[1:], t) {
				in.known[k] = threads[0]
			}
		}
	}
	return threads[0], nil
}
