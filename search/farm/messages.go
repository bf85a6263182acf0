//go:build !nofarm

package farm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ctnas/ctnas/internal/bus"
	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/search/job"
)

// names are those of a farm's streams and subjects. A server within this program has one farm, another server any
// number.
type names string

const onlyFarm names = "main"

func (n names) jobs() string     { return "JOBS_" + string(n) }
func (n names) results() string  { return "RESULTS_" + string(n) }
func (n names) attempts() string { return "ATTEMPTS_" + string(n) }
func (n names) farm() string     { return "FARM_" + string(n) }

func (n names) job(class, name string) string { return "jobs." + string(n) + "." + class + "." + name }
func (n names) result(name string) string     { return "results." + string(n) + "." + name }
func (n names) event(name string) string      { return "events." + string(n) + "." + name }
func (n names) worker(name string) string     { return "farm." + string(n) + ".worker." + name }
func (n names) charter() string               { return "farm." + string(n) + ".charter" }
func (n names) control(who string) string     { return "control." + string(n) + "." + who }
func (n names) attempt(name, which string) string {
	return "attempts." + string(n) + "." + name + "." + which
}

// streams are what a farm keeps on its server.
func (n names) streams() []bus.Stream {
	return []bus.Stream{
		{Name: n.jobs(), Subjects: n.job("*", "*"), Queue: true},
		{Name: n.results(), Subjects: n.result("*")},
		{Name: n.attempts(), Subjects: n.attempt("*", "*"), Replaced: true},
		{Name: n.farm(), Subjects: "farm." + string(n) + ".>", Replaced: true},
	}
}

// publishes and subscribes are the subjects of a worker's permissions.
func (n names) publishes() []string {
	list := []string{"$JS.API.CONSUMER.INFO." + n.jobs() + ".*", "$JS.API.CONSUMER.MSG.NEXT." + n.jobs() + ".*",
		"$JS.ACK." + n.jobs() + ".>", "$JS.API.STREAM.INFO." + n.farm(), n.result("*"), n.attempt("*", "*"),
		n.event("*"), n.worker("*")}
	for _, s := range n.streams() {
		list = append(list, "$JS.API.DIRECT.GET."+s.Name+".>")
	}
	return list
}

func (n names) subscribes() []string { return []string{"_INBOX.>", n.control("*")} }

// Charter is what a farm works at, for workers to see whether they fit.
type Charter struct {
	Search string `json:"search"` // tells searches apart
	job.Terms
	// AckWait is how long a job is a worker's that says nothing of it.
	AckWait time.Duration `json:"ack_wait"`
	Crashes int           `json:"crashes"` // after which a job is given up
	Ended   bool          `json:"ended,omitempty"`
	// Memories are the classes of GPUs (memories) that there are jobs for; there are none of processors.
	Memories []int `json:"memories,omitempty"`
}

// check finds what no coordinator writes: the search's name becomes one of a folder.
func (c Charter) check() error {
	if c.Search == "" || notInNames.MatchString(c.Search) || c.AckWait <= 0 || c.Crashes <= 0 {
		return fmt.Errorf("search %q, patience %v, %d attempts", c.Search, c.AckWait, c.Crashes)
	}
	return nil
}

// class names those workers that can do a job: of one program, on one kind of device, with the same images.
func (c Charter) class() string {
	return classOf(c.Terms)
}

func classOf(t job.Terms) string { return digest.Of(encode(t))[:16] }

// memories are the classes of GPUs by their memory, in GiB. Who has less than the first is of it, too.
var memories = []int{16, 24, 40, 80, 140}

const (
	usableMemory = 0.95    // of what a class is called: the share that all its GPUs have
	ownMemory    = 1 << 30 // bytes of CUDA's own, and of its kernels
)

// has tells whether so many bytes are as many as a class is called by.
func has(bytes int64, memory int) bool {
	return float64(bytes) >= usableMemory*float64(memory)*(1<<30)
}

// memoryOf is the class of GPUs that a job is for: the smallest with room for it, or the largest. 0: one for GPUs of
// whatever size, or for processors.
func memoryOf(j job.Job) int {
	if !accelerated(j.Terms().Level) {
		return 0
	}
	for _, memory := range memories {
		if !has(j.Needs()+ownMemory, memory) {
			return memory
		}
	}
	return memories[len(memories)-1]
}

// accelerated tells a GPU's level, which has a precision, from a processor's.
func accelerated(level string) bool { return strings.Contains(level, "/") }

// classIn names the workers of a class of GPUs.
func (c Charter) classIn(memory int) string {
	if memory == 0 {
		return c.class()
	}
	return fmt.Sprintf("%s-%d", c.class(), memory)
}

// classesFor are those that a worker takes jobs of which has so many bytes of memory for one: the largest first.
func (c Charter) classesFor(bytes int64) (list []string) {
	if !accelerated(c.Level) {
		return []string{c.class()}
	}
	for _, memory := range slices.Backward(slices.Sorted(slices.Values(c.Memories))) {
		if memory == memories[0] || bytes == 0 || has(bytes, memory) {
			list = append(list, c.classIn(memory))
		}
	}
	return list
}

// The states of an attempt. One that has begun and says nothing else has crashed, or is at work.
const (
	attemptBegun     = "begun"
	attemptPreempted = "preempted" // the worker was told to stop
	attemptUnfit     = "unfit"     // the machine failed, not the job
	attemptFailed    = "failed"
)

// attempt is one at a job.
type attempt struct {
	Sequence uint64 `json:"sequence"` // of the message that the job is: another submission counts anew
	Worker   string `json:"worker"`
	Host     string `json:"host"`
	State    string `json:"state"`
	Error    string `json:"error,omitempty"` // the end of it
}

func (a attempt) String() string {
	if a.State == attemptBegun {
		return a.Worker + " ended without a word"
	}
	return a.Worker + ": " + strings.TrimSpace(a.State+" "+a.Error)
}

// crashed tells whether the attempt speaks against its job.
func (a attempt) crashed() bool { return a.State == attemptBegun || a.State == attemptFailed }

// mostError bounds what is sent of an error's text.
const mostError = 4 << 10

// tail is the end of a text.
func tail(text string) string {
	if len(text) > mostError {
		return "…" + strings.ToValidUTF8(text[len(text)-mostError:], "")
	}
	return text
}

// order is a job in the queue.
type order struct {
	Archs []string        `json:"archs"` // what it is done for
	Job   json.RawMessage `json:"job"`   // that its kind reads
}

func orderOf(j job.Job) []byte { return encode(order{j.Archs(), encode(j)}) }

// brief names it in few words.
func (o order) brief() string {
	switch len(o.Archs) {
	case 0:
		return "nothing"
	case 1:
		return o.Archs[0]
	}
	return fmt.Sprintf("%s and %d more", o.Archs[0], len(o.Archs)-1)
}

// outcome is what has become of a job.
type outcome struct {
	Result json.RawMessage `json:"result,omitempty"` // of the job's kind
	Failed string          `json:"failed,omitempty"` // why there is none
	Archs  []string        `json:"archs,omitempty"`  // what the job was done for
	Worker string          `json:"worker"`
	Device string          `json:"device,omitempty"`
}

// event is what a worker tells of a job while somebody listens.
type event struct {
	Notice    *job.Notice `json:"notice,omitempty"`
	Done      bool        `json:"done,omitempty"`
	Again     bool        `json:"again,omitempty"` // it is begun, after it had been handed out before
	Different bool        `json:"different,omitempty"`
}

// WorkerState is what a worker says of itself.
type WorkerState struct {
	Name    string  `json:"name"`
	Host    string  `json:"host"`
	Version string  `json:"version"`
	Level   string  `json:"level,omitempty"`
	Slots   int     `json:"slots"`
	Memory  int64   `json:"memory,omitempty"` // bytes of a GPU's that a job has; 0: it is a processor, or not known
	Jobs    []Doing `json:"jobs,omitempty"`   // what it works at
	Done    int     `json:"done"`
	Vitals
	// State is working, draining, stopped, or why it takes no job.
	State string    `json:"state"`
	Heard time.Time `json:"heard"` // by the server's clock
}

// Doing is a job that a worker is at.
type Doing struct {
	Job   string `json:"job"`
	Epoch int    `json:"epoch,omitempty"` // the latest that a training has done
}

// Vitals are how a worker's machine does; nil is not known.
type Vitals struct {
	Images *float64 `json:"images_per_second,omitempty"` // that it trains on
	GPU    *float64 `json:"gpu_utilization,omitempty"`   // mean over its GPUs, from 0 to 1
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("farm: %T: %v", v, err)) // text and finite numbers
	}
	return text
}
