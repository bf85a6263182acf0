package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/trainer/data"
)

// manifestsOff is the value of --manifests that keeps nothing.
const manifestsOff = "off"

// shownImages is how many image files it takes to show how far their reading is: some thousands take a second.
const shownImages = 10_000

// imageOptions are how image sets are opened: where hashes of their files are kept, and that it is shown how far the
// reading of files is. finish ends that.
func (a *app) imageOptions() (o data.Options, finish func()) {
	o.Warn = func(text string) { a.log.Warn(text) }
	switch a.manifests {
	case manifestsOff:
	case "":
		if cache, err := os.UserCacheDir(); err == nil { // without a home nothing is kept
			o.Manifests = filepath.Join(cache, "ctnas", "manifests")
		}
	default:
		o.Manifests = a.manifests
	}
	if bytes, _ := parseBytes(a.cacheRAM); bytes > 0 && a.cache == nil {
		a.cache = data.NewCache(bytes, o.Warn)
	}
	o.Cache = a.cache
	var mu sync.Mutex
	var stop func()
	var update func(done, total int)
	o.Progress = func(done, total int) {
		if total < shownImages {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if update == nil {
			update, stop = a.progress("read images")
		}
		update(done, total)
	}
	return o, func() {
		mu.Lock()
		defer mu.Unlock()
		if stop != nil {
			stop()
		}
		update, stop = nil, nil
	}
}

// checkCache tells what is wrong with --cache-ram.
func (a *app) checkCache() error {
	if a.cacheRAM == "" {
		return nil
	}
	_, err := parseBytes(a.cacheRAM)
	return err
}

// parseBytes reads a number of bytes: 500M, 64G, units of 1,024; of an empty text none.
func parseBytes(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMGT")
	unit, known := map[string]int64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}[text[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !known || err != nil || n < 1 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("cache-ram %q: want a number of bytes, such as 500M or 64G", text)
	}
	return n * unit, nil
}

// begunWith are the facts that a folder keeps of its run; none of a new folder.
func begunWith(dir string) (runFacts, error) {
	path := filepath.Join(dir, report.ConfigName)
	text, err := files.ReadText(path, maxConfigBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return runFacts{}, nil
	} else if err != nil {
		return runFacts{}, err
	}
	var c struct {
		Run runFacts `yaml:"run"`
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		return c.Run, fmt.Errorf("%s: %w", path, err)
	}
	return c.Run, nil
}

// sameImages refuses images that are not those that a run's folder was begun on. A new folder, and one of an older
// version, does not tell.
func sameImages(dir, now string) error {
	then, err := begunWith(dir)
	if err == nil && then.Images != "" && then.Images != now {
		err = fmt.Errorf("%s was begun on other images: their checksum was %s then and is %s now", dir, then.Images,
			now)
	}
	return err
}

// sameLabels likewise refuses labels that say something else, wherever they lie now.
func sameLabels(dir string, now *labels.Labels) error {
	then, err := begunWith(dir)
	if err == nil && then.Content != "" && then.Content != now.Content {
		err = fmt.Errorf("%s was begun on other labels: "+
			"the checksum of what they say was %s then (%s) and is %s now (%s)",
			dir, then.Content, then.Labels, now.Content, now.Source.Describe())
	}
	return err
}
