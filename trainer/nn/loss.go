package nn

import "fmt"

// Loss is what training minimises, for an example of class t with logits z and n classes:
//
//	H(q, z) = -sum over c of q[c] log softmax(z)[c]
//	hard(z) = H((1-Smoothing) onehot(t) + Smoothing/n, z)                            label-smoothed cross-entropy
//	loss    = hard(z) + Distill T^2 H(softmax(teacher/T), z/T) + sum over heads of weight hard(head)
//
// where T is Temperature, z the network's first output and a head any other. The loss of a batch is the mean over its
// examples. Distillation is that of Hinton et al. 2015 (T = 1 in once-for-all); its cross-entropy differs from the
// divergence by a constant. With TeacherAlone hard(z) of the first output does not count, as where the smaller paths of
// a supernet learn from the largest (Yu et al. 2020, "inplace distillation").
//
// An example that is mixed of two (Zhang et al. 2018, "mixup") has the weighted mean of both classes' hard losses.
type Loss struct {
	Smoothing   float64
	Distill     float64 // 0: there is no teacher
	Temperature float64 // used with Distill
	// TeacherAlone: with Distill, labels do not matter to the first output.
	TeacherAlone bool
}

// Check tells what is wrong with a loss.
func (l Loss) Check() error {
	switch {
	case !(l.Smoothing >= 0 && l.Smoothing < 1):
		return fmt.Errorf("label smoothing %v, want 0 <= s < 1", l.Smoothing)
	case !(l.Distill >= 0):
		return fmt.Errorf("distillation weight %v, want at least 0", l.Distill)
	case l.Distill > 0 && !(l.Temperature > 0):
		return fmt.Errorf("distillation temperature %v, want a positive number", l.Temperature)
	case l.TeacherAlone && l.Distill == 0:
		return fmt.Errorf("distillation weight 0, want more where the teacher's predictions alone are learned")
	}
	return nil
}
