package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
)

//go:embed frame.html
var frameHTML string

//go:embed style.css
var styleCSS string

// frame is what all pages have in common (frame.html).
type frame struct {
	Policy  string // what the page may do
	Style   template.CSS
	Kind    string // of page
	Heading string
	Refresh int // seconds after which a browser that runs nothing loads it again; 0: never
}

func newFrame(kind, heading string) frame {
	return frame{Policy: policy, Style: template.CSS(styleCSS), Kind: kind, Heading: heading}
}

// policy lets a page load nothing, run nothing and send nothing: its own style sheet, known by its hash, is all that
// it needs.
var policy = func() string {
	sum := sha256.Sum256([]byte(styleCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'"
}()

// framed is the template of a page, which may use those of frame.html.
func framed(name, text string) *template.Template {
	return template.Must(template.Must(template.New(name).Parse(frameHTML)).Parse(text))
}
