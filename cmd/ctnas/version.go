package main

import (
	_ "embed"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/internal/setting"
)

//go:embed THIRD_PARTY_LICENSES
var thirdParty string // written by scripts/licenses.sh

// buildFacts says which program this is.
type buildFacts struct {
	Version  string `json:"version" yaml:"version"`
	Commit   string `json:"commit" yaml:"commit"`
	Modified bool   `json:"modified" yaml:"modified"` // built from a tree with changes that are not in the commit
	Go       string `json:"go" yaml:"go"`
	Platform string `json:"platform" yaml:"platform"`
}

func thisBuild() buildFacts {
	facts := buildFacts{Version: "unknown", Commit: "unknown", Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return facts
	}
	if info.Main.Version != "" {
		facts.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			facts.Commit = s.Value
		case "vcs.modified":
			facts.Modified = s.Value == "true"
		}
	}
	return facts
}

// String is the line of --version.
func (b buildFacts) String() string {
	return fmt.Sprintf("ctnas %s (commit %s, %s, %s)", b.Version, b.Commit, b.Go, b.Platform)
}

func newVersionCommand(a *app) *cobra.Command {
	var licenses bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Example: `  ctnas version
  ctnas version --json
  ctnas version --licenses > THIRD_PARTY_LICENSES`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if licenses {
				if a.json {
					return usagef("--licenses is text: no --json")
				}
				_, err := fmt.Fprint(a.stdout, thirdParty)
				return err
			}
			facts := struct {
				buildFacts
				GPU string `json:"gpu"`
			}{buildFacts: thisBuild()}
			if gpus, why := cuda.Devices(); len(gpus) == 0 {
				facts.GPU = "none: " + why.Error()
			} else {
				facts.GPU = fmt.Sprintf("%d (%s, CUDA %s)", len(gpus), gpus[0].Model, gpus[0].Driver)
			}
			if a.json {
				return a.printJSON(facts)
			}
			fmt.Fprintf(a.stdout, "%v\nGPUs: %s\n", facts.buildFacts, facts.GPU)
			return nil
		},
	}
	l := setting.New()
	l.Group("Version")
	l.Bool(&licenses, "licenses", "print the licences of what is linked into it instead")
	a.bind(cmd, l)
	return cmd
}
