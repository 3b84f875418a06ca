package bucket_test

import (
	"os"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

// TestMain shortens the pauses of the library between its tries: a hundred faults would wait for
// minutes otherwise, and say nothing more.
func TestMain(m *testing.M) {
	minio.DefaultRetryUnit, minio.DefaultRetryCap = 5*time.Millisecond, 50*time.Millisecond
	os.Exit(m.Run())
}
