package objects

import (
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"golang.org/x/sync/errgroup"
)

// bucket is a store in a bucket of S3, below a prefix.
type bucket struct {
	client *minio.Core
	name   string
	prefix string // of the keys; with a slash at its end unless it is empty
	delay  time.Duration
}

const (
	// attempts are how often a request is made, and how often in a row a download breaks off without having brought
	// enough, before it is given up.
	attempts = 6
	enough   = 1 << 20
	// stall is how long a connection may stand still.
	stall = time.Minute
	// partSize is that of the parts in which large objects are sent, of which there may be mostParts.
	partSize  = 16 << 20
	mostParts = 10_000
	// sumKey is the metadata that holds an object's SHA-256.
	sumKey = "Sha256"
)

// openBucket opens s3://BUCKET/PREFIX with what the environment says, as other programs read it: AWS_ENDPOINT_URL_S3 or
// AWS_ENDPOINT_URL (without: Amazon's), AWS_REGION, AWS_ACCESS_KEY_ID and so on or ~/.aws/credentials, or in a
// container the role that it was given. Without any of these requests are not signed.
func openBucket(text string) (Store, error) {
	name, prefix, _ := strings.Cut(strings.TrimPrefix(text, Scheme), "/")
	if err := s3utils.CheckValidBucketName(name); err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	if prefix = strings.TrimSuffix(prefix, "/"); prefix != "" {
		if err := checkName(prefix); err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		prefix += "/"
	}
	endpoint := cmp.Or(os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), "https://s3.amazonaws.com")
	at, err := url.Parse(endpoint)
	if strings.Contains(endpoint, "@") { // what stands before it may be a password, and would not be used
		return nil, errors.New("AWS_ENDPOINT_URL has an @: want https://HOST[:PORT]; keys are in " +
			"AWS_ACCESS_KEY_ID and so on")
	}
	if err != nil || at.Scheme != "https" && at.Scheme != "http" || at.Host == "" || strings.Trim(at.Path, "/") != "" {
		return nil, fmt.Errorf("AWS_ENDPOINT_URL %q: want https://HOST[:PORT]", endpoint)
	}
	providers := []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}}
	if os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE")+os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")+
		os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != "" { // elsewhere it would wait for what is not there
		providers = append(providers, &credentials.IAM{Client: &http.Client{Timeout: stall}})
	}
	transport, err := minio.DefaultTransport(at.Scheme == "https")
	if err != nil {
		return nil, err
	}
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return moving{c, stall}, nil
	}
	client, err := minio.NewCore(at.Host, &minio.Options{
		Creds: credentials.NewChainCredentials(providers), Secure: at.Scheme == "https", Transport: transport,
		Region: cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")), MaxRetries: 1,
	})
	if err != nil {
		return nil, err
	}
	client.SetAppInfo("ctnas", "1")
	return &bucket{client, name, prefix, 200 * time.Millisecond}, nil
}

// moving is a connection that ends where nothing moves for a while.
type moving struct {
	net.Conn
	stall time.Duration
}

func (c moving) Read(p []byte) (int, error) {
	_ = c.SetDeadline(time.Now().Add(c.stall)) // of a connection that is closed: the read says it
	return c.Conn.Read(p)
}

func (c moving) Write(p []byte) (int, error) {
	_ = c.SetDeadline(time.Now().Add(c.stall))
	return c.Conn.Write(p)
}

func (b *bucket) String() string { return strings.TrimSuffix(Scheme+b.name+"/"+b.prefix, "/") }

// about makes an error name the object, and be fs.ErrNotExist where there is none.
func (b *bucket) about(name string, err error) error {
	if err == nil {
		return nil
	}
	at := Scheme + b.name + "/" + b.prefix + name
	switch minio.ToErrorResponse(err).Code {
	case minio.NoSuchKey:
		return fmt.Errorf("%s: %w", at, fs.ErrNotExist)
	case minio.NoSuchBucket:
		return fmt.Errorf("%s: there is no bucket of this name", at)
	}
	return fmt.Errorf("%s: %w", at, err)
}

// Put sends large objects in parts. Each attempt reads anew: a connection that has ended may still be reading for the
// one before.
func (b *bucket) Put(ctx context.Context, name string, r io.ReaderAt, size int64, sum string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("%v: %w", b, err)
	}
	o := minio.PutObjectOptions{UserMetadata: map[string]string{sumKey: sum}, DisableContentSha256: true} // it is given
	if size <= partSize {
		return b.about(name, b.again(ctx, func() error {
			part, err := newPart(r, 0, size)
			if err == nil {
				_, err = b.client.PutObject(ctx, b.name, b.prefix+name, part.Reader, size, part.MD5, part.SHA256, o)
			}
			return err
		}))
	}
	return b.about(name, b.putParts(ctx, b.prefix+name, r, size, o))
}

// part is one of what is sent, with the checksums by which the server refuses what was damaged on its way.
type part struct {
	io.Reader
	MD5, SHA256 string // in base64, and in hexadecimal
}

func newPart(r io.ReaderAt, at, size int64) (part, error) {
	one, other := md5.New(), sha256.New()
	if n, err := io.Copy(io.MultiWriter(one, other), io.NewSectionReader(r, at, size)); err != nil {
		return part{}, writing{err}
	} else if n != size {
		return part{}, writing{io.ErrUnexpectedEOF}
	}
	return part{io.NewSectionReader(r, at, size), base64.StdEncoding.EncodeToString(one.Sum(nil)),
		hex.EncodeToString(other.Sum(nil))}, nil
}

// partsAtOnce is how many parts are on their way together.
const partsAtOnce = 4

func (b *bucket) putParts(ctx context.Context, key string, r io.ReaderAt, size int64, o minio.PutObjectOptions) (
	err error) {
	var id string
	if err := b.again(ctx, func() (err error) {
		id, err = b.client.NewMultipartUpload(ctx, b.name, key, o)
		return err
	}); err != nil {
		return err
	}
	defer func() {
		if err != nil { // parts that belong to nothing would be paid for
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			_ = b.client.AbortMultipartUpload(ctx, b.name, key, id)
		}
	}()
	length := max(partSize, (size+mostParts-1)/mostParts)
	parts := make([]minio.CompletePart, (size+length-1)/length)
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(partsAtOnce)
	for i := range parts {
		at := int64(i) * length
		n := min(length, size-at)
		g.Go(func() error {
			return b.again(within, func() error {
				p, err := newPart(r, at, n)
				if err != nil {
					return err
				}
				sent, err := b.client.PutObjectPart(within, b.name, key, id, i+1, p.Reader, n,
					minio.PutObjectPartOptions{Md5Base64: p.MD5, Sha256Hex: p.SHA256, DisableContentSha256: true})
				parts[i] = minio.CompletePart{PartNumber: i + 1, ETag: sent.ETag}
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return b.again(ctx, func() error {
		_, err := b.client.CompleteMultipartUpload(ctx, b.name, key, id, parts, o)
		if err == nil {
			return nil
		}
		// The answer may have been lost.
		there, lost := b.client.StatObject(ctx, b.name, key, minio.StatObjectOptions{})
		if lost == nil && there.Size == size && there.UserMetadata[sumKey] == o.UserMetadata[sumKey] {
			return nil
		}
		return err
	})
}

// again does something until it succeeds, or another attempt would be of no use.
func (b *bucket) again(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if err == nil || n == attempts || permanent(ctx, err) {
			return err
		}
		if err := pause(ctx, b.delay<<(n-1)); err != nil {
			return err
		}
	}
}

// Get goes on where a connection broke off, and checks the whole.
func (b *bucket) Get(ctx context.Context, name string, w io.Writer) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("%v: %w", b, err)
	}
	d := &download{whole: sha256.New(), other: md5.New(), size: -1}
	for left := attempts; ; {
		before := d.at
		err := d.rest(ctx, b, name, w)
		if err == nil {
			return b.about(name, d.verify())
		}
		if d.at-before >= enough {
			left = attempts
		}
		if left--; left <= 0 || permanent(ctx, err) {
			return b.about(name, err)
		}
		if err := pause(ctx, b.delay<<(attempts-left-1)); err != nil {
			return err
		}
	}
}

// pause waits for some three quarters of a time, at most five seconds.
func pause(ctx context.Context, d time.Duration) error {
	d = min(d, 5*time.Second)
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writing is an error of this side: of whoever takes a download, or gives what is stored.
type writing struct{ error }

func (w writing) Unwrap() error { return w.error }

// permanent tells whether another attempt would end the same way.
func permanent(ctx context.Context, err error) bool {
	var ours writing
	status := minio.ToErrorResponse(err).StatusCode
	return ctx.Err() != nil || errors.As(err, &ours) ||
		status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
}

// download is an object on its way.
type download struct {
	at, size     int64 // size is -1 before the first answer
	etag, sum    string
	plain        bool // the entity tag is the MD5
	whole, other hash.Hash
}

// rest gets what is missing.
func (d *download) rest(ctx context.Context, b *bucket, name string, w io.Writer) error {
	if d.at == d.size {
		return nil
	}
	o := minio.GetObjectOptions{}
	if d.at > 0 {
		if err := errors.Join(o.SetRange(d.at, 0), o.SetMatchETag(d.etag)); err != nil {
			return err
		}
	}
	body, info, header, err := b.client.GetObject(ctx, b.name, b.prefix+name, o)
	if err != nil {
		return err
	}
	defer body.Close()
	if info.Size < 0 {
		return writing{errors.New("the server does not say how large it is")}
	}
	if d.size < 0 {
		d.size, d.etag, d.sum = info.Size, info.ETag, info.UserMetadata[sumKey]
		tag, err := hex.DecodeString(info.ETag) // that of an object in parts ends in their number
		d.plain = err == nil && len(tag) == md5.Size &&
			!strings.Contains(header.Get("X-Amz-Server-Side-Encryption"), "kms") &&
			header.Get("X-Amz-Server-Side-Encryption-Customer-Algorithm") == ""
	} else if info.ETag != d.etag || info.Size != d.size-d.at {
		return writing{errors.New("it was changed while it was read")}
	}
	n, err := io.Copy(to{io.MultiWriter(d.whole, d.other, w)}, io.LimitReader(body, d.size-d.at))
	if d.at += n; err == nil && d.at < d.size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// to is a writer whose errors are told from those of what is read.
type to struct{ w io.Writer }

func (t to) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	if err != nil {
		err = writing{err}
	}
	return n, err
}

// verify compares the whole with the checksum that it was stored with, or that the server has.
func (d *download) verify() error {
	if got := hex.EncodeToString(d.whole.Sum(nil)); d.sum != "" && got != d.sum {
		return fmt.Errorf("it is damaged: its SHA-256 is %s, and was %s when it was stored", got, d.sum)
	}
	if got := hex.EncodeToString(d.other.Sum(nil)); d.sum == "" && d.plain && got != d.etag {
		return fmt.Errorf("it was damaged on its way: its MD5 is %s, the server's %s", got, d.etag)
	}
	return nil
}

func (b *bucket) List(ctx context.Context, prefix string) (all []Object, err error) {
	err = b.again(ctx, func() error {
		all, err = b.list(ctx, prefix)
		return err
	})
	return all, b.about(prefix, err)
}

func (b *bucket) list(ctx context.Context, prefix string) (all []Object, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for o := range b.client.Client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix + prefix,
		Recursive: true}) {
		if o.Err != nil {
			return nil, o.Err
		}
		if name := strings.TrimPrefix(o.Key, b.prefix); !strings.HasSuffix(name, "/") { // which stands for a folder
			all = append(all, Object{name, o.Size, o.LastModified})
		}
	}
	slices.SortFunc(all, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	return all, ctx.Err()
}

func (b *bucket) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("%v: %w", b, err)
	}
	return b.about(name, b.again(ctx, func() error {
		return b.client.RemoveObject(ctx, b.name, b.prefix+name, minio.RemoveObjectOptions{})
	}))
}
