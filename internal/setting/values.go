package setting

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Values of flags with units.
type (
	size         int64   // 482M, 1.2G: decimal, as multiply-adds and parameters are counted
	milliseconds float64 // 12ms, 800us, 12: milliseconds where no unit says otherwise
)

var (
	_ pflag.Value = (*size)(nil)
	_ pflag.Value = (*milliseconds)(nil)
)

// mostSize is the largest that can be told.
const mostSize = 1 << 62

// Size adds a number whose flag may have a unit, as 482M or 1.2G; files have all its digits.
func (l *List) Size(p *int64, name, unit, meaning string) *Setting {
	s := l.Value((*size)(p), p, name, unit, meaning)
	return s.within(0, mostSize, func() float64 { return float64(*p) })
}

// Milliseconds adds a time of at most so many milliseconds, whose flag may have another unit, as 800us.
func (l *List) Milliseconds(p *float64, name, meaning string, most float64) *Setting {
	s := l.Value((*milliseconds)(p), p, name, "ms", meaning)
	return s.within(0, most, func() float64 { return *p })
}

var sizeUnits = []struct {
	letter string
	factor float64
}{{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"K", 1e3}}

func (v *size) Set(s string) error {
	number, factor := strings.TrimSpace(s), 1.0
	for _, u := range sizeUnits {
		if cut, ok := strings.CutSuffix(strings.ToUpper(number), u.letter); ok {
			number, factor = cut, u.factor
			break
		}
	}
	x, err := plainFloat(number)
	if err != nil || x*factor > mostSize {
		return fmt.Errorf("%q is not a size such as 482M or 1.2G", s)
	}
	*v = size(math.Round(x * factor))
	return nil
}

func (v *size) String() string {
	for _, u := range sizeUnits {
		if n := int64(u.factor); *v != 0 && int64(*v)%n == 0 {
			return strconv.FormatInt(int64(*v)/n, 10) + u.letter
		}
	}
	return strconv.FormatInt(int64(*v), 10)
}

func (v *size) Type() string { return "size" }

func (v *milliseconds) Set(s string) error {
	text := strings.TrimSpace(s)
	if x, err := plainFloat(text); err == nil {
		*v = milliseconds(x)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a time such as 12ms or 12", s)
	}
	*v = milliseconds(float64(d.Nanoseconds()) / 1e6)
	return nil
}

func (v *milliseconds) String() string { return strconv.FormatFloat(float64(*v), 'f', -1, 64) }

// Type is as which it stands in a YAML file.
func (v *milliseconds) Type() string { return "float64" }

// plainFloat reads a finite number that is not negative, in digits: no infinities, hexadecimals or underscores.
func plainFloat(s string) (float64, error) {
	if strings.Trim(s, "0123456789.") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(s, 64)
}
