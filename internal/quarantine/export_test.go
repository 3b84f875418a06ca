package quarantine

import "context"

// ExpireLate looks what is set apart, has something happen, and puts what it has seen into retention.
func (r *Room) ExpireLate(ctx context.Context, f Filter, meanwhile func()) (int, error) {
	all, _, err := r.list(ctx, f, "", MaxPage)
	if err != nil {
		return 0, err
	}
	meanwhile()
	return r.expire(ctx, all, "late")
}
