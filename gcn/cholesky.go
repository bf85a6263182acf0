package gcn

import (
	"context"
	"fmt"
	"math"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// cholesky is a symmetric positive definite matrix A = L·L', as its lower triangle L.
type cholesky struct {
	n int
	l []float64 // [n, n]; what lies above the diagonal means nothing
}

// choleskyBlock is how many columns are factored at a time: what all threads read of them stays in their caches.
const choleskyBlock = 64

// newCholesky factors a [n, n] in place, whose lower triangle alone is read. Every element is a sum in one order, so
// that the result does not depend on the number of threads.
func newCholesky(ctx context.Context, a []float64, n int) (*cholesky, error) {
	c := &cholesky{n, a}
	for begin := 0; begin < n; begin += choleskyBlock {
		end := min(begin+choleskyBlock, n)
		for i := begin; i < end; i++ { // the block on the diagonal
			row := c.row(i)
			for j := begin; j < i; j++ {
				row[j] = (row[j] - dot(row[:j], c.row(j)[:j])) / c.at(j, j)
			}
			d := row[i] - dot(row[:i], row[:i])
			if !(d > 0) || math.IsInf(d, 0) {
				return nil, fmt.Errorf("the covariance of %d labels is not positive definite (pivot %d is %v)", n, i, d)
			}
			row[i] = math.Sqrt(d)
		}
		err := parallel(ctx, n-end, func(k int) {
			row := c.row(end + k)
			for j := begin; j < end; j++ {
				row[j] = (row[j] - dot(row[:j], c.row(j)[:j])) / c.at(j, j)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *cholesky) row(i int) []float64             { return c.l[i*c.n : (i+1)*c.n] }
func (c *cholesky) at(i, j int) float64             { return c.l[i*c.n+j] }
func (c *cholesky) solve(b []float64) (x []float64) { return c.transposed(c.lower(b, 0)) }

// lower solves L·z = b, where b begins with `first` zeros.
func (c *cholesky) lower(b []float64, first int) []float64 {
	z := make([]float64, c.n)
	for i := first; i < c.n; i++ {
		z[i] = (b[i] - dot(c.row(i)[first:i], z[first:i])) / c.at(i, i)
	}
	return z
}

// transposed solves L'·x = z.
func (c *cholesky) transposed(z []float64) []float64 {
	for i := c.n - 1; i >= 0; i-- {
		z[i] /= c.at(i, i)
		row := c.row(i)[:i]
		for j, l := range row {
			z[j] -= z[i] * l
		}
	}
	return z
}

// inverseDiagonal returns elements of the diagonal of A's inverse.
func (c *cholesky) inverseDiagonal(ctx context.Context, of []int) ([]float64, error) {
	out := make([]float64, len(of))
	err := parallel(ctx, len(of), func(k int) {
		unit := make([]float64, c.n)
		unit[of[k]] = 1
		z := c.lower(unit, of[k])
		out[k] = dot(z, z)
	})
	return out, err
}

// dot is a product of two vectors of equal length, by four sums.
func dot(a, b []float64) float64 {
	var s, t, u, v float64
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		x, y := a[i:i+4:i+4], b[i:i+4:i+4]
		s += x[0] * y[0]
		t += x[1] * y[1]
		u += x[2] * y[2]
		v += x[3] * y[3]
	}
	for ; i < len(a); i++ {
		s += a[i] * b[i]
	}
	return (s + t) + (u + v)
}

// parallel calls f for 0..n-1, each once, on all processors; ctx ends it.
func parallel(ctx context.Context, n int, f func(i int)) error {
	var group errgroup.Group
	workers := min(n, runtime.GOMAXPROCS(0))
	for w := range workers {
		group.Go(func() error {
			for i := w; i < n; i += workers {
				if err := ctx.Err(); err != nil {
					return err
				}
				f(i)
			}
			return nil
		})
	}
	return group.Wait()
}
