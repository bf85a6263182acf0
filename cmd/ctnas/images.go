package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
