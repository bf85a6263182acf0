package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/ctnas/ctnas/search/space"
)

// The values of flags with units, as pflag.Value.
type (
	sizeValue         int64   // 482M, 1.2G: decimal, as MAdds and parameters are counted
	durationValue     float64 // seconds: 90s, 2h, 1h30m
	millisecondsValue float64 // 12ms, 800us, 12: milliseconds where no unit says otherwise
	percentValue      float64 // a fraction: 0.5% is 0.005
)

var (
	_ pflag.Value = (*sizeValue)(nil)
	_ pflag.Value = (*durationValue)(nil)
	_ pflag.Value = (*millisecondsValue)(nil)
	_ pflag.Value = (*percentValue)(nil)
)

var sizeUnits = []struct {
	letter string
	factor float64
}{{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"K", 1e3}}

func (v *sizeValue) Set(s string) error {
	number, factor := strings.TrimSpace(s), 1.0
	for _, u := range sizeUnits {
		if cut, ok := strings.CutSuffix(strings.ToUpper(number), u.letter); ok {
			number, factor = cut, u.factor
			break
		}
	}
	x, err := plainFloat(number)
	if err != nil || x*factor > math.MaxInt64/2 {
		return fmt.Errorf("%q is not a size such as 482M or 1.2G", s)
	}
	*v = sizeValue(math.Round(x * factor))
	return nil
}

func (v *sizeValue) String() string {
	for _, u := range sizeUnits {
		if n := int64(u.factor); *v != 0 && int64(*v)%n == 0 {
			return strconv.FormatInt(int64(*v)/n, 10) + u.letter
		}
	}
	return strconv.FormatInt(int64(*v), 10)
}

func (v *sizeValue) Type() string { return "size" }

func (v *durationValue) Set(s string) error {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a duration such as 90s or 2h", s)
	}
	*v = durationValue(d.Seconds())
	return nil
}

func (v *durationValue) String() string {
	return time.Duration(math.Round(float64(*v) * float64(time.Second))).String()
}

func (v *durationValue) Type() string { return "duration" }

func (v *millisecondsValue) Set(s string) error {
	text := strings.TrimSpace(s)
	if x, err := plainFloat(text); err == nil && x <= space.MaxMilliseconds {
		*v = millisecondsValue(x)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d.Seconds()*1000 > space.MaxMilliseconds {
		return fmt.Errorf("%q is not a time such as 12ms or 12", s)
	}
	*v = millisecondsValue(float64(d.Nanoseconds()) / 1e6)
	return nil
}

func (v *millisecondsValue) String() string { return strconv.FormatFloat(float64(*v), 'f', -1, 64) }

// Type is as which it stands in a YAML file.
func (v *millisecondsValue) Type() string { return "float64" }

func (v *percentValue) Set(s string) error {
	number, ok := strings.CutSuffix(strings.TrimSpace(s), "%")
	x, err := plainFloat(number)
	if !ok || err != nil || x > 100 {
		return fmt.Errorf("%q is not a percentage such as 0.5%%", s)
	}
	*v = percentValue(x / 100)
	return nil
}

func (v *percentValue) String() string {
	return strconv.FormatFloat(float64(*v)*100, 'g', 12, 64) + "%"
}

func (v *percentValue) Type() string { return "percentage" }

// plainFloat reads a finite number that is not negative, in digits: no infinities, hexadecimals or underscores.
func plainFloat(s string) (float64, error) {
	if strings.Trim(s, "0123456789.") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(s, 64)
}
