//go:build !nofarm

package farm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctnas/ctnas/internal/bus"
	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/job"
)

// What ends a worker beside the end of its search.
var (
	ErrUnfit = errors.New("this machine cannot go on") // another one can
	ErrOther = errors.New("the search is of another program")
)

// Worker is how one works.
type Worker struct {
	// Join is tls://HOST:PORT, or nats://HOST:PORT/FARM of a server that serves several; or the coordinator's file
	// JoinName, which says where it is now.
	Join string
	Keys string // the folder that the coordinator names; empty: the one that the file names, or none
	Name string // tells workers apart; empty: of host and chance
	Host string // the machine's name; empty: as it says itself
	Work string // folder for records that could not be sent yet

	Version  string        // of the program, exact
	Jobs     int           // after so many it ends; 0: never
	Idle     time.Duration // after so long without a job it ends; 0: never
	Follow   bool          // end with ErrOther where the search is of another program, rather than wait for its own
	Executor func(context.Context, Charter) (Fitted, error)
	Vitals   func() Vitals // asked whenever it says that it is there; nil: nothing is known
	Tell     func(text string)
}

// Fitted is what can do a farm's jobs: that it could not be made is an error that says why this worker does not fit.
type Fitted struct {
	Level string
	Slots int // jobs at once
	// Memory is how many bytes of its GPU's memory a job has; 0: it is a processor, or not known.
	Memory int64
	Sound  func() error // why the machine can do no job at all, after one has failed; nil: nobody looks
	kind
}

// kind is what a worker does with jobs of one.
type kind struct {
	capacity func(jobs int) int
	read     func(text []byte) (job.Job, error)
	do       func(ctx context.Context, j job.Job, tell func(job.Notice)) (result []byte, err error)
	same     func(one, other []byte) bool // two results say the same
}

// Fit is a worker's means for jobs of a kind.
func Fit[J job.Of[R], R any](e job.Executor[J, R], level string, slots int, sound func() error) Fitted {
	return Fitted{Level: level, Slots: slots, Sound: sound, kind: kind{
		capacity: e.Capacity,
		read: func(text []byte) (job.Job, error) {
			var j J
			err := json.Unmarshal(text, &j)
			return j, err
		},
		do: func(ctx context.Context, j job.Job, tell func(job.Notice)) ([]byte, error) {
			r, err := e.Do(ctx, j.(J), tell)
			if err != nil {
				return nil, err
			}
			return encode(r), nil
		},
		same: func(one, other []byte) bool {
			var j J
			var a, b R
			return json.Unmarshal(one, &a) == nil && json.Unmarshal(other, &b) == nil && j.Same(a, b)
		},
	}}
}

// Control messages.
const (
	everybody    = "all"
	controlEnded = "ended"
	controlDrain = "drain"
	// controlCharter says that the charter is another, though the class is the same.
	controlCharter = "charter"
)

const (
	pullWait  = 3 * time.Second
	turnWait  = 100 * time.Millisecond // the same where jobs of several classes are asked for
	stopWait  = 20 * time.Second       // for what is said after a worker was told to stop
	mostPause = 2 * time.Second
)

// worker is one at work.
type worker struct {
	Worker
	conn    *bus.Conn
	names   names
	at      string // where the coordinator's file said that it is; empty: there is no file
	charter Charter
	fitted  Fitted

	drained chan struct{} // closed when it is to take no more jobs
	drain   func()

	changed chan struct{} // what it trains has; of capacity 1
	news    chan struct{} // the charter may be another; of capacity 1

	taken atomic.Int64
	last  atomic.Int64 // when it last had a job, nanoseconds since begun
	begun time.Time

	mu      sync.Mutex
	state   WorkerState
	classes []string // that it takes jobs of
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// Work takes jobs and does them until the search ends, until it is drained, idle or has done its number, or until ctx
// is done: then what is trained leaves its checkpoint and the job goes back. All of these are no errors.
func Work(ctx context.Context, c Worker) error {
	w := &worker{Worker: c, drained: make(chan struct{}), changed: make(chan struct{}, 1),
		news: make(chan struct{}, 1), begun: time.Now()}
	if w.Tell == nil {
		w.Tell = func(string) {}
	}
	w.drain = sync.OnceFunc(func() { close(w.drained) })
	if w.Host == "" {
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		w.Host = host
	}
	if w.Name == "" {
		w.Name = fmt.Sprintf("%s-%04x", w.Host, rand.IntN(1<<16))
	}
	w.Name = notInNames.ReplaceAllString(w.Name, "-")
	w.state = WorkerState{Name: w.Name, Host: w.Host, Version: w.Version, State: "waiting"}
	for {
		err := w.visit(ctx)
		if !errors.Is(err, errMoved) {
			return end(err)
		}
		w.Tell("the search is at another address now")
	}
}

// errMoved says that the coordinator is elsewhere.
var errMoved = errors.New("the search is at another address")

// visit works for the coordinator where it is now.
func (w *worker) visit(ctx context.Context) error {
	if err := w.dial(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer w.conn.Close()
	stop, _, err := w.conn.Hear(w.names.control("*"), w.control)
	if err != nil {
		return err
	}
	defer stop()
	err = w.serve(ctx)
	if !errors.Is(err, errMoved) {
		w.tellState("stopped")
	}
	return err
}

// moved tells whether the coordinator's file says another address.
func (w *worker) moved() bool {
	if w.at == "" {
		return false
	}
	at, err := readJoining(w.Join)
	return err == nil && at.Join != w.at
}

func (w *worker) dial(ctx context.Context) error {
	join, keys := w.Join, w.Keys
	if !strings.Contains(join, "://") {
		at, err := readJoining(join)
		if err != nil {
			return fmt.Errorf("want the address of a farm, tls://HOST:PORT as its search prints it, or its file %s: %w",
				JoinName, err)
		}
		join, w.at = at.Join, at.Join
		if keys == "" {
			keys = at.Keys
		}
	}
	u, err := url.Parse(join)
	if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" {
		return fmt.Errorf("%q: want tls://HOST:PORT, as the search prints it, or its file %s", join, JoinName)
	}
	w.names = onlyFarm
	if name := strings.Trim(u.Path, "/"); name != "" {
		if notInNames.MatchString(name) {
			return fmt.Errorf("%q: %q is no farm's name", join, name)
		}
		w.names, u.Path = names(name), ""
	}
	var who bus.Credentials
	switch {
	case keys != "":
		if who, err = bus.Member(keys); err != nil {
			return err
		}
	case u.Scheme != "tls" && !loopback(u.Hostname()):
		return fmt.Errorf("%q: off this machine it must be tls://, with keys", join)
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if w.Idle > 0 {
		left := w.Idle - time.Since(w.begun) + time.Duration(w.last.Load())
		defer time.AfterFunc(left, func() { cancel(errEnd) }).Stop()
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() { // it may move before it is found
		for !w.moved() {
			select {
			case <-stop:
				return
			case <-time.After(mostPause):
			}
		}
		cancel(errMoved)
	}()
	w.conn, err = bus.Dial(inner, u.String(), w.Name, who, func(why error) { w.Tell(fmt.Sprintf("waiting: %v", why)) })
	if cause := context.Cause(inner); err != nil && (errors.Is(cause, errMoved) || errors.Is(cause, errEnd)) {
		return cause
	}
	return err
}

// serve works for one charter after the other.
func (w *worker) serve(ctx context.Context) error {
	said := ""
	for {
		if err := w.pause(ctx, 0); err != nil || w.idle() {
			return end(err)
		}
		c, err := w.readCharter(ctx)
		why := ""
		switch {
		case errors.Is(err, errCharter):
			why = err.Error()
		case err != nil:
			why = "waiting for the search to begin"
		case c.Ended:
			w.Tell("the search has ended")
			return nil
		case c.Version != w.Version:
			why = fmt.Sprintf("this worker is %s, the search is %s: start a worker of the same program", w.Version,
				c.Version)
			if w.Follow {
				return fmt.Errorf("%w: %s", ErrOther, why)
			}
		default:
			if w.fitted, err = w.Executor(ctx, c); err != nil && ctx.Err() == nil {
				why = err.Error()
			} else if err == nil {
				w.charter, said = c, ""
				if err := w.slots(ctx); err != nil {
					return end(err)
				}
				continue
			}
		}
		if why != said && why != "" {
			said = why
			w.Tell("no jobs for this worker: " + why)
		}
		w.tellState(why)
		if err := w.pause(ctx, w.every()); err != nil {
			return end(err)
		}
	}
}

// errRefused is a connection that a server has ended for good.
var errRefused = errors.New("the farm's server refuses this worker: it is another farm's")

// errEnd is a worker's end that is no error.
var errEnd = errors.New("done")

func end(err error) error {
	if errors.Is(err, errEnd) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// pause waits, or says what ends the worker.
func (w *worker) pause(ctx context.Context, long time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	default:
	}
	select {
	case <-w.drained:
		return errEnd
	case <-w.conn.Ended():
		if !w.moved() {
			return errRefused
		}
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(long):
	}
	if w.moved() {
		return errMoved
	}
	return nil
}

// every is how often a worker says that it is there.
func (w *worker) every() time.Duration {
	if w.charter.AckWait == 0 {
		return mostPause
	}
	return w.charter.AckWait / 4
}

func (w *worker) idle() bool {
	return w.Idle > 0 && time.Since(w.begun)-time.Duration(w.last.Load()) >= w.Idle
}

func (w *worker) readCharter(ctx context.Context) (c Charter, err error) {
	ctx, cancel := context.WithTimeout(ctx, mostPause)
	defer cancel()
	m, err := w.conn.Last(ctx, w.names.farm(), w.names.charter())
	if err != nil {
		return c, err
	}
	if err = json.Unmarshal(m.Data, &c); err == nil {
		err = c.check()
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errCharter, err)
	}
	return c, err
}

// errCharter says that what the coordinator has written is no charter.
var errCharter = errors.New("what the search says of itself cannot be believed")

// slots works at as many jobs at once as fit, until the charter is another.
func (w *worker) slots(ctx context.Context) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.sendSpool(inner)
	slots := w.fitted.capacity(w.fitted.Slots)
	w.mu.Lock()
	w.state.Slots, w.state.Level, w.state.Memory = slots, w.fitted.Level, w.fitted.Memory
	w.classes = w.charter.classesFor(w.fitted.Memory)
	w.mu.Unlock()
	w.tellState(stateWorking)
	w.Tell(fmt.Sprintf("worker %s takes jobs, %d at once", w.Name, slots))
	var all sync.WaitGroup
	quiet := make(chan struct{}) // closed when no more jobs are to be taken
	leave := sync.OnceFunc(func() { close(quiet) })
	for range slots {
		all.Go(func() {
			if err := w.slot(inner, quiet); err != nil {
				cancel(err)
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	moving, gone := false, w.conn.Ended()
	tell := w.changed // nil for a while after it was heard
	for {
		select {
		case <-ended:
			if moving {
				return errMoved
			}
			if cause := context.Cause(inner); cause != nil {
				return cause
			}
			if w.Jobs > 0 && w.taken.Load() >= int64(w.Jobs) {
				return errEnd
			}
			return w.pause(ctx, 0)
		case <-w.drained:
			leave()
			w.tellState("draining")
			<-ended
			if cause := context.Cause(inner); cause != nil {
				return cause
			}
			return errEnd
		case <-gone:
			if moving {
				gone = nil // by this worker itself
				continue
			}
			cancel(errRefused)
			<-ended
			return errRefused
		case <-tell:
			tell = nil
			w.tellState(stateWorking)
		case <-time.After(w.every()):
			if moving = moving || w.moved(); moving { // what is trained is kept, and sent to the other address
				leave()
				w.conn.Close()
				continue
			}
			w.follow(inner, leave)
			tell = w.changed
			w.tellState(stateWorking)
		case <-w.news:
			w.follow(inner, leave)
		}
	}
}

// follow reads the charter anew, and leaves where it is no longer this worker's.
func (w *worker) follow(ctx context.Context, leave func()) {
	c, err := w.readCharter(ctx)
	if err != nil {
		return
	}
	if c.Ended || c.class() != w.charter.class() {
		leave()
	}
	w.mu.Lock()
	w.classes = c.classesFor(w.fitted.Memory)
	w.mu.Unlock()
}

// slot takes one job after the other.
func (w *worker) slot(ctx context.Context, quiet <-chan struct{}) error {
	pull, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-quiet:
			cancel()
		case <-pull.Done():
		}
	}()
	for pull.Err() == nil {
		if w.idle() {
			w.drain()
			return nil
		}
		if n := w.taken.Add(1); w.Jobs > 0 && n > int64(w.Jobs) {
			w.taken.Add(-1)
			return nil
		}
		d, err := w.next(pull)
		if err != nil || d == nil {
			w.taken.Add(-1)
			if err != nil && pull.Err() == nil {
				select {
				case <-pull.Done():
				case <-time.After(retryWait + rand.N(retryWait)):
				}
			}
			continue
		}
		finished, err := w.handle(ctx, d)
		if !finished { // it was handed back, or another had done it
			w.taken.Add(-1)
		}
		w.last.Store(int64(time.Since(w.begun)))
		if err != nil {
			return err
		}
	}
	return nil
}

// next waits a while for a job, of the classes for the largest GPUs first.
func (w *worker) next(ctx context.Context) (d *bus.Delivery, err error) {
	w.mu.Lock()
	classes, wait := w.classes, w.wait()
	w.mu.Unlock()
	if len(classes) > 1 { // in turn
		wait = min(wait, turnWait)
	}
	for _, class := range classes {
		if d, err = w.conn.Next(ctx, w.names.jobs(), class, wait); d != nil || ctx.Err() != nil {
			return d, err
		}
	}
	return nil, err
}

// wait is how long a job is asked for at once.
func (w *worker) wait() time.Duration {
	if w.Idle > 0 {
		return max(50*time.Millisecond, min(pullWait, w.Idle))
	}
	return pullWait
}

// handle does a job, and tells whether it has finished it here.
func (w *worker) handle(ctx context.Context, d *bus.Delivery) (finished bool, err error) {
	name := d.Subject[strings.LastIndexByte(d.Subject, '.')+1:]
	var o order
	var j job.Job
	err = json.Unmarshal(d.Data, &o)
	if err == nil {
		j, err = w.fitted.read(o.Job)
	}
	if err != nil || j.Name() != name {
		w.finish(ctx, d, name, outcome{Failed: "the job cannot be read", Worker: w.Name})
		return false, nil
	}
	if d.Times > 1 { // whoever had it before may have done it; the coordinator has looked before the first time
		if _, err := w.conn.Last(ctx, w.names.results(), w.names.result(name)); err == nil {
			w.acknowledge(d, name)
			return false, nil
		}
	}
	history, elsewhere, err := w.history(ctx, d, name)
	switch crashes := len(history); {
	case err != nil: // what is not known speaks neither for the job nor against it
		_ = d.Return(w.every())
		return false, nil
	case crashes < w.charter.Crashes:
	case crashes >= 2*w.charter.Crashes || !elsewhere || !onOneHost(history):
		var texts []string
		for _, a := range history {
			texts = append(texts, a.String())
		}
		w.finish(ctx, d, name, outcome{Worker: w.Name, Archs: o.Archs,
			Failed: fmt.Sprintf("given up after %d attempts: %s", crashes, strings.Join(texts, "; "))})
		return false, nil
	case history[0].Host == w.Host: // it may be this machine's fault
		_ = d.Return(w.every())
		return false, nil
	}
	w.busy(o.brief(), +1)
	defer w.busy(o.brief(), -1)
	if d.Times > 1 {
		_ = w.conn.Tell(w.names.event(name), encode(event{Again: true}))
	}
	return w.work(ctx, d, name, o.brief(), j)
}

// onOneHost tells whether all attempts were on the same.
func onOneHost(list []attempt) bool {
	return !slices.ContainsFunc(list, func(a attempt) bool { return a.Host != list[0].Host })
}

// mostHistory is how many earlier deliveries are looked at: most of them are none where one host hands a job back to be
// tried on another that has no time.
const mostHistory = 1024

// history lists the earlier attempts that speak against a job, and whether workers of other hosts than this are there
// that may be given it.
func (w *worker) history(ctx context.Context, d *bus.Delivery, name string) (list []attempt, elsewhere bool,
	err error) {
	for n := uint64(max(1, int64(d.Times)-mostHistory)); n < d.Times; n++ {
		m, err := w.conn.Last(ctx, w.names.attempts(), w.names.attempt(name, fmt.Sprint(n)))
		if errors.Is(err, bus.ErrNone) {
			continue
		} else if err != nil {
			return nil, false, err
		}
		var a attempt
		if json.Unmarshal(m.Data, &a) == nil && a.Sequence == d.Sequence && a.crashed() {
			list = append(list, a)
		}
	}
	if len(list) < w.charter.Crashes {
		return list, false, nil
	}
	states, err := workers(ctx, w.conn, w.names)
	if err != nil {
		return nil, false, err
	}
	class, every := strings.Split(d.Subject, ".")[2], w.charter
	every.Memories = memories
	for _, s := range states {
		if s.Host != w.Host && s.State == stateWorking && slices.Contains(every.classesFor(s.Memory), class) &&
			s.Heard.After(states[0].Heard.Add(-2*w.charter.AckWait)) {
			return list, true, nil
		}
	}
	return list, false, nil
}

// work does a job whose turn it is, and tells whether it has.
func (w *worker) work(ctx context.Context, d *bus.Delivery, name, brief string, j job.Job) (finished bool, err error) {
	note := func(state string, err error) {
		a := attempt{Sequence: d.Sequence, Worker: w.Name, Host: w.Host, State: state}
		if err != nil {
			a.Error = tail(err.Error())
		}
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
		defer cancel()
		_ = w.insist(late, func() error {
			return w.conn.Put(late, w.names.attempts(), w.names.attempt(name, fmt.Sprint(d.Times)), encode(a))
		})
	}
	w.hum(name) // before the attempt is noted: whatever comes then, both are known
	note(attemptBegun, nil)
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var beats sync.WaitGroup
	beats.Go(func() { w.beat(inner, d, name, cancel) })
	defer beats.Wait()
	defer cancel(nil)
	device := "cache"
	result, err := w.fitted.do(inner, j, func(n job.Notice) {
		device = n.Device
		w.reach(brief, n.Epoch)
		n.Device = w.Name + "/" + n.Device
		n.Err = tail(n.Err)
		_ = w.conn.Tell(w.names.event(name), encode(event{Notice: &n}))
	})
	switch {
	case err == nil:
		w.finish(ctx, d, name, outcome{Result: result, Archs: j.Archs(), Worker: w.Name, Device: device})
		return true, nil
	case errors.Is(context.Cause(inner), errGone): // somebody else did it, or nobody wants it
		w.Tell(fmt.Sprintf("%v is no longer wanted", j))
	case ctx.Err() != nil:
		note(attemptPreempted, nil)
		_ = d.Return(0)
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
		defer cancel()
		_ = w.conn.Flush(late)
	case job.Unfit(err) || w.unsound(&err):
		note(attemptUnfit, err)
		_ = d.Return(0)
		return false, fmt.Errorf("%w: %w", ErrUnfit, err)
	default:
		note(attemptFailed, err)
		w.Tell(fmt.Sprintf("%v failed here: %v", j, err))
		_ = d.Return(min(retryWait, w.every()))
	}
	return false, nil
}

// unsound tells whether the machine is to blame for an error, and adds why.
func (w *worker) unsound(err *error) bool {
	if w.fitted.Sound == nil {
		return false
	}
	why := w.fitted.Sound()
	if why != nil {
		*err = fmt.Errorf("%w, after: %w", why, *err)
	}
	return why != nil
}

// errGone says that a job is no longer in the queue.
var errGone = errors.New("the job is no longer in the queue")

// beat says that a job is worked at, and ends the work where the job is gone.
func (w *worker) beat(ctx context.Context, d *bus.Delivery, name string, gone func(error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.every()):
		}
		_ = d.Working()
		w.hum(name)
		if _, err := w.conn.Last(ctx, w.names.jobs(), d.Subject); errors.Is(err, bus.ErrNone) {
			gone(errGone)
			return
		}
	}
}

// hum lets the coordinator hear that somebody has a job.
func (w *worker) hum(name string) { _ = w.conn.Tell(w.names.event(name), encode(event{})) }

// insist tries again what the server does not take, until ctx is done.
func (w *worker) insist(ctx context.Context, try func() error) error {
	for wait := retryWait; ; wait = min(2*wait, mostPause) {
		err := try()
		if err == nil || errors.Is(err, bus.ErrTaken) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-w.conn.Ended():
			return err
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

// finish sends what has become of a job. What the server does not take at once is put by in the spool and sent again,
// for as long as that takes, or until the worker is told to stop; one that ends when it is idle waits no longer than so
// long for a server, if the spool has it.
func (w *worker) finish(ctx context.Context, d *bus.Delivery, name string, o outcome) {
	ctx, cancel := lasting(ctx)
	defer cancel()
	waits, stop := ctx, context.CancelFunc(func() {})
	if w.Idle > 0 {
		waits, stop = context.WithTimeout(ctx, w.Idle)
	}
	defer stop()
	text, kept := encode(o), ""
	err := w.conn.Put(waits, w.names.results(), w.names.result(name), text)
	if errors.Is(err, bus.ErrLarge) {
		o.Result, o.Failed = nil, fmt.Sprintf("as a result for the farm's server %v", err)
		text = encode(o)
		err = w.conn.Put(waits, w.names.results(), w.names.result(name), text)
	}
	if err != nil && !errors.Is(err, bus.ErrTaken) {
		kept = w.spool(name, o)
	}
	if err != nil {
		if kept == "" { // it would be lost
			waits = ctx
		}
		err = w.send(waits, name, text)
		if err != nil && waits.Err() != nil && ctx.Err() == nil {
			w.drain()
		}
	}
	if err != nil {
		if kept != "" {
			w.Tell(fmt.Sprintf("a record could not be sent yet: it is kept in %s", kept))
		}
		return
	}
	if kept != "" {
		_ = os.Remove(kept)
	}
	w.mu.Lock()
	w.state.Done++
	w.mu.Unlock()
	w.acknowledge(d, name)
}

// lasting is done a while after ctx is.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	long, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(stopWait, cancel) })
	return long, func() { stop(); cancel() }
}

// send puts an outcome where it cannot be overwritten. One that is there already counts; that it differs is told.
func (w *worker) send(ctx context.Context, name string, text []byte) error {
	err := w.insist(ctx, func() error { return w.conn.Put(ctx, w.names.results(), w.names.result(name), text) })
	if !errors.Is(err, bus.ErrTaken) {
		return err
	}
	m, err := w.conn.Last(ctx, w.names.results(), w.names.result(name))
	if err != nil {
		return nil // it is there, and what it says is not known
	}
	var first, second outcome
	if json.Unmarshal(m.Data, &first) == nil && json.Unmarshal(text, &second) == nil && w.differ(first, second) {
		w.Tell(fmt.Sprintf("the result of job %s differs from that of worker %s, which counts", name, first.Worker))
		_ = w.conn.Put(ctx, w.names.attempts(), w.names.attempt(name, attemptDifferent), text)
		_ = w.conn.Tell(w.names.event(name), encode(event{Different: true}))
	}
	return nil
}

// differ tells whether two outcomes are results that do. A failure is none.
func (w *worker) differ(a, b outcome) bool {
	return len(a.Result) > 0 && len(b.Result) > 0 && !w.fitted.same(a.Result, b.Result)
}

// attemptDifferent is where a record is kept that differs from the one that counts.
const attemptDifferent = "different"

// acknowledge removes a job that is done from the queue, and tells the coordinator. Where that does not arrive the job
// is handed out again and found to be done.
func (w *worker) acknowledge(d *bus.Delivery, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), w.every())
	defer cancel()
	_ = w.conn.Tell(w.names.event(name), encode(event{Done: true}))
	_ = d.Done(ctx)
}

// spool keeps an outcome until it has been sent; empty where there is no folder for it.
func (w *worker) spool(name string, o outcome) (path string) {
	if w.Work == "" {
		return ""
	}
	path = filepath.Join(w.spoolFolder(), name+".json")
	text, err := checkpoint.SealJSON(o)
	if err = errors.Join(err, files.MkdirAll(filepath.Dir(path))); err == nil {
		err = files.Write(path, text)
	}
	if err != nil {
		w.Tell(fmt.Sprintf("a record cannot be kept until it is sent: %v", err))
		return ""
	}
	return path
}

func (w *worker) spoolFolder() string { return filepath.Join(w.Work, "spool", w.charter.Search) }

// mostOutcome bounds what is read of one, which is spaced for people.
const mostOutcome = 4 << 20

// sendSpool sends what an earlier worker of this folder could not.
func (w *worker) sendSpool(ctx context.Context) {
	if w.Work == "" {
		return
	}
	entries, _ := os.ReadDir(w.spoolFolder()) // there may be none
	for _, e := range entries {
		name, found := strings.CutSuffix(e.Name(), ".json")
		if !found || notInNames.MatchString(name) {
			continue
		}
		path := filepath.Join(w.spoolFolder(), e.Name())
		var o outcome
		text, err := files.Read(path, mostOutcome)
		if err == nil {
			err = checkpoint.OpenJSON(text, &o)
		}
		if errors.Is(err, fs.ErrNotExist) { // another worker of this folder has sent it
			continue
		} else if err != nil {
			w.Tell(fmt.Sprintf("a record that was kept in %s is not sent: %v", path, err))
			continue
		}
		if w.send(ctx, name, encode(o)) == nil {
			_ = os.Remove(path)
			_ = w.conn.Tell(w.names.event(name), encode(event{Done: true}))
			w.Tell("a record was sent that had been kept in " + path)
		}
	}
}

// control hears what workers are told.
func (w *worker) control(subject string, data []byte) []byte {
	who := subject[strings.LastIndexByte(subject, '.')+1:]
	switch {
	case who == everybody && string(data) == controlEnded:
		w.Tell("the search has ended")
		w.drain()
	case who == everybody && string(data) == controlCharter:
		select {
		case w.news <- struct{}{}:
		default:
		}
	case who == w.Name && string(data) == controlDrain:
		w.Tell("this worker is drained: it ends its jobs and takes no more")
		w.drain()
		return []byte("draining")
	}
	return nil
}

// stateWorking is the state of workers that take jobs.
const stateWorking = "working"

// busy notes a job that is begun, or has ended.
func (w *worker) busy(what string, by int) {
	w.mu.Lock()
	if by > 0 {
		w.state.Jobs = append(w.state.Jobs, Doing{Job: what})
	} else if i := w.state.at(what); i >= 0 {
		w.state.Jobs = slices.Delete(w.state.Jobs, i, i+1)
	}
	w.mu.Unlock()
	w.change()
}

// reach notes how far a job is. It is told with what else is.
func (w *worker) reach(what string, epoch int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := w.state.at(what); i >= 0 {
		w.state.Jobs[i].Epoch = max(w.state.Jobs[i].Epoch, epoch)
	}
}

// at is where a job stands among those that a worker is at; -1: nowhere.
func (s *WorkerState) at(what string) int {
	return slices.IndexFunc(s.Jobs, func(d Doing) bool { return d.Job == what })
}

// change has what the worker does told soon, and not for each of a crowd of short jobs.
func (w *worker) change() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// tellState puts what the worker does where whoever asks finds it, if there is a server.
func (w *worker) tellState(state string) {
	var v Vitals
	if w.Vitals != nil {
		v = w.Vitals()
	}
	w.mu.Lock()
	w.state.State, w.state.Vitals = state, v
	text := encode(w.state)
	w.mu.Unlock()
	if !w.conn.Connected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), mostPause)
	defer cancel()
	_ = w.conn.Put(ctx, w.names.farm(), w.names.worker(w.Name), text)
}
