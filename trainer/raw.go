package trainer

import (
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/image"
	"github.com/ctnas/ctnas/trainer/data"
)

// Accelerators make images themselves, of bytes that the processor decodes: what goes over the bus is a third of what
// floats would be, or less, and what the processor does for an image is decoding. Its own trainings get their images as
// ever.

// batchesAhead is how many batches of a training a loader works on.
const batchesAhead = 3

// load is a loader for a feed of the course: for accelerators it leaves raw batches where they are uploaded from.
func (c *course) load(set *data.Set, images data.Config) (*data.Loader, error) {
	images.Part, images.Parts = c.node()
	if images.Raw = c.dev.Accelerated(); images.Raw {
		for range batchesAhead {
			images.Memory = append(images.Memory, c.dev.HostBytes(images.RawBytes()))
		}
	}
	return data.NewLoader(set, images)
}

// section is memory of a device for a shard of a raw batch, and what makes images of it.
type section struct {
	bytes   *exec.Buffer
	develop *exec.Program
}

func newSection(a *exec.Arena, r image.Regions, images *exec.Buffer) *section {
	s := &section{bytes: a.I32(image.SectionBytes(r.Images, r.Size) / 4), develop: a.NewProgram("develop")}
	r.Section, r.Out = s.bytes, images
	r.Record(s.develop)
	return s
}

// intake brings the batches of a loader by itself, for evaluation, into a model's images.
type intake struct {
	m       *Model
	arena   *exec.Arena
	section *section // nil on the CPU
}

// newIntake is for a loader of which the model's device says whether it is raw. Close it after use.
func newIntake(m *Model, l *data.Loader) *intake {
	in := &intake{m: m, arena: m.arena.Device().NewArena()}
	made := false
	defer func() {
		if !made { // the device has no room
			in.close()
		}
	}()
	if m.arena.Device().Accelerated() {
		in.section = newSection(in.arena, l.Regions(), m.Images)
	}
	made = true
	return in
}

func (in *intake) close() { in.arena.Free() }

// put makes a batch the model's images.
func (in *intake) put(b *data.Batch) {
	if in.section == nil {
		in.m.Images.WriteF32(0, b.Images)
		return
	}
	in.section.bytes.WriteBytes(b.Raw[0])
	in.section.develop.Run(1)
}
