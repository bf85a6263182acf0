package data

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// LeftOut are files that lie among the images of a set and are not read.
type LeftOut struct {
	Why   string   `json:"why"`
	Count int      `json:"count"`
	First []string `json:"first"` // some of them
}

// String reads like "3 .gif files (a.gif, b.gif, …)".
func (l LeftOut) String() string {
	names := strings.Join(l.First, ", ")
	if l.Count > len(l.First) {
		names += ", …"
	}
	return fmt.Sprintf("%d %s (%s)", l.Count, l.Why, names)
}

// Reasons of LeftOut.
const (
	whyHidden   = "hidden"
	whyBeside   = "beside the folders of classes"
	whyNested   = "folders in a class's folder"
	whyUnread   = "folders that are no part of the set"
	whyUnlisted = "images that labels.csv does not list"
	whyNoImage  = "samples without an image"
)

// whyType is the reason of a file whose name says that it is no image that is read.
func whyType(ext string) string {
	if ext == "" {
		return "files without an ending"
	}
	return strings.ToLower(ext) + " files"
}

// leftNames is how many of the files left out for one reason are named.
const leftNames = 3

// leaving collects what is left out, by the reason.
type leaving map[string]*LeftOut

func (l leaving) add(why, name string) {
	if l[why] == nil {
		l[why] = &LeftOut{Why: why}
	}
	if l[why].Count++; len(l[why].First) < leftNames {
		l[why].First = append(l[why].First, name)
	}
}

func (l leaving) merge(other leaving) {
	for why, x := range other {
		if l[why] == nil {
			l[why] = &LeftOut{Why: why}
		}
		l[why].Count += x.Count
		l[why].First = append(l[why].First, x.First[:min(len(x.First), leftNames-len(l[why].First))]...)
	}
}

// list is what was left out, the most frequent reason first.
func (l leaving) list() []LeftOut {
	out := []LeftOut{}
	for _, x := range l {
		out = append(out, *x)
	}
	slices.SortFunc(out, func(a, b LeftOut) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.Why, b.Why)) })
	return out
}

// warnLeftOut says in a line what was left out.
func (d *Dataset) warnLeftOut(warn func(string)) {
	if len(d.LeftOut) == 0 || warn == nil {
		return
	}
	total, parts := 0, []string{}
	for _, l := range d.LeftOut {
		total += l.Count
		parts = append(parts, l.String())
	}
	warn(fmt.Sprintf("%s: %d files or folders are not read: %s", d.Name, total, strings.Join(parts, "; ")))
}
