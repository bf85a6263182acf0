package table

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ctnas/ctnas/internal/files"
)

// Remote is a published file.
type Remote struct {
	Name   string
	URL    string
	SHA256 string
}

// Published are the official NAS-Bench-101 files: only108 holds three runs of 108 epochs of every cell, full also 4, 12
// and 36 epochs.
var Published = []Remote{
	{"nasbench_only108.tfrecord", "https://storage.googleapis.com/nasbench/nasbench_only108.tfrecord",
		"4c39c3936e36a85269881d659e44e61a245babcb72cb374eacacf75d0e5f4fd1"},
	{"nasbench_full.tfrecord", "https://storage.googleapis.com/nasbench/nasbench_full.tfrecord",
		"3d64db8180fb1b0207212f9032205064312b6907a3bbc81eabea10db2f5c7e9c"},
}

// Manual is a published file that its authors keep where only a browser gets it: no plain request does, and no SHA-256
// is published.
type Manual struct {
	Name, File  string
	Size        string // as published; empty where it is not
	Page        string // where it is
	Then        string // what is done with it before it is read; empty: nothing
	Space, Read string // whose table it is, and what is read then
}

const drivePage = "https://drive.google.com/file/d/%s/view"

// ByHand are those that users ask for, from the read-me files of github.com/D-X-Y/NAS-Bench-201 and NATS-Bench.
var ByHand = []Manual{
	{Name: "nasbench201", File: "NAS-Bench-201-v1_1-096897.pth", Size: "4.7 GB", Space: "nasbench201",
		Page: fmt.Sprintf(drivePage, "16Y0UwGisiouVRxW-W5hEtbxmcHw_0hF_"), Read: "NAS-Bench-201-v1_1-096897.pth"},
	{Name: "nats-tss", File: "NATS-tss-v1_0-3ffb9-simple.tar", Space: "nasbench201",
		Page: fmt.Sprintf(drivePage, "17_saCsj_krKjlCBLOJEpNtzPXArMCqxU"),
		Then: "tar xf NATS-tss-v1_0-3ffb9-simple.tar", Read: "NATS-tss-v1_0-3ffb9-simple"},
	{Name: "nats-sss", File: "NATS-sss-v1_0-50262-simple.tar", Space: "file:docs/examples/nats-size.yaml",
		Page: fmt.Sprintf(drivePage, "1scOMTUwcQhAMa_IMedp9lTzwmgqHLGgA"),
		Then: "tar xf NATS-sss-v1_0-50262-simple.tar", Read: "NATS-sss-v1_0-50262-simple"},
}

// How says what to do by hand, step by step.
func (m Manual) How() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: Google Drive hands it to browsers only, and no SHA-256 of it is published.\n", m.File)
	size := ""
	if m.Size != "" {
		size = " (" + m.Size + ")"
	}
	fmt.Fprintf(&b, "Download %s%s in a browser from\n  %s\n", m.File, size, m.Page)
	b.WriteString("and then\n")
	if m.Then != "" {
		fmt.Fprintf(&b, "  %s\n", m.Then)
	}
	fmt.Fprintf(&b, "  ctnas table convert %s --space %s -o %s.ctt", m.Read, m.Space, m.Name)
	return b.String()
}

func publishedNames() []string {
	names := make([]string, len(Published))
	for i, p := range Published {
		names[i] = p.Name
	}
	return names
}

// Get downloads a file into a folder, under the last part of the URL's path, and returns its name. An interrupted
// download goes on where it stopped, from the .part file beside it; the file gets its name only when its SHA-256 is the
// one given. A file that is there already is kept: with this SHA-256 it is the result, otherwise an error. progress,
// which may be nil, gets bytes; total is -1 while unknown.
func Get(ctx context.Context, dir, address, sum string, progress func(done, total int64)) (string, error) {
	d := downloader{client: http.DefaultClient, most: maxDownload, pause: time.Second, stall: time.Minute}
	return d.get(ctx, dir, address, sum, progress)
}

// maxDownload bounds a file that is downloaded; the largest published one has 2.0 GB. A server that sends and sends
// must not fill the disk.
const maxDownload = 8 << 30

// attempts is how often in a row a download is taken up again without a byte gained.
const attempts = 5

// downloader holds what tests replace.
type downloader struct {
	client *http.Client
	most   int64         // bytes of a file
	pause  time.Duration // before the second attempt; doubled for each further one
	stall  time.Duration // without a byte, after which an attempt is given up
}

func (d downloader) get(ctx context.Context, dir, address, sum string, progress func(done, total int64)) (string,
	error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("get %s: %w", address, err) }
	if want, err := hex.DecodeString(sum); err != nil || len(want) != sha256.Size {
		return fail(fmt.Errorf("%q is not a SHA-256 in hexadecimal", sum))
	}
	sum = strings.ToLower(sum)
	parsed, err := url.Parse(address)
	if err != nil {
		return fail(err)
	}
	name := path.Base(parsed.Path)
	if name == "." || name == "/" || name == ".." {
		return fail(errors.New("the address names no file"))
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	target := filepath.Join(dir, name)
	if have, err := fileSHA256(target); err == nil {
		if have == sum {
			return target, nil
		}
		return fail(fmt.Errorf("%s is there already with SHA-256 %s, want %s: move it away", target, have, sum))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	if err := files.MkdirAll(dir); err != nil {
		return fail(err)
	}
	lock, err := files.Lock(dir, "table get") // two downloads into one file would both be told that theirs is whole
	if err != nil {
		return fail(err)
	}
	defer func() { _ = lock.Unlock() }()
	part := &partial{path: target + ".part"}
	if err := part.open(); err != nil {
		return fail(err)
	}
	defer part.close()
	for {
		if err := d.complete(ctx, part, address, progress); err != nil {
			return fail(err)
		}
		// What lies there counts, not what came: another program, or the disk, may have changed it meanwhile.
		if err := part.file.Sync(); err != nil {
			return fail(err)
		}
		have, err := fileSHA256(part.path)
		if err != nil {
			return fail(err)
		}
		if have == sum {
			break
		}
		resumed := part.resumed
		if err := part.reset(); err != nil {
			return fail(err)
		}
		if !resumed {
			return fail(fmt.Errorf("SHA-256 of what came is %s, want %s: the download is discarded", have, sum))
		}
		// What an earlier start had left may have been of another file: once more, from the first byte.
	}
	if _, err := os.Lstat(target); err == nil {
		return fail(fmt.Errorf("%s has appeared meanwhile; the download is in %s", target, part.path))
	}
	if err := files.Rename(part.path, target); err != nil {
		return fail(err)
	}
	_ = os.Remove(part.tagPath())
	return target, nil
}

// complete makes attempts until the server has sent all.
func (d downloader) complete(ctx context.Context, part *partial, address string,
	progress func(done, total int64)) error {
	pause := d.pause
	for failures := 0; ; {
		before := part.size
		err := d.attempt(ctx, part, address, progress)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("stopped; the next start goes on at byte %d: %w", part.size, ctx.Err())
		}
		var final *finalError
		if errors.As(err, &final) {
			return err
		}
		if part.size > before {
			failures, pause = 0, d.pause
		}
		if failures++; failures == attempts {
			return fmt.Errorf("given up after %d attempts; the next start goes on at byte %d: %w", attempts,
				part.size, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause *= 2
	}
}

// finalError is an answer that asking again will not change.
type finalError struct{ text string }

func (e *finalError) Error() string { return e.text }

// attempt asks for what is still to come and stores what comes.
func (d downloader) attempt(ctx context.Context, part *partial, address string,
	progress func(done, total int64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(d.stall, func() { cancel(fmt.Errorf("nothing came for %v", d.stall)) })
	defer watch.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return &finalError{err.Error()}
	}
	request.Header.Set("Accept-Encoding", "identity") // the checksum is of the file as it is stored
	if part.size > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", part.size))
		if tag := part.tag(); tag != "" {
			request.Header.Set("If-Range", tag)
		}
	}
	response, err := d.client.Do(request)
	if err != nil {
		var unknown *net.DNSError
		if errors.As(err, &unknown) && unknown.IsNotFound {
			return &finalError{err.Error()}
		}
		return stalled(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	total := int64(-1)
	switch {
	case response.StatusCode == http.StatusOK:
		if err := part.reset(); err != nil { // all of it, because the server knows no ranges or has another version
			return &finalError{err.Error()}
		}
		total = response.ContentLength
	case response.StatusCode == http.StatusPartialContent:
		var first, last int64
		if n, _ := fmt.Sscanf(response.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total); n < 2 ||
			first != part.size {
			return fmt.Errorf("asked for bytes from %d, the server sent %.100q", part.size,
				response.Header.Get("Content-Range"))
		}
		if total == 0 {
			total = -1
		}
	case response.StatusCode == http.StatusRequestedRangeNotSatisfiable && part.size > 0:
		if response.Header.Get("Content-Range") == "bytes */"+strconv.FormatInt(part.size, 10) {
			return nil // all of it is here
		}
		if err := part.reset(); err != nil {
			return &finalError{err.Error()}
		}
		return fmt.Errorf("%.200s", response.Status)
	case response.StatusCode >= 500, response.StatusCode == http.StatusTooManyRequests,
		response.StatusCode == http.StatusRequestTimeout:
		return fmt.Errorf("%.200s", response.Status)
	default:
		return &finalError{fmt.Sprintf("%.200s", response.Status)}
	}
	if err := part.keepTag(response.Header.Get("ETag")); err != nil {
		return &finalError{err.Error()}
	}
	if total > d.most {
		return &finalError{fmt.Sprintf("the server announces %d bytes, at most %d are accepted", total, d.most)}
	}
	progress(part.size, total)
	buf := make([]byte, 1<<18)
	for {
		n, err := response.Body.Read(buf)
		if n > 0 {
			watch.Reset(d.stall)
			if part.size+int64(n) > d.most {
				return &finalError{fmt.Sprintf("the server sends more than %d bytes", d.most)}
			}
			if err := part.append(buf[:n]); err != nil {
				return &finalError{err.Error()}
			}
			progress(part.size, total)
		}
		switch {
		case errors.Is(err, io.EOF):
			if total >= 0 && part.size != total {
				return fmt.Errorf("%d of %d bytes came", part.size, total)
			}
			return nil
		case err != nil:
			return stalled(ctx, err)
		}
	}
}

// stalled names the reason where it was the watch that ended an attempt.
func stalled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// partial is a download under way: the .part file, and beside it the ETag of the version that it is a part of.
type partial struct {
	path string
	file *os.File
	size int64

	resumed bool // it begins with what an earlier start had left
}

func (p *partial) tagPath() string { return p.path + ".etag" }

func (p *partial) open() error {
	file, err := files.OpenFile(p.path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	p.file = file
	if p.size, err = file.Seek(0, io.SeekEnd); err != nil {
		_ = file.Close()
		return err
	}
	p.resumed = p.size > 0
	return nil
}

// close keeps what there is for another start.
func (p *partial) close() {
	_ = p.file.Close()
	if p.size == 0 {
		_ = os.Remove(p.path)
		_ = os.Remove(p.tagPath())
	}
}

func (p *partial) append(data []byte) error {
	n, err := p.file.Write(data)
	p.size += int64(n)
	return err
}

// reset starts anew.
func (p *partial) reset() error {
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.size, p.resumed = 0, false
	return nil
}

// tag is the ETag to compare; empty where none is known, and then only the checksum tells whether the file has changed.
func (p *partial) tag() string {
	text, err := files.Read(p.tagPath(), maxTagBytes)
	if err != nil || !strongTag.Match(text) {
		return ""
	}
	return string(text)
}

// maxTagBytes bounds an ETag; those of servers have some 40.
const maxTagBytes = 1 << 10

// strongTag is an ETag that is good for ranges (RFC 9110, section 8.8.3). What is none would only break the next
// request.
var strongTag = regexp.MustCompile(`^"[\x21\x23-\x7e]*"$`)

// keepTag remembers a strong ETag; a weak one is of no use for ranges.
func (p *partial) keepTag(tag string) error {
	if len(tag) > maxTagBytes || !strongTag.MatchString(tag) {
		err := os.Remove(p.tagPath())
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return files.Write(p.tagPath(), []byte(tag))
}

func fileSHA256(name string) (string, error) {
	file, err := files.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	digest := sha256.New()
	if _, err := io.Copy(digest, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}
