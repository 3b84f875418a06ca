package digest

import (
	"fmt"
	"time"

	"poczta.example/poczta/internal/db"
)

// SkipDay notes for every account that it had the digest of now's day
// (in now's location), in the
// caller's transaction: a store that was restored tells nobody at once what they were
// told before.
func SkipDay(tx db.Tx, now time.Time) error {
	y, m, d := now.Date()
	_, err := tx.Exec(`INSERT INTO digest_sent (account, day) SELECT id, CAST(? AS BIGINT) FROM account WHERE id > 0
		ON CONFLICT (account) DO UPDATE SET day = excluded.day`, time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix()/86400)
	if err != nil {
		return fmt.Errorf("skip digests of the day: %w", err)
	}
	return nil
}
