//go:build !nofarm

package farm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ctnas/ctnas/internal/bus"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/metrics"
	"github.com/ctnas/ctnas/search/job"
)

// Defaults of Config.
const (
	DefaultAckWait = 60 * time.Second
	DefaultCrashes = 3
)

// Config is how a coordinator works.
type Config struct {
	Dir  string // its folder: keys, secrets, the server's store. One process at a time is at work there
	Keys string // another folder that MakeKeys has made; empty: Dir, where they are made
	// At is the address to listen at, HOST:PORT, or the URL of a server that is there already (nats://, tls://).
	At      string
	AckWait time.Duration // 0: DefaultAckWait
	Crashes int           // attempts that may fail before a job is given up; 0: DefaultCrashes
	Quick   bool          // see bus.ServerConfig
	Tell    func(text string)
	// Joined is told once how workers join: where, and the folder of keys that they need (none: empty).
	Joined  func(join, keys string)
	Command string // the line that started it: who finds the folder's lock reads it
	// Differs is told once of each job of which two workers have sent results that differ, also of what a coordinator
	// before this one has seen; may be nil.
	Differs func(Difference)
}

// Difference is a job of which two workers have sent results that differ: hardware that does not repeat itself, or
// worse. The first one counts, and the server keeps the other.
type Difference struct {
	Job           string   // its name
	Archs         []string // what it was done for
	First, Second string   // the workers
}

// Queue does jobs by having them done by workers. Nothing is opened before the first job.
type Queue struct {
	Config
	opening  sync.Mutex
	failed   error
	lock     *files.FolderLock
	server   *bus.Server
	conn     *bus.Conn
	names    names
	charter  Charter
	stop     context.CancelFunc
	work     sync.WaitGroup
	clearing sync.Mutex
	submits  chan struct{} // bounds how many are submitted at once
	done     chan string   // the names of jobs that workers say are done
	doubted  chan string   // of those of which they say that results differ

	mu        sync.Mutex
	waiting   map[string][]*waiter
	heard     map[string]time.Time // when a job that is waited for was submitted, or its worker last said a word
	different map[string]Difference
	complaint string // what was told last of a server that does not do what it is asked for
}

var _ job.Farm = (*Queue)(nil)

// waiter is a call of Do.
type waiter struct {
	job     job.Job
	believe func(result []byte) error
	done    chan verdict

	mu   sync.Mutex
	tell func(job.Notice) // nil: it hears no more
}

type verdict struct {
	device string
	err    error
}

func (w *waiter) hear(n job.Notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tell != nil {
		w.tell(n)
	}
}

const (
	mostJobs    = 4096 // in the queue at once
	mostAtOnce  = 16
	retryWait   = 200 * time.Millisecond
	leastSweep  = 100 * time.Millisecond
	mostSweep   = 5 * time.Second
	mostSilence = 3  // times AckWait, after which a worker should have said something of a job
	looksASweep = 64 // results that are looked for though their jobs are still in the queue
)

// NewQueue opens nothing yet. Close it after use.
func NewQueue(c Config) *Queue {
	if c.AckWait == 0 {
		c.AckWait = DefaultAckWait
	}
	if c.Crashes == 0 {
		c.Crashes = DefaultCrashes
	}
	if c.Tell == nil {
		c.Tell = func(string) {}
	}
	if c.Differs == nil {
		c.Differs = func(Difference) {}
	}
	return &Queue{Config: c, waiting: map[string][]*waiter{}, heard: map[string]time.Time{},
		different: map[string]Difference{}, submits: make(chan struct{}, mostAtOnce),
		done: make(chan string, 2*mostJobs), doubted: make(chan string, mostAtOnce)}
}

// CheckAddress tells whether a text is one of Config.At.
func CheckAddress(at string) error {
	_, _, err := address(at)
	return err
}

// address reads Config.At: a host and port to listen at, or else a server that is there.
func address(at string) (host string, port int, err error) {
	wrong := fmt.Errorf("%q: want HOST:PORT to listen at, or nats://HOST:PORT or tls://HOST:PORT of a server", at)
	if strings.Contains(at, "://") {
		u, err := url.Parse(at)
		if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" || strings.Trim(u.Path, "/") != "" {
			return "", 0, wrong
		}
		if u.Scheme == "nats" && !loopback(u.Hostname()) {
			return "", 0, fmt.Errorf("%q: off this machine it must be tls://", at)
		}
		return "", -1, nil
	}
	host, text, err := net.SplitHostPort(at)
	if err != nil {
		return "", 0, wrong
	}
	if port, err = strconv.Atoi(text); err != nil || port < 0 || port > 65535 {
		return "", 0, wrong
	}
	return host, port, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Capacity is what the queue holds, however many there are by now: workers come and go, and more jobs may follow.
func (q *Queue) Capacity(int) int { return mostJobs }

// Do waits until a worker has done the job and its result is believed. It is a job.Failed where the job was given up
// or cancelled.
func (q *Queue) Do(ctx context.Context, j job.Job, believe func(result []byte) error, tell func(job.Notice)) error {
	if err := q.open(ctx, j); err != nil {
		return err
	}
	name, w := j.Name(), &waiter{job: j, believe: believe, done: make(chan verdict, 1), tell: tell}
	q.mu.Lock()
	q.waiting[name] = append(q.waiting[name], w)
	q.heard[name] = time.Now()
	q.mu.Unlock()
	defer q.forget(name, w)
	if err := q.submit(ctx, name, j, false); err != nil {
		return err
	}
	select {
	case v := <-w.done:
		w.mu.Lock()
		w.tell = nil
		w.mu.Unlock()
		if v.err == nil {
			tell(job.Notice{Device: v.device})
		}
		return v.err
	case <-ctx.Done():
		return ctx.Err()
	case <-q.conn.Ended():
		return errors.New("the farm's server has ended the connection")
	}
}

// forget ends a call of Do.
func (q *Queue) forget(name string, w *waiter) {
	w.mu.Lock()
	w.tell = nil
	w.mu.Unlock()
	q.leave(name, w)
}

// leave takes a call of Do from those that wait. It does not wait for what the call is told just now: whoever reads
// that slowly holds up nobody else.
func (q *Queue) leave(name string, w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := q.waiting[name][:0]
	for _, other := range q.waiting[name] {
		if other != w {
			left = append(left, other)
		}
	}
	if q.waiting[name] = left; len(left) == 0 {
		delete(q.waiting, name)
		delete(q.heard, name)
	}
}

// open starts what is needed, before the first job.
func (q *Queue) open(ctx context.Context, j job.Job) error {
	q.opening.Lock()
	defer q.opening.Unlock()
	if q.conn == nil && q.failed == nil {
		q.failed = q.start(ctx, j)
	}
	if q.failed == nil && j.Terms() != q.charter.Terms {
		return fmt.Errorf("%v is of another kind, program, level or set of images than the others of this farm", j)
	}
	return q.failed
}

func (q *Queue) start(ctx context.Context, j job.Job) (err error) {
	host, port, err := address(q.At)
	if err != nil {
		return err
	}
	if err := files.MkdirAll(q.Dir); err != nil {
		return err
	}
	if q.lock, err = files.Lock(q.Dir, q.Command); err != nil {
		return err
	}
	search, err := identity(filepath.Join(q.Dir, "id"))
	if err != nil {
		return err
	}
	q.charter = Charter{Search: search, Terms: j.Terms(), AckWait: q.AckWait, Crashes: q.Crashes}
	if accelerated(q.charter.Level) {
		q.charter.Memories = memories[:1]
	}
	at, err := q.connect(ctx, host, port)
	if err != nil && q.server != nil && ctx.Err() == nil {
		q.Tell(fmt.Sprintf("%v: the store of the farm's server is begun anew", err))
		q.disconnect()
		if err = os.RemoveAll(q.store()); err == nil {
			at, err = q.connect(ctx, host, port)
		}
	}
	if err != nil {
		return err
	}
	if err := q.writeJoining(at); err != nil {
		return err
	}
	stopHearing, _, err := q.conn.Hear(q.names.event("*"), q.hear)
	if err != nil {
		return err
	}
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	q.stop = func() {
		stopHearing()
		stop()
	}
	for _, c := range []metrics.Counter{differing, redelivered, failed} {
		c.Add(0)
	}
	q.work.Go(func() { q.sweep(inner) })
	q.work.Go(func() { q.compare(inner) })
	for range mostAtOnce {
		q.work.Go(func() {
			for {
				select {
				case <-inner.Done():
					return
				case name := <-q.done:
					q.fetch(inner, name)
				}
			}
		})
	}
	if q.Joined != nil {
		q.Joined(at.Join, at.Keys)
	}
	return nil
}

// connect starts the server, unless there is another, and makes what it has to have.
func (q *Queue) connect(ctx context.Context, host string, port int) (at joining, err error) {
	at, who, err := q.serve(host, port)
	if err != nil {
		return at, err
	}
	if q.conn, err = bus.Dial(ctx, at.URL, "coordinator", who, func(why error) { q.Tell(why.Error()) }); err != nil {
		return at, err
	}
	return at, q.prepare(ctx)
}

// disconnect ends the connection, and the server if it is one of its own.
func (q *Queue) disconnect() {
	if q.conn != nil {
		q.conn.Close()
		q.conn = nil
	}
	if q.server != nil {
		q.server.Close()
		q.server = nil
	}
}

// store is the folder of the server's streams.
func (q *Queue) store() string { return filepath.Join(q.Dir, "store") }

// serve starts the server, unless there is another, and returns where it is and who the coordinator is there.
func (q *Queue) serve(host string, port int) (at joining, who bus.Credentials, err error) {
	if port < 0 {
		q.names = names(q.charter.Search)
		at = joining{URL: q.At, Join: strings.TrimRight(q.At, "/") + "/" + q.charter.Search, Names: q.names}
		if q.Keys != "" { // which that server knows
			at.Folder, at.Keys = q.Keys, filepath.Join(q.Keys, bus.KeysFolder)
			who, err = bus.Owner(q.Keys)
		}
		return at, who, err
	}
	q.names = onlyFarm
	folder := q.Keys
	if folder == "" {
		folder = q.Dir
		if err := bus.MakeKeys(folder); err != nil {
			return at, who, err
		}
	}
	if who, err = bus.Owner(folder); err != nil {
		return at, who, err
	}
	if q.server, err = bus.Serve(bus.ServerConfig{Host: host, Port: port, Keys: folder,
		Store: q.store(), Publish: q.names.publishes(), Subscribe: q.names.subscribes(),
		Quick: q.Quick, Log: q.Tell}); err != nil {
		return at, who, fmt.Errorf("--farm %s: %w", q.At, err)
	}
	name, err := os.Hostname()
	if err != nil {
		name = "HOST"
	}
	text := strconv.Itoa(q.server.Port())
	return joining{URL: "tls://" + net.JoinHostPort(reach(host, "127.0.0.1"), text),
		Join: "tls://" + net.JoinHostPort(reach(host, name), text), Names: q.names, Folder: folder,
		Keys: filepath.Join(folder, bus.KeysFolder)}, who, nil
}

// reach is the name of a listening address for others.
func reach(host, otherwise string) string {
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return otherwise
	}
	return host
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// JoinName is the file in Config.Dir that says where a coordinator's farm is, for workers that share the folder.
const JoinName = "join.json"

type joining struct {
	Join   string `json:"join"` // where workers join
	URL    string `json:"url"`  // where this machine does
	Names  names  `json:"names"`
	Folder string `json:"folder,omitempty"` // of keys and secrets, from the file's folder; empty: there are none
	Keys   string `json:"keys,omitempty"`   // of keys, likewise
}

// writeJoining writes the file, which is read from other folders than this process is in, and where the coordinator's
// folder has another name.
func (q *Queue) writeJoining(at joining) (err error) {
	for _, path := range []*string{&at.Folder, &at.Keys} {
		if *path == "" {
			continue
		}
		if q.Keys != "" {
			*path, err = filepath.Abs(*path)
		} else {
			*path, err = filepath.Rel(q.Dir, *path)
		}
		if err != nil {
			return err
		}
	}
	return files.Write(filepath.Join(q.Dir, JoinName), encode(at))
}

// readJoining reads the file.
func readJoining(path string) (at joining, err error) {
	text, err := files.Read(path, 64<<10)
	if err != nil {
		return at, err
	}
	if err := json.Unmarshal(text, &at); err != nil || at.Join == "" || at.URL == "" {
		return at, fmt.Errorf("%s: it does not say where a farm is", path)
	}
	for _, folder := range []*string{&at.Folder, &at.Keys} {
		if *folder != "" && !filepath.IsAbs(*folder) {
			*folder = filepath.Join(filepath.Dir(path), *folder)
		}
	}
	return at, nil
}

// identity tells searches apart, also where they are resumed.
func identity(path string) (string, error) {
	text, err := files.Read(path, 256)
	if err == nil && len(strings.TrimSpace(string(text))) == 16 {
		return strings.TrimSpace(string(text)), nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails
	return hex.EncodeToString(id[:]), files.Write(path, []byte(hex.EncodeToString(id[:])+"\n"))
}

// prepare makes what the server has to have, and removes what another program, level or set of images has left there.
func (q *Queue) prepare(ctx context.Context) error {
	for _, s := range q.names.streams() {
		if err := q.conn.MakeStream(ctx, s); err != nil {
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
	}
	others, err := q.conn.Consumers(ctx, q.names.jobs())
	if err != nil {
		return err
	}
	for _, other := range others {
		if of, memory, _ := strings.Cut(other, "-"); of == q.charter.class() {
			if n, err := strconv.Atoi(memory); err == nil { // there were jobs of it
				q.admits(n)
			}
			continue
		}
		err := errors.Join(q.conn.RemoveConsumer(ctx, q.names.jobs(), other),
			q.conn.Purge(ctx, q.names.jobs(), q.names.job(other, "*")))
		if err != nil {
			return err
		}
	}
	c := q.readCharter()
	for _, class := range c.classesFor(0) {
		if err := q.conn.MakeConsumer(ctx, q.names.jobs(), class, q.names.job(class, "*"), q.AckWait); err != nil {
			return err
		}
	}
	return q.conn.Put(ctx, q.names.farm(), q.names.charter(), encode(c))
}

// readCharter is the charter as it is now.
func (q *Queue) readCharter() Charter {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.charter
}

// admits notes that there are jobs for a class of GPUs, and tells whether that is news.
func (q *Queue) admits(memory int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if slices.Contains(q.charter.Memories, memory) {
		return false
	}
	q.charter.Memories = append(slices.Clip(q.charter.Memories), memory)
	return true
}

// admit has workers ask for jobs of a class of GPUs.
func (q *Queue) admit(ctx context.Context, memory int) error {
	if memory == 0 || !q.admits(memory) {
		return nil
	}
	if err := q.prepare(ctx); err != nil {
		return err // the sweep prepares again what fails
	}
	return q.conn.Tell(q.names.control(everybody), []byte(controlCharter))
}

// submit puts a job into the queue, unless it is there or done. It goes on for as long as it takes. One that was there
// before may have a result that nobody can read.
func (q *Queue) submit(ctx context.Context, name string, j job.Job, again bool) error {
	select {
	case q.submits <- struct{}{}:
		defer func() { <-q.submits }()
	case <-ctx.Done():
		return ctx.Err()
	}
	memory := memoryOf(j)
	for {
		if again {
			q.unblock(ctx, name, j)
		}
		if q.fetch(ctx, name) {
			return nil
		}
		err := q.admit(ctx, memory)
		if err == nil {
			err = q.conn.Put(ctx, q.names.jobs(), q.names.job(q.charter.classIn(memory), name), orderOf(j))
		}
		if err == nil || errors.Is(err, bus.ErrTaken) {
			return nil
		}
		if errors.Is(err, bus.ErrLarge) {
			return fmt.Errorf("%v: as a job for the farm's server %w", j, err)
		}
		if ctx.Err() == nil {
			q.complain(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-q.conn.Ended():
			return fmt.Errorf("%v cannot be submitted: %w", j, err)
		case <-time.After(retryWait):
		}
	}
}

// unblock removes the results that the server has where it has one that it cannot read, as after damage to its store:
// such a job would be done for ever, as its result is never found and none takes its place. The server does not remove
// it alone, for which it would have to read it. Of the others those are taken first that are waited for.
func (q *Queue) unblock(ctx context.Context, name string, j job.Job) {
	stream, subject := q.names.results(), q.names.result(name)
	q.clearing.Lock()
	defer q.clearing.Unlock()
	if there, err := q.conn.Subjects(ctx, stream, subject); err != nil || len(there) == 0 {
		return
	}
	if _, err := q.conn.Last(ctx, stream, subject); !errors.Is(err, bus.ErrNone) {
		return
	}
	q.Tell(fmt.Sprintf("%v: the farm's server has a result of it that it cannot read: its results are removed, and "+
		"what of them is waited for is done again", j))
	q.mu.Lock()
	names := slices.Collect(maps.Keys(q.waiting))
	q.mu.Unlock()
	for _, other := range names {
		q.fetch(ctx, other)
	}
	if err := q.conn.Purge(ctx, stream, ">"); err != nil && ctx.Err() == nil {
		q.complain(err)
	}
}

// complain tells what keeps the server from taking jobs, which are offered again for as long as it takes: once,
// until it is something else.
func (q *Queue) complain(err error) {
	q.mu.Lock()
	told := q.complaint == err.Error()
	q.complaint = err.Error()
	q.mu.Unlock()
	if !told {
		q.Tell(fmt.Sprintf("jobs wait for the farm's server: %v", err))
	}
}

// fetch stores the outcome of a job, if there is one, and tells those who wait for it. It is false where it has to be
// waited for still.
func (q *Queue) fetch(ctx context.Context, name string) bool {
	q.mu.Lock()
	waiting := slices.Clone(q.waiting[name])
	q.mu.Unlock()
	if len(waiting) == 0 {
		return true
	}
	m, err := q.conn.Last(ctx, q.names.results(), q.names.result(name))
	if err != nil {
		return false
	}
	var verdicts []verdict
	final := true
	for _, w := range waiting {
		v, good := q.judge(w, m.Data)
		verdicts, final = append(verdicts, v), final && good
	}
	for _, w := range waiting { // before the outcome may be gone: nobody submits the job again for them
		q.leave(name, w)
	}
	if !final { // it is told once: whoever asks for the job later, a resume for one, has it done anew
		if err := q.conn.Forget(ctx, q.names.results(), m); err != nil && ctx.Err() != nil {
			return false
		}
		failed.Add(1)
	}
	for i, w := range waiting {
		select {
		case w.done <- verdicts[i]:
		default: // it has one
		}
	}
	return true
}

// judge has an outcome believed that fits its job. Others are not kept.
func (q *Queue) judge(w *waiter, text []byte) (v verdict, keep bool) {
	var o outcome
	err := json.Unmarshal(text, &o)
	switch unbelievable := new(job.Unbelievable); {
	case err != nil:
	case len(o.Result) > 0:
		if err = w.believe(o.Result); err == nil || !errors.As(err, &unbelievable) {
			return verdict{o.Worker + "/" + o.Device, err}, true
		}
	case o.Failed != "":
		return verdict{err: &job.Failed{Err: fmt.Errorf("%v: %s; a resume has it tried again", w.job, o.Failed)}}, false
	default:
		err = errors.New("it holds neither a result nor a reason")
	}
	return verdict{err: fmt.Errorf("%v: what worker %q sent cannot be believed: %w; a resume has it done again", w.job,
		o.Worker, err)}, false
}

// hear takes what workers tell. While it waits for somebody who is told, nothing else is heard: the sweep finds
// results.
func (q *Queue) hear(subject string, data []byte) []byte {
	name := subject[strings.LastIndexByte(subject, '.')+1:]
	var e event
	if json.Unmarshal(data, &e) != nil {
		return nil
	}
	q.mu.Lock()
	waiting := append([]*waiter(nil), q.waiting[name]...)
	if len(waiting) > 0 {
		q.heard[name] = time.Now()
	}
	q.mu.Unlock()
	switch {
	case e.Again:
		redelivered.Add(1)
	case e.Different:
		select {
		case q.doubted <- name:
		default: // who looks for all of them in the end finds it
		}
	case e.Notice != nil:
		for _, w := range waiting {
			w.hear(*e.Notice)
		}
	case e.Done && len(waiting) > 0:
		select {
		case q.done <- name:
		default: // the sweep finds it
		}
	}
	return nil
}

// sweep looks after what no event told: results, and jobs that are no longer in the queue.
func (q *Queue) sweep(ctx context.Context) {
	every := min(max(q.AckWait/10, leastSweep), mostSweep)
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		q.mu.Lock()
		jobs := make(map[string]job.Job, len(q.waiting))
		silent := map[string][]string{}
		for name, list := range q.waiting {
			jobs[name] = list[0].job
			if time.Since(q.heard[name]) > mostSilence*q.AckWait {
				class := q.charter.classIn(memoryOf(list[0].job))
				silent[class] = append(silent[class], name)
			}
		}
		q.mu.Unlock()
		for class, names := range silent {
			q.rouse(ctx, class, names)
		}
		if len(jobs) == 0 {
			continue
		}
		subjects, err := q.conn.Subjects(ctx, q.names.jobs(), q.names.job("*", "*"))
		if err != nil {
			if err := q.prepare(ctx); err != nil && ctx.Err() == nil { // otherwise the store was a new one
				q.complain(err)
			}
			continue
		}
		queued := make(map[string]bool, len(subjects))
		for _, s := range subjects {
			queued[s[strings.LastIndexByte(s, '.')+1:]] = true
		}
		looks := 0
		var again sync.WaitGroup
		for name, j := range jobs {
			if ctx.Err() != nil {
				return
			}
			if queued[name] {
				if looks++; looks <= looksASweep { // whoever did it may have died before it told
					q.fetch(ctx, name)
				}
				continue
			}
			again.Go(func() { _ = q.submit(ctx, name, j, true) })
		}
		again.Wait()
	}
}

// rouse removes silent jobs of a class from the queue, to be submitted again, if workers wait for jobs of it and are
// given none: then the server has lost track of them, as JetStream may.
func (q *Queue) rouse(ctx context.Context, class string, silent []string) {
	fresh, asked, err := q.conn.Demand(ctx, q.names.jobs(), class)
	if err != nil || fresh > 0 || asked == 0 {
		return
	}
	for _, name := range silent {
		if q.fetch(ctx, name) {
			continue
		}
		_ = q.conn.Remove(ctx, q.names.jobs(), q.names.job(class, name)) // or the next turn does
		q.mu.Lock()
		if q.heard[name] != (time.Time{}) {
			q.heard[name] = time.Now()
		}
		q.mu.Unlock()
	}
}

// compare tells of results that differ: those that the server has, and those that workers tell of.
func (q *Queue) compare(ctx context.Context) {
	q.compareAll(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case name := <-q.doubted:
			q.differs(ctx, name)
		}
	}
}

// compareAll tells of all that the server keeps: an event may have been lost.
func (q *Queue) compareAll(ctx context.Context) {
	subjects, _ := q.conn.Subjects(ctx, q.names.attempts(), q.names.attempt("*", attemptDifferent))
	for _, s := range slices.Sorted(slices.Values(subjects)) {
		q.differs(ctx, strings.Split(s, ".")[2])
	}
}

// differs notes a job of which the server keeps two results, and tells of it once.
func (q *Queue) differs(ctx context.Context, name string) {
	q.mu.Lock()
	_, known := q.different[name]
	q.mu.Unlock()
	if known {
		return
	}
	var first, second outcome
	for at, o := range map[[2]string]*outcome{
		{q.names.results(), q.names.result(name)}:                     &first,
		{q.names.attempts(), q.names.attempt(name, attemptDifferent)}: &second,
	} {
		m, err := q.conn.Last(ctx, at[0], at[1])
		if err == nil {
			err = json.Unmarshal(m.Data, o)
		}
		if err != nil { // a worker says so, and the server has nothing of the kind
			return
		}
	}
	d := Difference{name, second.Archs, first.Worker, second.Worker}
	q.mu.Lock()
	_, known = q.different[name]
	q.different[name] = d
	q.mu.Unlock()
	if !known {
		differing.Add(1)
		q.Differs(d)
	}
}

// Different lists the jobs of which two workers have sent results that differ, by their names.
func (q *Queue) Different(ctx context.Context) (list []Difference) {
	q.opening.Lock()
	open := q.conn != nil
	q.opening.Unlock()
	if open {
		q.compareAll(ctx)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(q.different)) {
		list = append(list, q.different[name])
	}
	return list
}

// End tells the workers that the search has ended. It does nothing where nothing was opened.
func (q *Queue) End(ctx context.Context) error {
	q.opening.Lock()
	defer q.opening.Unlock()
	if q.conn == nil {
		return nil
	}
	q.mu.Lock()
	q.charter.Ended = true
	q.mu.Unlock()
	err := errors.Join(q.conn.Put(ctx, q.names.farm(), q.names.charter(), encode(q.readCharter())),
		q.conn.Tell(q.names.control(everybody), []byte(controlEnded)), q.conn.Flush(ctx))
	if q.server == nil { // whoever comes late still finds that it has ended
		for _, s := range q.names.streams() {
			if s.Name != q.names.farm() {
				err = errors.Join(err, q.conn.RemoveStream(ctx, s.Name))
			}
		}
	}
	return err
}

// Close ends the server, if it is one of its own, and leaves what is queued.
func (q *Queue) Close() error {
	q.opening.Lock()
	defer q.opening.Unlock()
	if q.stop != nil {
		q.stop()
		q.work.Wait()
		q.stop = nil
	}
	q.disconnect()
	q.failed = errors.New("the farm is closed")
	if q.lock == nil {
		return nil
	}
	lock := q.lock
	q.lock = nil
	return lock.Unlock()
}
