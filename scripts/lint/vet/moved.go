package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// What cgo makes of a file names the file by its absolute path. With -trimpath Go's build cache gives it to every
// checkout of the repository, whose folder may be another one, or be gone.
var lineComment = regexp.MustCompile(`(?m)^//line (/.*)/([^/\n]+\.go):1:1$`)

// moved has the unit that a file of unitchecker's describes name the files of the folder it stands in. Copies of what
// differs are put beside the description, which is go vet's own temporary folder.
func moved(description string) error {
	text, err := os.ReadFile(description)
	if err != nil {
		return err
	}
	unit := map[string]any{}
	if err := json.Unmarshal(text, &unit); err != nil {
		return fmt.Errorf("%s: %w", description, err)
	}
	folder, _ := unit["Dir"].(string)
	files, _ := unit["GoFiles"].([]any)
	changed := false
	for i, name := range files {
		path, _ := name.(string)
		if folder == "" || filepath.Dir(path) == folder {
			continue
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		here := lineComment.ReplaceAllFunc(source, func(line []byte) []byte {
			parts := lineComment.FindSubmatch(line)
			return fmt.Appendf(nil, "//line %s:1:1", filepath.Join(folder, string(parts[2])))
		})
		if bytes.Equal(here, source) {
			continue
		}
		copied := filepath.Join(filepath.Dir(description), fmt.Sprintf("moved%d.go", i))
		if err := os.WriteFile(copied, here, 0o666); err != nil {
			return err
		}
		files[i], changed = copied, true
	}
	if !changed {
		return nil
	}
	if text, err = json.Marshal(unit); err != nil {
		return err
	}
	return os.WriteFile(description, text, 0o666)
}
