package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// sealKey is the key of a sealed JSON object that holds the SHA-256 of all others.
const sealKey = "sha256"

// ErrChanged says that a sealed file is not what was written.
var ErrChanged = errors.New("it was changed after it was written: its SHA-256 is another one")

// SealJSON writes a struct or map as an indented JSON object for people to read, with the SHA-256 of its content as one
// more key.
func SealJSON(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	fields, err := object(text)
	if err != nil {
		return nil, err
	}
	if _, taken := fields[sealKey]; taken {
		return nil, fmt.Errorf("the key %q is the seal's", sealKey)
	}
	sum, err := json.Marshal(digest(fields))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	text = append(text[:len(text)-1], fmt.Sprintf(`,"%s":%s}`, sealKey, sum)...)
	if len(fields) == 0 {
		text = fmt.Appendf(nil, `{"%s":%s}`, sealKey, sum)
	}
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return nil, err
	}
	return append(out.Bytes(), '\n'), nil
}

// OpenJSON reads what SealJSON wrote into v, which is left alone where it is something else: ErrChanged where a value
// differs, however the text is spaced.
func OpenJSON(text []byte, v any) error {
	fields, err := object(text)
	if err != nil {
		return err
	}
	var sum string
	if raw, sealed := fields[sealKey]; !sealed {
		return fmt.Errorf("it has no %q: it was written by another program or an older version", sealKey)
	} else if err := json.Unmarshal(raw, &sum); err != nil {
		return fmt.Errorf("%s: %w", sealKey, err)
	}
	delete(fields, sealKey)
	if sum != digest(fields) {
		return ErrChanged
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// object reads the keys of a JSON object, each of which stands there once, with their values as compact text.
func object(text []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, errors.New("want a JSON object")
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key := t.(string) // of an object
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		if _, twice := fields[key]; twice {
			return nil, fmt.Errorf("the key %q stands there twice", key)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			return nil, err
		}
		fields[key] = compact.Bytes()
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("more than one JSON object")
	}
	return fields, nil
}

func digest(fields map[string]json.RawMessage) string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		fmt.Fprintf(h, "%q:%s\n", key, fields[key])
	}
	return hex.EncodeToString(h.Sum(nil))
}
