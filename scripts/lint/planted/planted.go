// Package planted has mistakes for the linters, and some that are none to them. A line's comment names all that find
// something there.
package planted

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
)

// ErrPlanted is compared.
var ErrPlanted = errors.New("planted")

func neverCalled() {} // want unused

type guarded struct{ sync.Mutex }

// Copied copies a lock.
func Copied(g guarded) { // want copylocks
	fmt.Println(&g)
}

// Unchecked looks at no error. Output, what closes and what is removed may fail.
func Unchecked(path string) {
	os.Chdir(path) // want errcheck
	fmt.Fprintln(os.Stdout, path)
	defer os.Remove(path)
	file, err := os.Open(path)
	if err != nil {
		return
	}
	defer file.Close()
}

// Wrong looks at errors in the wrong way.
func Wrong(err error) error {
	if err == ErrPlanted { // want errorlint
		return errors.New("Large letter") // want ST1005
	}
	return fmt.Errorf("opening: %v", err) // want errorlint
}

// Values are computed for nothing.
func Values(n int) int {
	total := n + 1 // want SA4006 ineffassign
	total = n
	return int(total) // want unconvert
}

// Body leaves a response's body open.
func Body(url string) int {
	response, err := http.Get(url) // want bodyclose
	if err != nil {
		return 0
	}
	return response.StatusCode
}

// Method writes a constant out.
func Method(url string) (*http.Request, error) {
	return http.NewRequest("GET", url, nil) // want usestdlibvars
}

// Loop copies its variable.
func Loop(list []string) (all []func() string) {
	for _, text := range list {
		text := text // want copyloopvar
		all = append(all, func() string { return text })
	}
	return all
}

// Printed has another type than its verb.
func Printed(n int) string {
	return fmt.Sprintf("%s", n) // want SA5009 printf
}

// Simpler could be simpler.
func Simpler(a, b string) bool {
	if strings.Index(a, b) != -1 { // want S1003
		return true
	}
	return !(a != b && b != "") // want QF1001
}

// Old calls what was given up: a fact about another package.
func Old(reader io.Reader) string {
	text, _ := io.ReadAll(reader)
	return strings.Title(string(text)) // want SA1019
}
