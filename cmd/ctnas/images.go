package main

import (
	"os"
	"path/filepath"
	"sync"

	"github.com/ctnas/ctnas/trainer/data"
)

// manifestsOff is the value of --manifests that keeps nothing.
const manifestsOff = "off"

// shownImages is how many image files it takes to show how far their reading is: some thousands take a second.
const shownImages = 10_000

// imageOptions are how image sets are opened: where hashes of their files are kept, and that it is shown how far the reading of files is. finish ends that.
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
