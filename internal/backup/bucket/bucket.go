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
	"time"

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
	// Patience is how long a request may stand still, with all its tries; 0 is two minutes.
	Patience time.Duration
}

// attempts is how often what was cut in the middle of an answer is asked for again. The
// library tries again by itself what fails before an answer, or with 500 to 504.
const attempts = 4

// Target is a backup.Target in a bucket. Safe for concurrent use. An object is there
// whole or not at all, as S3 promises, and a listing shows what was put before.
type Target struct {
	client   *minio.Client
	bucket   string
	prefix   string
	patience time.Duration
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
	if c.Patience <= 0 {
		c.Patience = 2 * time.Minute
	}
	return &Target{client: client, bucket: c.Bucket, prefix: prefix, patience: c.Patience}, nil
}

// errSlow: the server did not answer in time.
var errSlow = errors.New("the S3 server does not answer, or too slowly")

// patient ends a request that stands still: for as long as Patience from its begin, or since alive
// was called last.
func (t *Target) patient(ctx context.Context) (_ context.Context, alive, cancel func()) {
	ctx, stop := context.WithCancelCause(ctx)
	watch := time.AfterFunc(t.patience, func() { stop(errSlow) })
	return ctx, func() { watch.Reset(t.patience) }, func() { watch.Stop(); stop(nil) }
}

// watched tells that a transfer goes on.
type watched struct {
	*bytes.Reader
	alive func()
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	w.alive()
	return w.Reader.Read(p[:min(len(p), transferStep)])
}

// transferStep is how many octets move at once, so that a slow line is seen to be alive.
const transferStep = 32 << 10

// because names the reason of a request that was ended by patient.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errSlow) {
		return cause
	}
	return err
}

// Put implements backup.Target.
func (t *Target) Put(ctx context.Context, name string, data []byte) error {
	return t.put(ctx, name, data, minio.PutObjectOptions{})
}

// Create implements backup.Target by a conditional PUT (If-None-Match). Servers that
// ignore the condition are found out by a look before.
func (t *Target) Create(ctx context.Context, name string, data []byte) error {
	looking, _, cancel := t.patient(ctx)
	defer cancel()
	_, err := t.client.StatObject(looking, t.bucket, t.prefix+name, minio.StatObjectOptions{})
	if err = because(looking, err); err == nil {
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
	ctx, alive, cancel := t.patient(ctx)
	defer cancel()
	_, err := t.client.PutObject(ctx, t.bucket, t.prefix+name, &watched{bytes.NewReader(data), alive}, int64(len(data)), opts)
	if err != nil {
		return fmt.Errorf("store %s: %w", name, explain(because(ctx, err)))
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
	var octets []byte
	for range attempts {
		var cut bool
		if octets, cut, err = t.get(ctx, name, opts); !cut || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return octets, nil
}

// get is one try of Get; cut reports that the answer ended in its middle.
func (t *Target) get(ctx context.Context, name string, opts minio.GetObjectOptions) (octets []byte, cut bool, err error) {
	ctx, alive, cancel := t.patient(ctx)
	defer cancel()
	core := minio.Core{Client: t.client}
	body, _, _, err := core.GetObject(ctx, t.bucket, t.prefix+name, opts)
	if err != nil {
		if err = explain(because(ctx, err)); errors.Is(err, errRange) {
			return nil, false, nil // the object ends before
		}
		return nil, false, err
	}
	defer body.Close()
	var all bytes.Buffer
	for err == nil {
		alive()
		_, err = io.CopyN(&all, body, transferStep)
	}
	if errors.Is(err, io.EOF) {
		return all.Bytes(), false, nil
	}
	return nil, ctx.Err() == nil, because(ctx, err)
}

// List implements backup.Target. A list that is cut goes on behind the last object.
func (t *Target) List(ctx context.Context, prefix string, fn func(backup.Object) error) error {
	last := ""
	for try := 1; ; try++ {
		before := last
		err := t.list(ctx, prefix, &last, fn)
		var failed *listError
		if err == nil || !errors.As(err, &failed) {
			return err
		}
		if last != before {
			try = 1
		}
		if try >= attempts || ctx.Err() != nil || errors.Is(err, errSlow) || minio.ToErrorResponse(failed.err).StatusCode != 0 {
			return fmt.Errorf("list %s: %w", prefix, explain(failed.err))
		}
	}
}

// listError is an error of the server's, not of who looks at the list.
type listError struct{ err error }

func (e *listError) Error() string { return e.err.Error() }
func (e *listError) Unwrap() error { return e.err }

// list lists what follows last, which it moves on.
func (t *Target) list(ctx context.Context, prefix string, last *string, fn func(backup.Object) error) error {
	ctx, alive, cancel := t.patient(ctx)
	defer cancel() // ends the library's goroutine when fn fails
	opts := minio.ListObjectsOptions{Prefix: t.prefix + prefix, Recursive: true, StartAfter: *last}
	for o := range t.client.ListObjectsIter(ctx, t.bucket, opts) {
		if o.Err != nil {
			return &listError{because(ctx, o.Err)}
		}
		alive()
		if err := fn(backup.Object{Name: strings.TrimPrefix(o.Key, t.prefix), Size: o.Size}); err != nil {
			return err
		}
		*last = o.Key
		alive() // fn may have taken its time
	}
	if err := ctx.Err(); err != nil {
		return &listError{because(ctx, err)}
	}
	return nil
}

// Remove implements backup.Target.
func (t *Target) Remove(ctx context.Context, name string) error {
	ctx, _, cancel := t.patient(ctx)
	defer cancel()
	err := explain(because(ctx, t.client.RemoveObject(ctx, t.bucket, t.prefix+name, minio.RemoveObjectOptions{})))
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
