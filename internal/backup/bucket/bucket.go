// Package bucket keeps backups in a bucket of S3 or of a server that speaks its
// protocol: a backup.Target.
package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"poczta.example/poczta/internal/backup"
)

// Config says which bucket. Bucket is required.
type Config struct {
	// Endpoint is the server, as https://host or http://host:port; "" is Amazon's.
	Endpoint string
	Region   string // "" lets the server say
	Bucket   string // it must exist
	Prefix   string // of all names; a slash is added when it has none
	// AccessKey and SecretKey; empty, they come from the environment (AWS_ACCESS_KEY_ID,
	// AWS_SECRET_ACCESS_KEY), from ~/.aws/credentials, or from the machine's role.
	AccessKey, SecretKey string
	Transport            http.RoundTripper // nil is the library's own
}

// Target is a backup.Target in a bucket. Safe for concurrent use. An object is there
// whole or not at all, as S3 promises, and a listing shows what was put before.
type Target struct {
	client *minio.Client
	bucket string
	prefix string
}

var _ backup.Target = (*Target)(nil)

// defaultEndpoint is Amazon's server.
const defaultEndpoint = "https://s3.amazonaws.com"

// New makes a Target; it does no I/O.
func New(c Config) (*Target, error) {
	if c.Endpoint == "" {
		c.Endpoint = defaultEndpoint
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("S3 endpoint %q: write it as https://host or http://host:port", c.Endpoint)
	}
	if c.Bucket == "" {
		return nil, errors.New("S3: name a bucket")
	}
	creds := credentials.NewStaticV4(c.AccessKey, c.SecretKey, "")
	if c.AccessKey == "" {
		creds = credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{}})
	}
	client, err := minio.New(u.Host, &minio.Options{Creds: creds, Secure: u.Scheme == "https", Region: c.Region, Transport: c.Transport})
	if err != nil {
		return nil, fmt.Errorf("S3 endpoint %q: %w", c.Endpoint, err)
	}
	prefix := strings.Trim(c.Prefix, "/")
	if prefix != "" {
		prefix += "/"
	}
	return &Target{client: client, bucket: c.Bucket, prefix: prefix}, nil
}

// Put implements backup.Target.
func (t *Target) Put(ctx context.Context, name string, data []byte) error {
	return t.put(ctx, name, data, minio.PutObjectOptions{})
}

// Create implements backup.Target by a conditional PUT (If-None-Match). Servers that
// ignore the condition are found out by a look before.
func (t *Target) Create(ctx context.Context, name string, data []byte) error {
	_, err := t.client.StatObject(ctx, t.bucket, t.prefix+name, minio.StatObjectOptions{})
	if err == nil {
		return fmt.Errorf("store %s: %w", name, fs.ErrExist)
	}
	if err = explain(err); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store %s: %w", name, err)
	}
	opts := minio.PutObjectOptions{}
	opts.SetMatchETagExcept("*")
	return t.put(ctx, name, data, opts)
}

func (t *Target) put(ctx context.Context, name string, data []byte, opts minio.PutObjectOptions) error {
	opts.DisableMultipart = true // at most some 17 MiB: one request, there or not
	opts.ContentType = "application/octet-stream"
	_, err := t.client.PutObject(ctx, t.bucket, t.prefix+name, bytes.NewReader(data), int64(len(data)), opts)
	if err != nil {
		return fmt.Errorf("store %s: %w", name, explain(err))
	}
	return nil
}

// Get implements backup.Target.
func (t *Target) Get(ctx context.Context, name string, from, n int64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	opts := minio.GetObjectOptions{}
	var err error
	if n > 0 {
		err = opts.SetRange(from, from+n-1)
	} else if from > 0 {
		err = opts.SetRange(from, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	core := minio.Core{Client: t.client}
	body, _, _, err := core.GetObject(ctx, t.bucket, t.prefix+name, opts)
	if err != nil {
		if err = explain(err); errors.Is(err, errRange) {
			return nil, nil // the object ends before
		}
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// List implements backup.Target.
func (t *Target) List(ctx context.Context, prefix string, fn func(backup.Object) error) error {
	ctx, cancel := context.WithCancel(ctx) // ends the library's goroutine when fn fails
	defer cancel()
	for o := range t.client.ListObjectsIter(ctx, t.bucket, minio.ListObjectsOptions{Prefix: t.prefix + prefix, Recursive: true}) {
		if o.Err != nil {
			return fmt.Errorf("list %s: %w", prefix, explain(o.Err))
		}
		if err := fn(backup.Object{Name: strings.TrimPrefix(o.Key, t.prefix), Size: o.Size}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Remove implements backup.Target.
func (t *Target) Remove(ctx context.Context, name string) error {
	err := explain(t.client.RemoveObject(ctx, t.bucket, t.prefix+name, minio.RemoveObjectOptions{}))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// errRange: the object has no octets there.
var errRange = errors.New("no octets in that range")

// explain gives errors of S3 the names that a Target promises.
func explain(err error) error {
	if err == nil {
		return nil
	}
	switch r := minio.ToErrorResponse(err); {
	case r.Code == "NoSuchKey":
		return fs.ErrNotExist
	case r.Code == "NoSuchBucket":
		return fmt.Errorf("the bucket does not exist: make it first: %w", err)
	case r.Code == "PreconditionFailed" || r.Code == "ConditionalRequestConflict":
		return fs.ErrExist
	case r.Code == "InvalidRange" || r.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return errRange
	case r.StatusCode == http.StatusNotFound:
		return fs.ErrNotExist
	}
	return err
}
