// Package launch writes what a cluster or a machine starts ctnas with: a script for Slurm, a manifest for Kubernetes, a
// unit for systemd. They run the same commands that people type, and nothing here talks to a cluster.
package launch

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"math/bits"
	"path"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/ctnas/ctnas/internal/visible"
)

// What is launched.
const (
	Workers = "workers" // of a farm, as many as there are nodes
	Train   = "train"   // one training
	Search  = "search"  // one search
)

// commands are the commands of the modes.
var commands = map[string]string{Workers: "worker", Train: "train", Search: "search"}

// Again is the exit code at which what was told to end is started again: EX_TEMPFAIL of sysexits.h.
const Again = 75

// Launch is what is started, and where.
type Launch struct {
	Mode  string   // Workers, Train or Search
	Args  []string // of the command
	Name  string   // of the job; empty: ctnas-MODE
	Nodes int      // of which each runs one process
	GPUs  int      // a node; 0: none
	CPUs  int      // a node; 0: as the cluster sees fit
	Grace int      // seconds between SIGTERM and the end
	// Program is the program file there.
	Program string
	Command string // the line that wrote it, for whoever reads it

	Options []string // of Slurm: KEY=VALUE for a line #SBATCH --KEY=VALUE

	Image   string   // of Kubernetes
	Volumes []Volume // likewise
	Queue   string   // of Kueue; empty: none
	Port    int      // of --metrics
}

// Volume is a claim or a secret and where it is mounted.
type Volume struct {
	Name, Path string
	Secret     bool
}

// ParseVolume reads NAME=/PATH.
func ParseVolume(text string, secret bool) (Volume, error) {
	name, at, _ := strings.Cut(text, "=")
	plain := path.IsAbs(at) && path.Clean(at) == at && at != "/" && !strings.ContainsAny(at, ":\n")
	if !plain || !label.MatchString(name) {
		return Volume{}, fmt.Errorf("%q: want NAME=/PATH", text)
	}
	return Volume{name, at, secret}, nil
}

//go:embed *.tmpl
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{"json": func(v any) (string, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSpace(out.String()), err
}}).ParseFS(files, "*.tmpl"))

// label is a name that Kubernetes, Slurm and systemd take.
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// option is one of sbatch, on a line of its own.
var option = regexp.MustCompile(`^[a-z][-a-z]*(=[^\s#]+)?$`)

// check finds what no script can be written of.
func (l Launch) check() error {
	if l.Name != "" && !label.MatchString(l.Name) {
		return fmt.Errorf("name %q: want small letters, digits and dashes, at most 63", l.Name)
	}
	if len(l.Args) == 0 {
		return fmt.Errorf("want what comes behind `ctnas %s`, after --", commands[l.Mode])
	}
	for _, a := range append(slices.Clone(l.Args), l.Program, l.Command) {
		if strings.ContainsAny(a, "\n\r") {
			return fmt.Errorf("%q has more than one line", a)
		}
		// A comment of YAML ends at some of them, and what is printed has others as escapes.
		if visible.String(a) != a {
			return fmt.Errorf("%q has characters that are not seen, or are no UTF-8", a)
		}
	}
	return nil
}

// checkNodes refuses several nodes of what runs on one.
func (l Launch) checkNodes(together bool) error {
	switch {
	case l.Mode == Workers || l.Nodes == 1:
		return nil
	case l.Mode == Train && together && bits.OnesCount(uint(l.Nodes)) != 1:
		return fmt.Errorf("nodes %d: want a power of two for one training", l.Nodes)
	case l.Mode == Train && together:
		return nil
	}
	return fmt.Errorf("nodes %d: a %s runs on one node here; --mode workers is what runs on many", l.Nodes, l.Mode)
}

// view is what the templates see.
type view struct {
	Launch
	Again   int
	Line    string   // that starts the program
	Words   []string // likewise
	Workers bool
	Meeting int // where the nodes of one training meet; 0: there is one
}

// meetingPort is where node 0 of a training on several nodes waits for the others.
const meetingPort = 7421

func (l Launch) write(name string, quote func(string) string, more ...string) (string, error) {
	if err := l.check(); err != nil {
		return "", err
	}
	if l.Name == "" {
		l.Name = "ctnas-" + strings.TrimSuffix(l.Mode, "s")
	}
	v := view{Launch: l, Again: Again, Workers: l.Mode == Workers}
	if l.Mode == Train && l.Nodes > 1 {
		v.Meeting = meetingPort
	}
	v.Words = append(append([]string{l.Program, commands[l.Mode]}, l.Args...), more...)
	quoted := make([]string, len(v.Words))
	for i, w := range v.Words {
		quoted[i] = quote(w)
	}
	v.Line = strings.Join(quoted, " ")
	var out bytes.Buffer
	err := templates.ExecuteTemplate(&out, name, v)
	return out.String(), err
}

// Slurm is a script for sbatch; quote makes a word one for a shell.
func Slurm(l Launch, quote func(string) string) (string, error) {
	for _, o := range l.Options {
		if !option.MatchString(o) {
			return "", fmt.Errorf("option %q: want KEY=VALUE, as sbatch has them without their dashes", o)
		}
	}
	if err := l.checkNodes(true); err != nil {
		return "", err
	}
	return l.write("slurm.sh.tmpl", quote)
}

// Kubernetes is a manifest of a Job. The program answers there who watches it.
func Kubernetes(l Launch) (string, error) {
	if l.Image == "" {
		return "", fmt.Errorf("want an --image")
	}
	if err := l.checkNodes(false); err != nil {
		return "", err
	}
	mounted := []string{"/tmp", "/dev/shm"} // which the manifest has
	for _, v := range l.Volumes {
		if slices.Contains(mounted, v.Path) {
			return "", fmt.Errorf("%s: something is mounted there already", v.Path)
		}
		mounted = append(mounted, v.Path)
	}
	return l.write("k8s.yaml.tmpl", func(w string) string { return w }, "--metrics", fmt.Sprintf("0.0.0.0:%d", l.Port))
}

// Systemd is a unit with instances.
func Systemd(l Launch) (string, error) {
	if !path.IsAbs(l.Program) {
		return "", fmt.Errorf("program %q: a unit wants an absolute path", l.Program)
	}
	return l.write("systemd.service.tmpl", unitWord)
}

// unitWord is a word of ExecStart: systemd expands %, $ and \ in what is quoted, too.
func unitWord(w string) string {
	w = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$", "\t", `\t`).Replace(w)
	if strings.ContainsAny(w, " ;'\"\\") || w == "" {
		return `"` + w + `"`
	}
	return w
}
