package store

import "context"

// RereadSome is rereadSome.
func (s *Store) RereadSome(ctx context.Context) (int, error) { return s.rereadSome(ctx) }
