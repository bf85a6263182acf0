package space

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Architectures stand in papers' code, in logs and in notebooks as Python writes them. A written value is here a
// pyText, a float64, a pyName (True, None, or the name of a constant), a pyList (of a list or a tuple) or a pyCall.
type (
	pyText string
	pyName string
	pyList []any
	pyCall struct {
		name      string // without the modules before it
		arguments pyList
		keys      []string // of the last arguments, which have names
	}
)

// named is the argument of a name.
func (c pyCall) named(key string) (any, bool) {
	i := slices.Index(c.keys, key)
	if i < 0 {
		return nil, false
	}
	return c.arguments[len(c.arguments)-len(c.keys)+i], true
}

// maxPyDepth is how deep values may stand in each other.
const maxPyDepth = 16

// pyToken is a text in quotes, a number, a name with the modules before it, or a mark.
var pyToken = regexp.MustCompile(`^(?:'[^'\\]*'|"[^"\\]*"|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[A-Za-z_][\w.]*|[][(),=])`)

// pyReader reads one value.
type pyReader struct {
	text  string
	at    int
	depth int
}

// next is the next token, which stays there until take; empty at the end.
func (r *pyReader) next() (string, error) {
	for r.at < len(r.text) && strings.IndexByte(" \t\r\n", r.text[r.at]) >= 0 {
		r.at++
	}
	if r.at == len(r.text) {
		return "", nil
	}
	token := pyToken.FindString(r.text[r.at:])
	if token == "" {
		return "", fmt.Errorf("character %d: %.20q is no part of a list, a name, a text or a number", r.at+1,
			r.text[r.at:])
	}
	return token, nil
}

// take goes on where the next token is one of some; another is an error.
func (r *pyReader) take(wanted ...string) (string, error) {
	token, err := r.next()
	if err != nil {
		return "", err
	}
	if !slices.Contains(wanted, token) {
		if token == "" {
			return "", fmt.Errorf("it ends where %s should follow", strings.Join(wanted, " or "))
		}
		return "", fmt.Errorf("character %d: %.20q where %s should follow", r.at+1, token, strings.Join(wanted, " or "))
	}
	r.at += len(token)
	return token, nil
}

// parsePython reads a text that is one value.
func parsePython(text string) (any, error) {
	r := &pyReader{text: text}
	v, err := r.value()
	if err != nil {
		return nil, err
	}
	if rest, err := r.next(); err != nil || rest != "" {
		return nil, fmt.Errorf("character %d: something follows: %.40q", r.at+1, r.text[r.at:])
	}
	return v, nil
}

func (r *pyReader) value() (any, error) {
	token, err := r.next()
	if err != nil {
		return nil, err
	}
	if token == "" {
		return nil, errors.New("it ends where a value should follow")
	}
	at := r.at
	r.at += len(token)
	switch c := token[0]; {
	case c == '\'' || c == '"':
		return pyText(token[1 : len(token)-1]), nil
	case token == "[":
		v, _, err := r.list("]")
		return v, err
	case token == "(":
		v, _, err := r.list(")")
		return v, err
	case strings.IndexByte("]),=", c) >= 0:
		return nil, fmt.Errorf("character %d: %q where a value should follow", at+1, token)
	case c >= '0' && c <= '9' || strings.IndexByte("+-.", c) >= 0:
		v, err := strconv.ParseFloat(token, 64)
		if err != nil {
			return nil, fmt.Errorf("character %d: %.40q is no number", at+1, token)
		}
		return v, nil
	}
	name := token[strings.LastIndexByte(token, '.')+1:]
	if following, err := r.next(); err != nil || following != "(" {
		return pyName(name), err
	}
	r.at++
	arguments, keys, err := r.list(")")
	if err != nil {
		return nil, err
	}
	return pyCall{name, arguments, keys}.value(), nil
}

// value is what a call stands for where it only says of which type a value is: np.str_('x'), np.int64(3), list((1, 2)),
// array([...]), range(2, 6).
func (c pyCall) value() any {
	if len(c.arguments) > 0 && len(c.keys) == len(c.arguments)-1 {
		switch c.name {
		case "str", "str_", "int", "int8", "int16", "int32", "int64", "uint8", "float", "float32", "float64", "bool",
			"bool_", "list", "tuple", "array", "matrix", "tensor":
			return c.arguments[0]
		}
	}
	if c.name != "range" || len(c.keys) > 0 || len(c.arguments) < 1 || len(c.arguments) > 2 {
		return c
	}
	from, to := 0.0, c.arguments[len(c.arguments)-1]
	if len(c.arguments) == 2 {
		from, _ = c.arguments[0].(float64)
	}
	end, ok := to.(float64)
	if !ok || end > 100 || from < 0 {
		return c
	}
	list := pyList{}
	for v := from; v < end; v++ {
		list = append(list, v)
	}
	return list
}

// list reads values up to a closing mark, with commas between them or, as NumPy prints arrays, without; the last may
// have names.
func (r *pyReader) list(end string) (list pyList, keys []string, err error) {
	if r.depth++; r.depth > maxPyDepth {
		return nil, nil, fmt.Errorf("character %d: more than %d lists in each other", r.at+1, maxPyDepth)
	}
	defer func() { r.depth-- }()
	list = pyList{}
	for {
		token, err := r.next()
		if err != nil {
			return nil, nil, err
		}
		if token == end {
			r.at += len(token)
			return list, keys, nil
		}
		v, err := r.value()
		if err != nil {
			return nil, nil, err
		}
		if token, err = r.next(); err != nil {
			return nil, nil, err
		}
		if name, is := v.(pyName); is && token == "=" && end == ")" {
			r.at++
			if slices.Contains(keys, string(name)) {
				return nil, nil, fmt.Errorf("character %d: %s stands there twice", r.at, name)
			}
			if v, err = r.value(); err != nil {
				return nil, nil, err
			}
			keys = append(keys, string(name))
			if token, err = r.next(); err != nil {
				return nil, nil, err
			}
		} else if len(keys) > 0 {
			return nil, nil, fmt.Errorf("character %d: a value without a name behind %s", r.at+1, keys[len(keys)-1])
		}
		list = append(list, v)
		switch {
		case token == ",":
			r.at++
		case token == end, token == "[", token != "" && strings.IndexByte("+-.0123456789TF'\"", token[0]) >= 0 &&
			end == "]":
		default:
			if _, err := r.take(",", end); err != nil {
				return nil, nil, err
			}
		}
	}
}

// pyEndsName is a text that ends within a name.
var pyEndsName = regexp.MustCompile(`\w$`)

// pyCalls finds the call of a function in a text such as `genotype = Genotype(...)` or a line of a log. Nothing but
// words stand before it.
func pyCalls(text, function string) (string, bool) {
	before, found := text, false
	if i := strings.Index(text, function+"("); i >= 0 {
		before, text, found = text[:i], text[i:], true
	}
	if found && !strings.ContainsAny(before, "()[]'\"") && !pyEndsName.MatchString(before) {
		return text, true
	}
	return text, false
}

// said writes a value for an error.
func said(v any) string {
	switch v := v.(type) {
	case pyText:
		return fmt.Sprintf("'%.60s'", string(v))
	case pyName:
		return fmt.Sprintf("%.60s", string(v))
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case pyCall:
		return fmt.Sprintf("%.60s(...)", v.name)
	case pyList:
		if len(v) > 6 {
			return fmt.Sprintf("a list of %d", len(v))
		}
		parts := make([]string, len(v))
		for i, x := range v {
			if parts[i] = said(x); len(parts[i]) > 40 {
				parts[i] = "..."
			}
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return "nothing"
}

// plainWords is a text without what copying puts around it: spaces, byte-order marks, and spaces that do not break.
func plainWords(text string) string {
	return strings.Trim(strings.ReplaceAll(text, "\u00a0", " "), " \t\r\n\ufeff")
}
