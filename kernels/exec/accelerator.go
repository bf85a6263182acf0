package exec

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/ctnas/ctnas/cuda"
)

// Accelerator is a device that runs the kernels of .cu files: a GPU (package cuda) or, in tests, the simulator.
type Accelerator interface {
	Level() string                           // the architecture, such as "sm_90": results depend on it
	Alloc(bytes int) (unsafe.Pointer, error) // filled with 0xFF: floats are NaN, integers -1
	Free(p unsafe.Pointer)                   //
	// To the device, after what was enqueued before; src is free on return.
	Write(dst, src unsafe.Pointer, bytes int) error
	Read(dst, src unsafe.Pointer, bytes int) error // from the device, after what was enqueued before has ended
	Sequence(launches []cuda.Launch) (Sequence, error)
	Loop(launches []cuda.Launch) (Sequence, error) // a Sequence that is cheap to make and dearer to run
	Sync() error                                   // waits for everything and reports what failed
	Close() error                                  // reports buffers that were not freed
}

// Sequence is a program's launches, prepared to run in one call.
type Sequence interface {
	Run(n int) error // enqueues n runs
	Free()
}

// Inspector is an Accelerator that knows what a kernel needs of the hardware.
type Inspector interface {
	Kernel(file, entry string, block, shared int) (cuda.KernelInfo, error)
}

// Uploader is an Accelerator that copies to its memory while programs run.
type Uploader interface {
	// Upload has ended when it returns. Nothing that is enqueued may use dst.
	Upload(dst, src unsafe.Pointer, bytes int) error
}

// Pinner is an Accelerator that Uploads fastest from memory of the host that it has made. Close frees that.
type Pinner interface {
	Pin(bytes int) (unsafe.Pointer, error)
}

// Hopper is an Accelerator that runs the kernels of compute capability 9.0 alone, which no later one has.
type Hopper interface {
	Hopper()
	// ImageMap writes the cuda.ImageMapBytes that a kernel gets for m.
	ImageMap(dst unsafe.Pointer, m cuda.ImageMap) error
}

// Peer is an Accelerator that copies from another of its kind without the host, which waits for nothing.
type Peer interface {
	Follow(other Accelerator) error // what is enqueued from now on waits for what is enqueued on the other
	// CopyFrom is in the order of what is enqueued here.
	CopyFrom(other Accelerator, dst, src unsafe.Pointer, bytes int) error
	// Fork opens the same device once more: what is enqueued there runs beside what is enqueued here, unless one
	// follows the other. It may use this one's memory, and is closed before it.
	Fork() (Accelerator, error)
}

// Trimmer is an Accelerator that keeps freed memory for what comes next, and can give it back to the system.
type Trimmer interface {
	Trim()
}

// Guarded is an Accelerator that notices writes beside an Alloc. A reusable arena asks it for every buffer by itself.
type Guarded interface {
	Guarded()
}

// Timer is a Sequence that measures itself by the device's clock.
type Timer interface {
	Time(n int) (ms float64, err error) // of n runs, from the first's begin to the last's end
}

// Profiler is a Sequence that measures each of its launches by the device's clock.
type Profiler interface {
	Profile() (ms []float64, err error) // of one run
}

// accelerators are the kinds that this program has, by the part of a device's name before the colon.
var accelerators = map[string]func(name string, precision Precision) (Accelerator, error){}

// Register adds a kind of accelerator: names KIND or KIND:something open it. It is for init functions.
func Register(kind string, open func(name string, precision Precision) (Accelerator, error)) {
	accelerators[kind] = open
}

// Auto is the device that there is: of the GPUs that can be used the one with the most free memory, otherwise the CPU.
// With a Level it is the one that Level belongs to.
const Auto = "auto"

// All is every GPU that there is; with a Level, those that it belongs to.
const All = "cuda:all"

// gpus are the same for a whole process.
var gpus = sync.OnceValues(cuda.Devices)

// roomiest is the same GPU for a whole process, which takes memory of it.
var roomiest = sync.OnceValues(cuda.Roomiest)

// Resolve replaces Auto by a device, and All by those that there are. The error, beside a usable Config, says why it is
// the CPU, or which GPUs beside those chosen cannot be used. Where there is no GPU All stays, which cannot be opened.
func (c Config) Resolve() (Config, error) {
	switch c.Device {
	case Auto:
	case All:
		list, err := gpus()
		if len(list) > 0 {
			sm, _, _ := strings.Cut(c.Level, "/")
			c.Device = cuda.Every(list, sm)
		}
		return c, err
	default:
		return c, nil
	}
	c.Device = "cpu"
	if slices.Contains(levelNames[:], c.Level) {
		return c, nil
	}
	gpu, err := roomiest()
	if gpu != "" {
		c.Device = gpu
	}
	return c, err
}

// Each lists one Config a device: "cuda:0,1" are two, between which independent work may be divided.
func (c Config) Each() []Config {
	c, _ = c.Resolve()
	kind, numbers, found := strings.Cut(c.Device, ":")
	if !found {
		return []Config{c}
	}
	var all []Config
	for number := range strings.SplitSeq(numbers, ",") {
		one := c
		one.Device = kind + ":" + strings.TrimPrefix(number, kind+":")
		all = append(all, one)
	}
	return all
}

// First is the Config of the first devices of those that there are, n of them.
func (c Config) First(n int) Config {
	c, _ = c.Resolve()
	c.Device = strings.Join(strings.SplitN(c.Device, ",", n+1)[:n], ",")
	return c
}

func openAccelerator(c Config) (*Device, error) {
	if c.Device == All {
		_, err := gpus()
		return nil, fmt.Errorf("device %s: %w", c.Device, cmp.Or(err, errors.New("there is no GPU")))
	}
	kind, _, _ := strings.Cut(c.Device, ":")
	open := accelerators[kind]
	if open == nil {
		return nil, fmt.Errorf("device %q: want cpu or cuda:N", c.Device)
	}
	acc, err := open(c.Device, c.Precision)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", c.Device, err)
	}
	d := &Device{threads: 1, acc: acc, precision: c.Precision}
	if c.Level != "" && c.Level != d.Level() {
		return nil, errors.Join(fmt.Errorf("device %s is %s, not %s", c.Device, d.Level(), c.Level), acc.Close())
	}
	return d, nil
}

// Failure is the panic of a device that failed: out of memory, or an error of the GPU. Buffers and programs have no
// better way to report what can happen at any of their operations; Catch turns it into an error where work ends.
type Failure struct{ error }

func (f Failure) Unwrap() error { return f.error }

// Fail panics with err as a Failure, unless err is nil: what records or runs kernels has no error to return.
func Fail(err error) {
	if err != nil {
		panic(Failure{err})
	}
}

// Catch is deferred: it puts a Failure that passes by into err, unless there is an error already, which came first: a
// device that is closed on the way out says what else was left undone. Other panics go on.
func Catch(err *error) {
	switch f := recover().(type) {
	case nil:
	case Failure:
		if *err == nil {
			*err = f.error
		}
	default:
		panic(f)
	}
}
