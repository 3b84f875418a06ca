package bucket_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"poczta.example/poczta/internal/backup/bucket"
)

// versityProgram finds VersityGW, an S3 server of other people's: POCZTA_VERSITYGW, or
// poczta-versitygw of the user's cache, where make test puts it by go install. Without it the test
// is skipped, or fails where POCZTA_REQUIRE_SERVICES is set.
func versityProgram(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("POCZTA_VERSITYGW")
	if folder == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		folder = filepath.Join(cache, "poczta-versitygw-1.8.0")
	}
	program := filepath.Join(folder, "versitygw")
	if _, err := os.Stat(program); err == nil {
		return program
	}
	if os.Getenv("POCZTA_REQUIRE_SERVICES") != "" {
		t.Fatalf("%s is missing: GOBIN=%s go install github.com/versity/versitygw/cmd/versitygw@v1.8.0", program, folder)
	}
	t.Skipf("no S3 server at %s; make test installs it", program)
	return ""
}

// versity starts VersityGW over a folder.
func versity(t *testing.T) bucket.Config {
	t.Helper()
	program := versityProgram(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for _, name := range []string{"objects", "sidecar"} {
		if err := os.Mkdir(filepath.Join(folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), program, "--port", address, "--access", "accesskey", "--secret", "secretkey", "--region", "us-east-1", "--quiet",
		"posix", "--sidecar", filepath.Join(folder, "sidecar"), filepath.Join(folder, "objects"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // the context of the test has ended it
	client, err := minio.New(address, &minio.Options{Creds: credentials.NewStaticV4("accesskey", "secretkey", ""), Region: "us-east-1", MaxRetries: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for err := client.MakeBucket(ctx, "mail", minio.MakeBucketOptions{}); err != nil; err = client.MakeBucket(ctx, "mail", minio.MakeBucketOptions{}) {
		select {
		case <-ctx.Done():
			t.Fatalf("the S3 server does not answer: %v", err)
		case <-tick.C:
		}
	}
	return bucket.Config{Endpoint: "http://" + address, Bucket: "mail", AccessKey: "accesskey", SecretKey: "secretkey", Region: "us-east-1"}
}
