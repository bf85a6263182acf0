//go:build !nofarm

package bus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What may be the matter.
var (
	ErrTaken   = errors.New("there is a message of this subject already")
	ErrNone    = errors.New("there is no message of this subject")
	ErrRefused = errors.New("the server refuses")
	ErrLarge   = errors.New("it is larger than what the server takes")
)

// replyWait is how long an answer of the server is waited for, unless a context says less.
const replyWait = 10 * time.Second

// redial is how long lies between attempts to connect, and half as much again by chance, so that many do not come at
// once.
const redial = 300 * time.Millisecond

// Conn is a connection to a server. It is made again for as long as it takes whenever it is lost; in between calls
// wait, for the time that they have, and fail.
type Conn struct {
	nats      *nats.Conn
	jetstream jetstream.JetStream
	ended     chan struct{}
	hangUp    context.CancelFunc // ends connecting

	mu sync.Mutex
	// again is closed when the connection has been made again: what was asked for before is not answered.
	again     chan struct{}
	streams   map[string]jetstream.Stream // asked for once: each asking is a request to the server
	consumers map[string]jetstream.Consumer
}

// Dial connects to nats://HOST:PORT, or with TLS to tls://HOST:PORT, under a name for the server's logs. It waits for
// a server that is not there yet, telling why, until ctx is done; one that refuses is an error that is ErrRefused. wait
// may be nil.
func Dial(ctx context.Context, url, name string, who Credentials, wait func(why error)) (*Conn, error) {
	c := &Conn{ended: make(chan struct{}), again: make(chan struct{}), streams: map[string]jetstream.Stream{},
		consumers: map[string]jetstream.Consumer{}}
	// Until there is a connection ctx ends connecting; from then on Close does.
	calls, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	c.hangUp = hangUp
	connected := context.AfterFunc(ctx, hangUp)
	o := []nats.Option{nats.Name(name), nats.SetCustomDialer(dialer{calls}), nats.SkipHostLookup(),
		nats.MaxReconnects(-1), nats.ReconnectWait(redial),
		nats.ReconnectJitter(redial/2, redial/2), nats.Timeout(replyWait), nats.PingInterval(20 * time.Second),
		nats.MaxPingsOutstanding(3), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
		nats.ClosedHandler(func(*nats.Conn) { close(c.ended) }), nats.ReconnectHandler(func(*nats.Conn) {
			c.mu.Lock()
			defer c.mu.Unlock()
			close(c.again)
			c.again = make(chan struct{})
		})}
	if who.sign != nil {
		o = append(o, nats.Nkey(who.public, who.sign), nats.Secure(&tls.Config{
			MinVersion: tls.VersionTLS13, RootCAs: who.authorities,
		}))
	}
	for told := ""; ; {
		var err error
		if c.nats, err = nats.Connect(url, o...); err == nil {
			break
		}
		if refused(err) {
			hangUp()
			return nil, fmt.Errorf("%s: %w: %w", url, ErrRefused, err)
		}
		if text := err.Error(); wait != nil && text != told {
			told = text
			wait(fmt.Errorf("%s: %w", url, err))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w (%w)", url, err, ctx.Err())
		case <-time.After(redial):
		}
	}
	if !connected() {
		c.Close()
		return nil, fmt.Errorf("%s: %w", url, ctx.Err())
	}
	var err error
	if c.jetstream, err = jetstream.New(c.nats); err != nil {
		c.Close()
	}
	return c, err
}

// dialer connects until its context ends, which ends what is connected, too: neither a host that swallows packets nor
// one that says nothing is waited for any longer.
type dialer struct{ ctx context.Context }

// Dial is nats.CustomDialer's.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: replyWait}).DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &call{c, context.AfterFunc(d.ctx, func() { _ = c.Close() })}, nil
}

// call is a connection that its dialer ends.
type call struct {
	net.Conn
	forget func() bool
}

func (c *call) Close() error {
	c.forget()
	return c.Conn.Close()
}

// refused tells a server that will not have this one from a server that is not there.
func refused(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.As(err, new(x509.UnknownAuthorityError)) ||
		errors.As(err, new(x509.HostnameError)) || errors.As(err, new(x509.CertificateInvalidError)) ||
		errors.Is(err, nats.ErrSecureConnRequired) || errors.Is(err, nats.ErrSecureConnWanted) ||
		errors.Is(err, nats.ErrNkeysNotSupported)
}

// Ended is closed when the connection is closed for good: by Close, or by a server that refuses.
func (c *Conn) Ended() <-chan struct{} { return c.ended }

// Connected tells whether there is a server at the moment.
func (c *Conn) Connected() bool { return c.nats.IsConnected() }

// Close sends what was published, if there is a server, and ends the connection.
func (c *Conn) Close() {
	if c.Connected() {
		_ = c.nats.FlushTimeout(time.Second)
	}
	c.nats.Close()
	c.hangUp()
}

// soon is a context in which an answer is waited for.
func soon(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, replyWait)
}

// Stream is a kind of stream: what becomes of what is published to its subjects.
type Stream struct {
	Name     string
	Subjects string
	Queue    bool // each message is delivered until it is acknowledged, which removes it; at most one a subject
	Replaced bool // a message replaces the one of its subject; otherwise the first one stays for ever
}

// MakeStream makes a stream, or finds it as it was made.
func (c *Conn) MakeStream(ctx context.Context, s Stream) error {
	ctx, cancel := soon(ctx)
	defer cancel()
	o := jetstream.StreamConfig{Name: s.Name, Subjects: []string{s.Subjects}, Storage: jetstream.FileStorage,
		AllowDirect: true, MaxMsgsPerSubject: 1}
	if s.Queue {
		o.Retention = jetstream.WorkQueuePolicy
	}
	if !s.Replaced {
		o.Discard, o.DiscardNewPerSubject = jetstream.DiscardNew, true
		o.DenyDelete = !s.Queue
	}
	_, err := c.jetstream.CreateOrUpdateStream(ctx, o)
	return err
}

// RemoveStream removes one with all that it holds.
func (c *Conn) RemoveStream(ctx context.Context, name string) error {
	ctx, cancel := soon(ctx)
	defer cancel()
	return c.jetstream.DeleteStream(ctx, name)
}

// MakeConsumer makes what hands out messages of a queue whose subjects a filter names; filters of a queue's consumers
// must not overlap. A message that is neither acknowledged nor worked at for so long is handed out again.
func (c *Conn) MakeConsumer(ctx context.Context, queue, name, filter string, ackWait time.Duration) error {
	ctx, cancel := soon(ctx)
	defer cancel()
	_, err := c.jetstream.CreateOrUpdateConsumer(ctx, queue, jetstream.ConsumerConfig{Durable: name,
		FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxDeliver: -1,
		MaxAckPending: mostWaiting, MaxWaiting: mostWaiting})
	return err
}

const mostWaiting = 4096

// Consumers lists the consumers of a queue.
func (c *Conn) Consumers(ctx context.Context, queue string) (names []string, err error) {
	s, err := c.stream(ctx, queue)
	if err != nil {
		return nil, err
	}
	ctx, cancel := soon(ctx)
	defer cancel()
	list := s.ConsumerNames(ctx)
	for name := range list.Name() {
		names = append(names, name)
	}
	return names, list.Err()
}

// RemoveConsumer removes one.
func (c *Conn) RemoveConsumer(ctx context.Context, queue, name string) error {
	ctx, cancel := soon(ctx)
	defer cancel()
	return c.jetstream.DeleteConsumer(ctx, queue, name)
}

func (c *Conn) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	c.mu.Lock()
	s := c.streams[name]
	c.mu.Unlock()
	if s != nil {
		return s, nil
	}
	ctx, cancel := soon(ctx)
	defer cancel()
	s, err := c.jetstream.Stream(ctx, name)
	if err == nil {
		c.mu.Lock()
		c.streams[name] = s
		c.mu.Unlock()
	}
	return s, err
}

// Put publishes a message and waits until a stream has it. ErrTaken says that there is one of its subject that stays,
// ErrLarge that the message never will be taken.
func (c *Conn) Put(ctx context.Context, stream, subject string, data []byte) error {
	ctx, cancel := soon(ctx)
	defer cancel()
	_, err := c.jetstream.Publish(ctx, subject, data, jetstream.WithExpectStream(stream),
		jetstream.WithRetryAttempts(0))
	var api *jetstream.APIError
	if errors.As(err, &api) && strings.Contains(api.Description, "maximum messages per subject") {
		return ErrTaken
	}
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w: %d bytes of at most %d", ErrLarge, len(data), c.nats.MaxPayload())
	}
	return err
}

// Message is one of a stream.
type Message struct {
	Subject string
	Data    []byte
	Stored  time.Time // by the server's clock

	sequence uint64
}

// Last returns the message of a subject that a stream has, or ErrNone.
func (c *Conn) Last(ctx context.Context, stream, subject string) (Message, error) {
	ctx, cancel := soon(ctx)
	defer cancel()
	m, err := c.nats.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream+"."+subject, nil)
	if err != nil {
		return Message{}, err
	}
	switch status := m.Header.Get("Status"); status {
	case "":
	case "404":
		return Message{}, ErrNone
	default:
		return Message{}, fmt.Errorf("%s of %s: %s %s", subject, stream, status, m.Header.Get("Description"))
	}
	stored, _ := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	sequence, _ := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	return Message{m.Header.Get("Nats-Subject"), m.Data, stored, sequence}, nil
}

// Subjects lists those of a filter of which a stream has messages, without an order.
func (c *Conn) Subjects(ctx context.Context, stream, filter string) (list []string, err error) {
	s, err := c.stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	ctx, cancel := soon(ctx)
	defer cancel()
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, err
	}
	for subject := range info.State.Subjects {
		list = append(list, subject)
	}
	return list, nil
}

// Count is how many messages a stream has, and how many of a queue's are with somebody.
func (c *Conn) Count(ctx context.Context, stream string) (messages, taken uint64, err error) {
	s, err := c.stream(ctx, stream)
	if err != nil {
		return 0, 0, err
	}
	short, cancel := soon(ctx)
	defer cancel()
	info, err := s.Info(short)
	if err != nil {
		return 0, 0, err
	}
	if info.Config.Retention != jetstream.WorkQueuePolicy {
		return info.State.Msgs, 0, nil
	}
	for one := range s.ListConsumers(short).Info() {
		taken += uint64(max(0, one.NumAckPending))
	}
	return info.State.Msgs, taken, nil
}

// Remove removes the message of a subject from a queue, if there is one, also from who has it. It is not purged: that
// makes the server forget what else it is to hand out again.
func (c *Conn) Remove(ctx context.Context, stream, subject string) error {
	s, err := c.stream(ctx, stream)
	if err != nil {
		return err
	}
	m, err := c.Last(ctx, stream, subject)
	if errors.Is(err, ErrNone) {
		return nil
	} else if err != nil {
		return err
	}
	ctx, cancel := soon(ctx)
	defer cancel()
	if err := s.DeleteMsg(ctx, m.sequence); !errors.Is(err, jetstream.ErrMsgNotFound) &&
		!errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		return err
	}
	return nil
}

// Purge removes the messages of a filter from a queue whose consumers do not hand them out.
func (c *Conn) Purge(ctx context.Context, stream, filter string) error {
	s, err := c.stream(ctx, stream)
	if err != nil {
		return err
	}
	ctx, cancel := soon(ctx)
	defer cancel()
	return s.Purge(ctx, jetstream.WithPurgeSubject(filter))
}

// Forget removes a message from a stream whose messages nobody hands out, and those before it of its subject.
func (c *Conn) Forget(ctx context.Context, stream string, m Message) error {
	s, err := c.stream(ctx, stream)
	if err != nil {
		return err
	}
	ctx, cancel := soon(ctx)
	defer cancel()
	return s.Purge(ctx, jetstream.WithPurgeSubject(m.Subject), jetstream.WithPurgeSequence(m.sequence+1))
}

// Demand is how many messages of a queue a consumer has not handed out to anybody, and how many are asked for.
func (c *Conn) Demand(ctx context.Context, queue, consumer string) (fresh, asked int, err error) {
	h, err := c.consumer(ctx, queue, consumer)
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := soon(ctx)
	defer cancel()
	info, err := h.Info(ctx)
	if err != nil {
		return 0, 0, err
	}
	return int(info.NumPending), info.NumWaiting, nil
}

// Delivery is a message of a queue that this one works at.
type Delivery struct {
	Message
	Times    uint64 // that it was handed out, this one included
	Sequence uint64 // of the message: another one of the same subject has another
	message  jetstream.Msg
}

// Next waits for a message of a queue, for so long; nil where there was none, or the connection was lost meanwhile.
func (c *Conn) Next(ctx context.Context, queue, consumer string, wait time.Duration) (*Delivery, error) {
	h, err := c.consumer(ctx, queue, consumer)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	again := c.again
	c.mu.Unlock()
	batch, err := h.Fetch(1, jetstream.FetchMaxWait(wait))
	if err != nil {
		return nil, err
	}
	select {
	case m := <-batch.Messages():
		if m == nil {
			if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
				return nil, err
			}
			return nil, nil
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, err
		}
		return &Delivery{Message{m.Subject(), m.Data(), meta.Timestamp, meta.Sequence.Stream}, meta.NumDelivered,
			meta.Sequence.Stream, m}, nil
	case <-ctx.Done():
	case <-again:
	}
	go func() { // who asks no longer gives back what it is sent
		for m := range batch.Messages() {
			_ = m.Nak()
		}
	}()
	return nil, ctx.Err()
}

func (c *Conn) consumer(ctx context.Context, queue, name string) (jetstream.Consumer, error) {
	key := queue + "." + name
	c.mu.Lock()
	h := c.consumers[key]
	c.mu.Unlock()
	if h != nil {
		return h, nil
	}
	ctx, cancel := soon(ctx)
	defer cancel()
	h, err := c.jetstream.Consumer(ctx, queue, name)
	if err == nil {
		c.mu.Lock()
		c.consumers[key] = h
		c.mu.Unlock()
	}
	return h, err
}

// Working says that the message is still worked at.
func (d *Delivery) Working() error { return d.message.InProgress() }

// Done removes the message from its queue, and waits until that has happened.
func (d *Delivery) Done(ctx context.Context) error {
	ctx, cancel := soon(ctx)
	defer cancel()
	return d.message.DoubleAck(ctx)
}

// Return hands the message back, to be handed out after a while.
func (d *Delivery) Return(after time.Duration) error { return d.message.NakWithDelay(after) }

// Tell publishes to whoever listens at the moment.
func (c *Conn) Tell(subject string, data []byte) error { return c.nats.Publish(subject, data) }

// Ask publishes and waits for the first answer.
func (c *Conn) Ask(ctx context.Context, subject string, data []byte) ([]byte, error) {
	ctx, cancel := soon(ctx)
	defer cancel()
	m, err := c.nats.RequestWithContext(ctx, subject, data)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

// Hear calls a function with what is told at subjects, one after the other, until stop. What it returns answers Ask.
// Of what comes faster than it is heard some is lost: lost counts it.
func (c *Conn) Hear(subject string, hear func(subject string, data []byte) (answer []byte)) (stop func(),
	lost func() int, err error) {
	s, err := c.nats.Subscribe(subject, func(m *nats.Msg) {
		if answer := hear(m.Subject, m.Data); answer != nil && m.Reply != "" {
			_ = m.Respond(answer)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	return func() { _ = s.Unsubscribe() }, func() int { n, _ := s.Dropped(); return n },
		s.SetPendingLimits(mostPending, mostPending<<10)
}

// mostPending is how many messages Hear keeps that are not heard yet.
const mostPending = 8192

// Flush waits until the server has what was told.
func (c *Conn) Flush(ctx context.Context) error {
	ctx, cancel := soon(ctx)
	defer cancel()
	return c.nats.FlushWithContext(ctx)
}
