package trainer

import (
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/loss"
	"github.com/ctnas/ctnas/trainer/nn"
)

// loss adds the steps that compute the loss and, in training, its gradient in the network's outputs.
func (l *lowering) loss() {
	m := l.m
	for k, out := range m.Net.Outputs {
		x := l.read(nn.View{Node: out.Node}, l.mode == train)
		op := loss.Classes{N: m.Batch, Classes: x.of.shape.C, Label: m.Labels, Loss: m.Loss.Slice(k, 1), Scale: 1}
		if k == 0 {
			op.Count = m.Count
		}
		if k == 0 && l.mode == train {
			l.teach(x)
		}
		touched, mixed := x.touched(), l.mode == train && m.Options.Mixup
		if l.mode == train {
			op.Smoothing = float32(m.Options.Loss.Smoothing)
			op.Scale = float32(out.Weight / float64(m.Accumulate*m.shards()))
			if distill := m.Options.Loss.Distill; k == 0 && distill > 0 {
				op.Teacher, op.Weight, op.Temperature = m.Teacher, float32(distill/(1+distill)),
					float32(m.Options.Loss.Temperature)
				op.Scale *= float32(1 + distill)
				if m.Options.Loss.TeacherAlone {
					op.Weight, op.Scale = 1, op.Scale*op.Weight
				}
			}
			x.grad = l.value(x.of.shape.Len())
			x.left--
			x.written = true
			touched = append(touched, x.grad)
		}
		l.step(touched, func(p *exec.Program) {
			op.Logit = x.of.buffer()
			if x.grad != nil {
				op.DLogit = x.grad.buf
			}
			op.Record(p)
			if mixed {
				loss.Mixup{N: op.N, Classes: op.Classes, Logit: op.Logit, Label: op.Label, Partner: m.Partners,
					Weight: m.Mix, Loss: op.Loss, DLogit: op.DLogit,
					Share: op.Scale * (1 - op.Smoothing) * (1 - op.Weight)}.Record(p)
			}
		})
	}
}

// teach adds the step that leaves the logits, as the batch's statistics make them, for those who learn from the model.
func (l *lowering) teach(logits *operand) {
	if l.m.Options.teach {
		l.step(logits.touched(), func(p *exec.Program) {
			elementwise.Sum{Terms: []elementwise.Term{{In: logits.of.plain()}}, Out: l.m.inputs.Teacher}.Record(p)
		})
	}
}
