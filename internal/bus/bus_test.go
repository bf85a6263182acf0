//go:build !nofarm

package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// started is a server for tests with streams Q and R, and its owner's connection.
func started(t *testing.T, dir string, port int) (*Server, *Conn, string) {
	require.NoError(t, MakeKeys(dir))
	s, err := Serve(ServerConfig{Host: "127.0.0.1", Port: port, Keys: dir, Store: filepath.Join(dir, "store"),
		Publish: []string{"r.>", "$JS.API.CONSUMER.INFO.Q.one", "$JS.API.CONSUMER.MSG.NEXT.Q.one", "$JS.ACK.Q.>",
			"$JS.API.DIRECT.GET.R.>", "hello"},
		Subscribe: []string{"_INBOX.>"}, Log: func(text string) { t.Log(text) }})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	url := fmt.Sprintf("tls://127.0.0.1:%d", s.Port())
	owner, err := Owner(dir)
	require.NoError(t, err)
	c, err := Dial(t.Context(), url, "owner", owner, nil)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	require.NoError(t, c.MakeStream(t.Context(), Stream{Name: "Q", Subjects: "q.>", Queue: true}))
	require.NoError(t, c.MakeConsumer(t.Context(), "Q", "one", "q.one.>", time.Second))
	require.NoError(t, c.MakeStream(t.Context(), Stream{Name: "R", Subjects: "r.>"}))
	require.NoError(t, c.MakeStream(t.Context(), Stream{Name: "S", Subjects: "s.>", Replaced: true}))
	return s, c, url
}

// A queue holds one message a subject until it is acknowledged; a first result stays; what is replaced is replaced.
// A server that is started again has all of it, and who was connected is again.
func TestStreams(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	s, c, _ := started(t, dir, 0)
	require.NoError(t, c.Put(ctx, "Q", "q.one.a", []byte("1")))
	require.ErrorIs(t, c.Put(ctx, "Q", "q.one.a", []byte("2")), ErrTaken)
	require.NoError(t, c.Put(ctx, "R", "r.a", []byte("1")))
	require.ErrorIs(t, c.Put(ctx, "R", "r.a", []byte("2")), ErrTaken)
	require.NoError(t, c.Put(ctx, "S", "s.a", []byte("1")))
	require.NoError(t, c.Put(ctx, "S", "s.a", []byte("2")))
	for stream, want := range map[string]string{"R": "1", "S": "2"} {
		m, err := c.Last(ctx, stream, strings.ToLower(stream)+".a")
		require.NoError(t, err)
		require.Equal(t, want, string(m.Data))
		require.WithinDuration(t, time.Now(), m.Stored, time.Minute)
	}
	_, err := c.Last(ctx, "R", "r.b")
	require.ErrorIs(t, err, ErrNone)

	d, err := c.Next(ctx, "Q", "one", time.Second)
	require.NoError(t, err)
	require.Equal(t, []any{"q.one.a", "1", uint64(1)}, []any{d.Subject, string(d.Data), d.Times})
	list, err := c.Subjects(ctx, "Q", "q.one.*")
	require.NoError(t, err)
	require.Equal(t, []string{"q.one.a"}, list, "it is there while it is worked at")
	// What the server says of a consumer follows what it has done.
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		messages, taken, err := c.Count(ctx, "Q")
		assert.NoError(t, err)
		assert.Equal(t, []uint64{1, 1}, []uint64{messages, taken})
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, d.Return(0))
	d, err = c.Next(ctx, "Q", "one", time.Second)
	require.NoError(t, err)
	require.EqualValues(t, 2, d.Times)

	port := s.Port()
	s.Close()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	require.Error(t, c.Put(short, "R", "r.b", nil), "nobody is there")
	cancel()
	started(t, dir, port)
	require.Eventually(t, func() bool { return c.Put(ctx, "R", "r.a", nil) != nil }, 10*time.Second,
		10*time.Millisecond)
	require.ErrorIs(t, c.Put(ctx, "R", "r.a", []byte("3")), ErrTaken)
	for d = nil; d == nil; { // what was handed out comes again
		d, err = c.Next(ctx, "Q", "one", 2*time.Second)
		require.NoError(t, err)
	}
	require.EqualValues(t, 3, d.Times)
	require.NoError(t, d.Done(ctx))
	d, err = c.Next(ctx, "Q", "one", 50*time.Millisecond)
	require.NoError(t, err)
	require.Nil(t, d)
	require.NoError(t, c.Put(ctx, "Q", "q.one.a", nil), "it may come again")
	require.NoError(t, c.Remove(ctx, "Q", "q.one.a"))
	require.NoError(t, c.Remove(ctx, "Q", "q.one.a"), "there is none")
	require.NoError(t, c.Put(ctx, "Q", "q.one.a", nil))
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		fresh, asked, err := c.Demand(ctx, "Q", "one")
		assert.NoError(t, err)
		assert.Equal(t, []int{1, 0}, []int{fresh, asked})
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, c.Purge(ctx, "Q", "q.one.*"))
	require.NoError(t, c.Put(ctx, "Q", "q.one.a", nil))
	names, err := c.Consumers(ctx, "Q")
	require.NoError(t, err)
	require.Equal(t, []string{"one"}, names)
	require.NoError(t, c.RemoveConsumer(ctx, "Q", "one"))
}

// Who has no key, another one, another authority or no TLS is refused at once; who joins may do what it is there for.
func TestKeys(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	s, owner, url := started(t, dir, 0)
	member, err := Member(filepath.Join(dir, KeysFolder))
	require.NoError(t, err)
	other := t.TempDir()
	require.NoError(t, MakeKeys(other))
	stranger, err := Member(filepath.Join(other, KeysFolder))
	require.NoError(t, err)
	wrongKey := stranger
	wrongKey.authorities = member.authorities
	wrongAuthority := member
	wrongAuthority.authorities = stranger.authorities
	noKey := Credentials{authorities: member.authorities}
	plain := fmt.Sprintf("nats://127.0.0.1:%d", s.Port())
	for what, try := range map[string]struct {
		url string
		who Credentials
	}{"another key": {url, wrongKey}, "another authority": {url, wrongAuthority}, "no key": {url, noKey},
		"nothing": {plain, Credentials{}}} {
		_, err := Dial(ctx, try.url, what, try.who, func(why error) { t.Error(what, why) })
		require.ErrorIs(t, err, ErrRefused, what)
	}

	c, err := Dial(ctx, url, "member", member, nil)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, owner.Put(ctx, "Q", "q.one.a", []byte("1")))
	d, err := c.Next(ctx, "Q", "one", time.Second)
	require.NoError(t, err)
	require.NoError(t, d.Working())
	require.NoError(t, c.Put(ctx, "R", "r.a", []byte("1")))
	require.ErrorIs(t, c.Put(ctx, "R", "r.a", []byte("2")), ErrTaken)
	require.NoError(t, d.Done(ctx))
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	require.Error(t, c.Put(short, "Q", "q.one.b", nil), "it submits no jobs")
	require.Error(t, c.Remove(short, "Q", "q.one.b"))
	require.Error(t, c.MakeStream(short, Stream{Name: "X", Subjects: "x"}))

	var mu sync.Mutex
	var heard []string
	stop, lost, err := owner.Hear("hello", func(_ string, data []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, string(data))
		return []byte("you")
	})
	require.NoError(t, err)
	defer stop()
	require.NoError(t, owner.Flush(ctx))
	answer, err := c.Ask(ctx, "hello", []byte("hi"))
	require.NoError(t, err)
	require.Equal(t, "you", string(answer))
	require.Equal(t, []string{"hi"}, heard)
	require.Zero(t, lost())

	// Keys are made once, and for nobody else's eyes.
	before, err := os.ReadFile(filepath.Join(dir, SecretFolder, ownerFile))
	require.NoError(t, err)
	require.NoError(t, MakeKeys(dir))
	after, err := os.ReadFile(filepath.Join(dir, SecretFolder, ownerFile))
	require.NoError(t, err)
	require.Equal(t, before, after)
	info, err := os.Stat(filepath.Join(dir, SecretFolder, authorityFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, os.WriteFile(filepath.Join(dir, KeysFolder, memberFile), []byte("x"), 0o600))
	_, err = Member(filepath.Join(dir, KeysFolder))
	require.ErrorContains(t, err, "worker.nk: it holds no key")
	require.NoError(t, os.WriteFile(filepath.Join(dir, KeysFolder, caFile), []byte("x"), 0o600))
	_, err = Owner(dir)
	require.ErrorContains(t, err, "ca.pem: no certificate")
}

// A server that is not there yet is waited for, as long as somebody wants it; an address in use is said at once.
func TestWaiting(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	said := 0
	_, err := Dial(ctx, "nats://127.0.0.1:1", "x", Credentials{}, func(error) { said++ })
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 1, said)

	dir := t.TempDir()
	s, _, _ := started(t, dir, 0)
	_, err = Serve(ServerConfig{Host: "127.0.0.1", Port: s.Port(), Keys: dir, Store: t.TempDir()})
	require.ErrorContains(t, err, "in use")
	require.False(t, errors.Is(err, errStore))
}

// Connecting ends with its context, also to a host that says nothing; what is too large is refused at once.
func TestConnectingEnds(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer mute.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := Dial(ctx, "nats://"+mute.Addr().String(), "test", Credentials{}, nil)
		ended <- err
	}()
	c, err := mute.Accept()
	require.NoError(t, err)
	defer c.Close()
	cancel()
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "it is hung up")
	err = <-ended
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), "timeout", "that is not waited for")

	ctx, cancel = context.WithCancel(t.Context())
	dir := t.TempDir()
	_, owner, url := started(t, dir, 0)
	require.ErrorIs(t, owner.Put(ctx, "R", "r.large", make([]byte, mostPayload+1)), ErrLarge)
	require.NoError(t, owner.Put(ctx, "R", "r.large", make([]byte, mostPayload/2)))
	who, err := Owner(dir)
	require.NoError(t, err)
	other, err := Dial(ctx, url, "other", who, nil)
	require.NoError(t, err)
	defer other.Close()
	cancel() // who is connected remains
	_, err = other.Last(t.Context(), "R", "r.large")
	require.NoError(t, err)
}
