package nn

import (
	"fmt"
	"math"
)

// Op is an operation with its parameters: one of the types of this file. Operations are comparable values.
type Op interface {
	fmt.Stringer
	// infer returns the shape of the output, or why there is none. The error continues a sentence that begins with the
	// operation.
	infer(in []Shape) (Shape, error)
}

// parametric is an operation with variables. Convolution and linear layers also have multiply-accumulates.
type parametric interface {
	variables(in []Shape) []Variable
	madds(in []Shape, out Shape) int64
}

// Size is a height and a width.
type Size struct{ H, W int }

// Square is a size of n x n.
func Square(n int) Size { return Size{n, n} }

func (s Size) String() string { return fmt.Sprintf("%dx%d", s.H, s.W) }

// Pad is how many rows and columns of padding surround an input. A negative number leaves out rows or columns of the
// input instead: a convolution with stride 2 and padding {-1, 1, -1, 1} reads the odd rows and columns.
type Pad struct{ Top, Bottom, Left, Right int }

// Same is the padding with which a window of the given size and dilation keeps the input's size at stride 1: (k-1)/2 on
// both sides for an odd window, one more below and to the right for an even one.
func Same(kernel Size, dilation int) Pad {
	h, w := dilation*(kernel.H-1), dilation*(kernel.W-1)
	return Pad{Top: h / 2, Bottom: h - h/2, Left: w / 2, Right: w - w/2}
}

// Input is the images.
type Input struct{ Shape Shape }

func (Input) String() string { return "input" }

func (i Input) infer([]Shape) (Shape, error) {
	if s := i.Shape; s.H <= 0 || s.W <= 0 || s.C <= 0 || tooLarge(s) {
		return Shape{}, fmt.Errorf("of %s", s)
	}
	return i.Shape, nil
}

func tooLarge(s Shape) bool { return s.H > maxElements/s.W || s.H*s.W > maxElements/s.C }

// Conv is a convolution: output channel o of group g at (y, x) is the sum over a, b and the channels i of the group of
// weight[a, b, i, o] * input[y*stride - top + a*dilation, x*stride - left + b*dilation, i]. Input and output channels
// are split into Groups groups of equal size; Groups = Out = input channels is a depthwise convolution.
type Conv struct {
	Out    int
	Kernel Size
	Stride Size
	// Dilation is the same in both directions.
	Dilation int
	Pad      Pad
	Groups   int
	Bias     bool
}

// Conv2D is a dense k x k convolution to out channels without bias, with stride 1 and Same padding; the methods change
// that.
func Conv2D(k, out int) Conv { return ConvRect(Square(k), out) }

// ConvRect is Conv2D with a rectangular kernel.
func ConvRect(kernel Size, out int) Conv {
	return Conv{Out: out, Kernel: kernel, Stride: Square(1), Dilation: 1, Pad: Same(kernel, 1), Groups: 1}
}

// Depthwise is a k x k convolution of each channel by itself.
func Depthwise(k, channels int) Conv { return Conv2D(k, channels).Grouped(channels) }

// Strided has another stride.
func (c Conv) Strided(stride int) Conv {
	c.Stride = Square(stride)
	return c
}

// Dilated has another dilation, and padding to match.
func (c Conv) Dilated(dilation int) Conv {
	c.Dilation, c.Pad = dilation, Same(c.Kernel, dilation)
	return c
}

// Grouped has another number of groups.
func (c Conv) Grouped(groups int) Conv {
	c.Groups = groups
	return c
}

// Padded has another padding.
func (c Conv) Padded(pad Pad) Conv {
	c.Pad = pad
	return c
}

// Biased adds a bias.
func (c Conv) Biased() Conv {
	c.Bias = true
	return c
}

func (c Conv) String() string { return c.Kernel.String() + " convolution" }

func (c Conv) infer(in []Shape) (Shape, error) {
	x := in[0]
	switch {
	case c.Out <= 0:
		return Shape{}, fmt.Errorf("to %d channels", c.Out)
	case c.Dilation <= 0:
		return Shape{}, fmt.Errorf("with dilation %d", c.Dilation)
	case c.Groups <= 0 || x.C%c.Groups != 0:
		return Shape{}, fmt.Errorf("with groups %d over %d channels", c.Groups, x.C)
	case c.Out%c.Groups != 0:
		return Shape{}, fmt.Errorf("with groups %d to %d channels", c.Groups, c.Out)
	}
	out, err := window(x, c.Kernel, c.Stride, c.Dilation, c.Pad)
	out.C = c.Out
	return out, err
}

func (c Conv) madds(in []Shape, out Shape) int64 {
	return int64(out.Len()) * int64(in[0].C/c.Groups*c.Kernel.H*c.Kernel.W)
}

// window is the shape that a sliding window leaves, with the input's channels.
func window(in Shape, kernel, stride Size, dilation int, pad Pad) (Shape, error) {
	if kernel.H <= 0 || kernel.W <= 0 || stride.H <= 0 || stride.W <= 0 {
		return Shape{}, fmt.Errorf("with window %s and stride %s", kernel, stride)
	}
	h := in.H + pad.Top + pad.Bottom - dilation*(kernel.H-1) - 1
	w := in.W + pad.Left + pad.Right - dilation*(kernel.W-1) - 1
	if h < 0 || w < 0 {
		return Shape{}, fmt.Errorf("is larger than its input of %dx%d with padding %+v", in.H, in.W, pad)
	}
	return Shape{h/stride.H + 1, w/stride.W + 1, in.C}, nil
}

// MaxPool is the largest element of each window; padding is never the largest. Of equal elements the first in row-major
// order counts as the largest when gradients are passed back.
type MaxPool struct {
	Kernel, Stride Size
	Pad            Pad
}

// NewMaxPool is a k x k max-pooling with Same padding.
func NewMaxPool(k, stride int) MaxPool { return MaxPool{Square(k), Square(stride), Same(Square(k), 1)} }

func (m MaxPool) String() string { return m.Kernel.String() + " max-pooling" }

func (m MaxPool) infer(in []Shape) (Shape, error) { return pooled(in[0], m.Kernel, m.Stride, m.Pad) }

// AvgPool is the mean of each window: over all its elements with the padding as zeros, or over those inside the input.
type AvgPool struct {
	Kernel, Stride Size
	Pad            Pad
	CountPad       bool // PyTorch's count_include_pad
}

// NewAvgPool is a k x k average pooling with Same padding that counts the elements inside the input.
func NewAvgPool(k, stride int) AvgPool {
	return AvgPool{Kernel: Square(k), Stride: Square(stride), Pad: Same(Square(k), 1)}
}

func (a AvgPool) String() string { return a.Kernel.String() + " average pooling" }

func (a AvgPool) infer(in []Shape) (Shape, error) { return pooled(in[0], a.Kernel, a.Stride, a.Pad) }

// pooled is window, where every window must hold an element of the input.
func pooled(in Shape, kernel, stride Size, pad Pad) (Shape, error) {
	for _, p := range [][2]int{{pad.Top, kernel.H}, {pad.Bottom, kernel.H}, {pad.Left, kernel.W},
		{pad.Right, kernel.W}} {
		if p[0] < 0 || p[0] >= p[1] {
			return Shape{}, fmt.Errorf("with padding %+v, want 0 up to less than the window", pad)
		}
	}
	return window(in, kernel, stride, 1, pad)
}

// GlobalPool is the mean over height and width.
type GlobalPool struct{}

func (GlobalPool) String() string { return "global average pooling" }

func (GlobalPool) infer(in []Shape) (Shape, error) { return Shape{1, 1, in[0].C}, nil }

// Linear is a fully connected layer on vectors.
type Linear struct {
	Out  int
	Bias bool
}

func (Linear) String() string { return "linear layer" }

func (l Linear) infer(in []Shape) (Shape, error) {
	if in[0].H != 1 || in[0].W != 1 {
		return Shape{}, fmt.Errorf("over %s, want a vector", in[0])
	}
	if l.Out <= 0 {
		return Shape{}, fmt.Errorf("to %d outputs", l.Out)
	}
	return Shape{1, 1, l.Out}, nil
}

func (l Linear) madds(in []Shape, _ Shape) int64 { return int64(in[0].C) * int64(l.Out) }

// BatchNorm is scale * (x - mean) / sqrt(variance + Eps) + shift for each channel. In training, mean and variance (the
// mean squared deviation) are those of the batch, and the running statistics move: running = (1 - Momentum) * running +
// Momentum * batch, where the batch's variance is the unbiased one (PyTorch's convention; TensorFlow's "momentum" is 1
// - Momentum). In evaluation they are the running statistics.
type BatchNorm struct {
	Eps, Momentum float64
	Frozen        bool // running statistics in training too, and they do not move; scale and shift still learn
	NoAffine      bool // scale is 1 and shift is 0, and they are no variables
}

func (b BatchNorm) String() string {
	if b.NoAffine {
		return "batch norm without scale and shift"
	}
	return "batch norm"
}

// Statistics is the place of the mean among the norm's variables, behind scale and shift where it has them. The
// variance follows.
func (b BatchNorm) Statistics() int {
	if b.NoAffine {
		return 0
	}
	return 2
}

func (b BatchNorm) infer(in []Shape) (Shape, error) {
	if !(b.Eps >= 0 && b.Momentum >= 0 && b.Momentum <= 1) {
		return Shape{}, fmt.Errorf("with eps %v and momentum %v", b.Eps, b.Momentum)
	}
	return in[0], nil
}

func (BatchNorm) madds([]Shape, Shape) int64 { return 0 }

// Activation is a function of each element. Identity stands for none.
type Activation uint8

// Activations; r6(x) is min(max(x, 0), 6).
const (
	Identity Activation = iota // x
	ReLU                       // max(x, 0)
	ReLU6                      // r6(x)
	HSigmoid                   // r6(x + 3) / 6
	HSwish                     // x r6(x + 3) / 6
	Sigmoid                    // 1 / (1 + exp(-x))
	Swish                      // x / (1 + exp(-x))
	GELU                       // x (1 + erf(x / sqrt 2)) / 2

	Activations // how many there are
)

var activationNames = [Activations]string{"identity", "ReLU", "ReLU6", "h-sigmoid", "h-swish",
	"sigmoid", "swish", "GELU"}

func (a Activation) String() string {
	if a < Activations {
		return activationNames[a]
	}
	return fmt.Sprintf("activation %d", uint8(a))
}

func (a Activation) infer(in []Shape) (Shape, error) {
	if a >= Activations {
		return Shape{}, fmt.Errorf("is unknown")
	}
	return in[0], nil
}

// Apply is the activation of x.
func (a Activation) Apply(x float64) float64 {
	switch a {
	case ReLU:
		return math.Max(x, 0)
	case ReLU6:
		return relu6(x)
	case HSigmoid:
		return relu6(x+3) / 6
	case HSwish:
		return x * relu6(x+3) / 6
	case Sigmoid:
		return sigmoid(x)
	case Swish:
		return x * sigmoid(x)
	case GELU:
		return x * math.Erfc(-x/math.Sqrt2) / 2
	}
	return x
}

// Slope is the derivative at x. At a corner it is 0 for ReLU, ReLU6 and HSigmoid, and the left one for HSwish: 0 at -3
// and 3/2 at 3.
func (a Activation) Slope(x float64) float64 {
	switch a {
	case ReLU:
		return indicator(x > 0)
	case ReLU6:
		return indicator(x > 0 && x < 6)
	case HSigmoid:
		return indicator(x > -3 && x < 3) / 6
	case HSwish:
		switch {
		case x <= -3:
			return 0
		case x <= 3:
			return (2*x + 3) / 6
		}
		return 1
	case Sigmoid:
		s := sigmoid(x)
		return s * (1 - s)
	case Swish:
		s := sigmoid(x)
		return s * (1 + x*(1-s))
	case GELU:
		return math.Erfc(-x/math.Sqrt2)/2 + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi)
	}
	return 1
}

func relu6(x float64) float64   { return math.Min(math.Max(x, 0), 6) }
func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Dropout sets elements to zero with probability P in training and divides the others by 1-P. See Kept for the random
// numbers.
type Dropout struct{ P float64 }

func (Dropout) String() string { return "dropout" }

func (d Dropout) infer(in []Shape) (Shape, error) { return in[0], probability(d.P) }

// DropPath is dropout of whole examples.
type DropPath struct{ P float64 }

func (DropPath) String() string { return "drop path" }

func (d DropPath) infer(in []Shape) (Shape, error) { return in[0], probability(d.P) }

func probability(p float64) error {
	if !(p >= 0 && p < 1) {
		return fmt.Errorf("with probability %v, want 0 <= p < 1", p)
	}
	return nil
}

// Add is the sum of two or more tensors of one shape.
type Add struct{}

func (Add) String() string { return "sum" }

func (Add) infer(in []Shape) (Shape, error) {
	for _, s := range in[1:] {
		if s != in[0] {
			return Shape{}, fmt.Errorf("of %s and %s", in[0], s)
		}
	}
	return in[0], nil
}

// Mix adds up tensors of one shape, each times a weight of the network's mixture: of the choices of Rows rows from Row
// on, row by row. Choices that Absent marks (bit k: choice k of each of these rows) have no input and add nothing, as
// DARTS's operation none.
type Mix struct {
	Row, Rows int
	Absent    uint32
}

func (Mix) String() string { return "mixture" }

func (Mix) infer(in []Shape) (Shape, error) { return Add{}.infer(in) }

// Gate multiplies each channel of the first tensor by an element of the second, a vector.
type Gate struct{}

func (Gate) String() string { return "gate" }

func (Gate) infer(in []Shape) (Shape, error) {
	if want := (Shape{1, 1, in[0].C}); in[1] != want {
		return Shape{}, fmt.Errorf("of %s over %s, want %s", in[1], in[0], want)
	}
	return in[0], nil
}

// Concat puts the channels of two or more tensors one after the other.
type Concat struct{}

func (Concat) String() string { return "concatenation" }

func (Concat) infer(in []Shape) (Shape, error) {
	out := in[0]
	for _, s := range in[1:] {
		if s.H != out.H || s.W != out.W {
			return Shape{}, fmt.Errorf("of %s and %s", in[0], s)
		}
		out.C += s.C
	}
	return out, nil
}

// Shuffle interleaves Groups groups of channels: of channels numbered group by group, output channel j*Groups + g is
// the j-th of group g.
type Shuffle struct{ Groups int }

func (Shuffle) String() string { return "channel shuffle" }

func (s Shuffle) infer(in []Shape) (Shape, error) {
	if s.Groups <= 0 || in[0].C%s.Groups != 0 {
		return Shape{}, fmt.Errorf("with groups %d over %d channels", s.Groups, in[0].C)
	}
	return in[0], nil
}

// Slice is the channels From <= c < To.
type Slice struct{ From, To int }

func (s Slice) String() string { return fmt.Sprintf("slice of channels %d to %d", s.From, s.To) }

func (s Slice) infer(in []Shape) (Shape, error) {
	if s.From < 0 || s.From >= s.To || s.To > in[0].C {
		return Shape{}, fmt.Errorf("over %d channels", in[0].C)
	}
	return Shape{in[0].H, in[0].W, s.To - s.From}, nil
}

// Zero is zeros of the shape that a 1x1 window with a stride leaves: no connection.
type Zero struct{ Stride int }

func (Zero) String() string { return "zero" }

func (z Zero) infer(in []Shape) (Shape, error) {
	return window(in[0], Square(1), Square(z.Stride), 1, Pad{})
}

// arity is the least and the greatest number of inputs.
func arity(op Op) (least, most int) {
	switch op.(type) {
	case Input:
		return 0, 0
	case Gate:
		return 2, 2
	case Add, Concat:
		return 2, math.MaxInt
	case Mix:
		return 1, math.MaxInt
	}
	return 1, 1
}
