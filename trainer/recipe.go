package trainer

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/names"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

//go:embed recipes/*.yaml recipes/supernet/*.yaml
var recipeFiles embed.FS

// networkRecipes is the folder of the recipes for networks that come with the program.
const networkRecipes = "recipes"

// RecipeNames lists the recipes that come with the program.
func RecipeNames() []string { return recipeNames(networkRecipes) }

func recipeNames(folder string) []string {
	embedded, _ := recipeFiles.ReadDir(folder)
	var names []string
	for _, f := range embedded {
		if name, is := strings.CutSuffix(f.Name(), ".yaml"); is {
			names = append(names, name)
		}
	}
	return names
}

// AbsoluteRecipe is the name of a recipe that is valid in any working directory: that of one that comes with the
// program stays.
func AbsoluteRecipe(name string) (string, error) { return absoluteRecipe(networkRecipes, name) }

func absoluteRecipe(folder, name string) (string, error) {
	if slices.Contains(recipeNames(folder), name) {
		return name, nil
	}
	return files.Absolute(name)
}

const maxRecipeBytes = 1 << 20

// OpenRecipe reads a recipe that comes with the program, or else the file of that name.
func OpenRecipe(name string) (Recipe, error) { return openRecipe(networkRecipes, name, parseRecipe) }

func openRecipe[R any](folder, name string, parse func(text []byte) (R, error)) (r R, err error) {
	text, err := recipeFiles.ReadFile(folder + "/" + name + ".yaml")
	if err != nil {
		if text, err = files.ReadText(name, maxRecipeBytes); errors.Is(err, fs.ErrNotExist) {
			known := recipeNames(folder)
			return r, fmt.Errorf("recipe %q is none of %s, nor a file%s: %w", name, strings.Join(known, ", "),
				names.Meant(name, known), err)
		} else if err != nil {
			return r, fmt.Errorf("recipe: %w", err)
		}
	}
	if r, err = parse(text); err != nil {
		return r, fmt.Errorf("recipe %s: %w", name, err)
	}
	return r, nil
}

func parseRecipe(text []byte) (Recipe, error) {
	r := RecipeDefaults()
	if err := r.Settings().Read(text); err != nil {
		return Recipe{}, err
	}
	return r, r.Check()
}

// Idle lists the keys that say something to which a network has no part.
func (r Recipe) Idle(net *nn.Network) []string {
	var keys []string
	if r.DropPath > 0 && !slices.ContainsFunc(net.Nodes, func(n nn.Node) bool {
		_, ok := n.Op.(nn.DropPath)
		return ok
	}) {
		keys = append(keys, "drop-path")
	}
	if r.AuxWeight > 0 && len(net.Outputs) < 2 {
		keys = append(keys, "aux-weight")
	}
	return keys
}

// Hash is a fingerprint of all values, 8 hexadecimal digits.
func (r Recipe) Hash() string {
	text, _ := json.Marshal(r) // numbers and text; not-a-numbers do not pass Check
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:4])
}

var initializers = map[string]nn.Initializer{"nasbench": nn.NASBench, "he-fan-out": nn.HeFanOut,
	"torch": nn.TorchDefault}

func initializerNames() []string { return slices.Sorted(maps.Keys(initializers)) }

// Check tells what is wrong with a recipe. The error begins with the key, so that two dashes before it make a flag of
// it.
func (r Recipe) Check() error {
	if err := r.Settings().Check(); err != nil {
		return err
	}
	if r.Warmup > float64(r.Epochs) {
		return fmt.Errorf("warmup %g: want 0 to %d, as many as there are epochs", r.Warmup, r.Epochs)
	}
	return nil
}

// Side is that of the images: the recipe's, or the set's own, or 0 where neither says it and the network does.
func (r Recipe) Side(d *data.Dataset) int {
	switch {
	case r.Resolution > 0:
		return r.Resolution
	case d.Width > 0 && d.Width == d.Height:
		return d.Width
	}
	return 0
}

// PathRate is what the probabilities of drop paths are multiplied by in an epoch from 0. Under the linear schedule it
// is that of DARTS (quark0/darts, cnn/train.py: drop_path_prob * epoch / epochs).
func (r Recipe) PathRate(epoch int) float64 {
	if r.DropPathSchedule == "linear" {
		return math.Min(1, float64(epoch)/float64(r.Epochs))
	}
	return 1
}

// Rate is the learning rate of the update that follows `updates` updates, with so many an epoch: it rises from
// WarmupLR to LR over the warm-up and then follows the schedule (Loshchilov and Hutter 2017 for the cosine).
func (r Recipe) Rate(updates, perEpoch int) float64 {
	epoch := float64(updates) / float64(perEpoch)
	if epoch < r.Warmup {
		return r.WarmupLR + (r.LR-r.WarmupLR)*math.Min(1, float64(updates+1)/(r.Warmup*float64(perEpoch)))
	}
	done := 1.0
	if left := float64(r.Epochs) - r.Warmup; left > 0 {
		done = math.Min(1, (epoch-r.Warmup)/left)
	}
	switch r.Schedule {
	case "cosine":
		return r.FinalLR + (r.LR-r.FinalLR)*(1+math.Cos(math.Pi*done))/2
	case "linear":
		return r.LR + (r.FinalLR-r.LR)*done
	case "exponential":
		return r.LR * math.Pow(r.Decay, (epoch-r.Warmup)/r.DecayEvery)
	case "step":
		return r.LR * math.Pow(r.Decay, math.Floor((epoch-r.Warmup)/r.DecayEvery+1e-9))
	}
	return r.LR
}
