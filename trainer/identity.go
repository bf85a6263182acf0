package trainer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/trainer/data"
)

// identity is everything that the rest of a run depends on. A resume must share all of it with the run that it goes
// on with.
type identity struct {
	Arch    string `about:"the architecture"`
	Net     string `about:"the network that the program makes of the architecture"` // hash
	Images  string `about:"the images: their number, order, contents, labels or classes"`
	Classes string `about:"the names of the classes"` // JSON
	Train   int    `about:"how many images are trained on"`
	Recipe  string `about:"the recipe"` // JSON
	Seed    uint64 `about:"the seed"`
	OnNaN   string `about:"what happens when a loss is not finite"`
	Teacher string `about:"the teacher's weights"`          // hash
	Start   string `about:"the weights that it began with"` // hash
	Sides   string `about:"the sides of the images"`        // of a supernet's; otherwise the network says it
	Decoder string `about:"the program's decoder of JPEG files"`
	Level   string `about:"the device and its instruction set"`
	Version string `about:"the program's version"`
}

// identify says what the course is: of the network, of what is trained and how, and of the teacher's weights.
func (c *course) identify(ctx context.Context, net string, recipe any, teacher string) (id identity, err error) {
	images, err := c.Data.Checksum(ctx)
	if err != nil {
		return id, err
	}
	classes, err := json.Marshal(c.Data.Classes)
	if err != nil {
		return id, err
	}
	how, err := json.Marshal(recipe)
	if err != nil {
		return id, err
	}
	sum := sha256.Sum256([]byte(net))
	return identity{
		Arch: c.Arch, Net: hex.EncodeToString(sum[:]), Images: images, Classes: string(classes),
		Train: c.Data.Train.Len(), Recipe: string(how), Seed: c.Seed, OnNaN: c.OnNaN, Teacher: teacher,
		Start:   c.Start.checksum(),
		Decoder: data.Decoder, Level: c.dev.Level(), Version: c.Version,
	}, nil
}

// mostShown is how long a value is that an error may quote whole.
const mostShown = 200

// differences says in words in what another identity differs: each part with the value that it has here and there, in
// the words for that.
func (id identity) differences(other identity, here, there string) []string {
	var list []string
	a, b := reflect.ValueOf(id), reflect.ValueOf(other)
	for i := range a.NumField() {
		one, two := fmt.Sprint(a.Field(i)), fmt.Sprint(b.Field(i))
		switch {
		case one == two:
			continue
		case a.Type().Field(i).Name == "Recipe":
			one, two = differentKeys(one, two)
		}
		text := a.Type().Field(i).Tag.Get("about")
		if max(len(one), len(two)) <= mostShown {
			text += fmt.Sprintf(" (%s %s, %s %s)", cmp.Or(one, "none"), here, cmp.Or(two, "none"), there)
		}
		list = append(list, text)
	}
	return list
}

// differentKeys are the settings in which two recipes in JSON differ, with the values that they have in each.
func differentKeys(then, now string) (a, b string) {
	var left, right SupernetRecipe // of a network's the keys of paths are not there, then and now
	if json.Unmarshal([]byte(then), &left) != nil || json.Unmarshal([]byte(now), &right) != nil {
		return then, now
	}
	var before, after []string
	for _, c := range setting.Changes(left.Settings(), right.Settings()) {
		before, after = append(before, c.Name+" "+c.Before), append(after, c.Name+" "+c.After)
	}
	return strings.Join(before, ", "), strings.Join(after, ", ")
}
