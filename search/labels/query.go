package labels

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/ctnas/ctnas/internal/names"
	"github.com/ctnas/ctnas/internal/setting"
)

// ReadQuery reads key=value&key=value, whose keys are those of settings, each once; values may be escaped as in a URL.
func ReadQuery(query string, l *setting.List) (url.Values, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	for key, given := range values {
		switch {
		case l.Lookup(key) == nil:
			return nil, names.Unknown("key", key, l.Names())
		case len(given) != 1 || given[0] == "":
			return nil, fmt.Errorf("%s wants one value", key)
		}
	}
	return values, nil
}

// SetAll gives settings the values of a query.
func SetAll(l *setting.List, values url.Values) error {
	for _, key := range l.Names() {
		if values.Has(key) {
			if err := l.Set(key, values.Get(key)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Escaped is a value for ReadQuery that leaves what paths are made of readable.
func Escaped(value string) string {
	return strings.NewReplacer("%3A", ":", "%2F", "/", "%2C", ",").Replace(url.QueryEscape(value))
}
