package format

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// torch.save has written three kinds of files, all of which hold a pickle with references to storages of numbers
// (torch/serialization.py):
//
//   - a zip archive (since PyTorch 1.6) with NAME/data.pkl and a storage in each NAME/data/KEY;
//   - five pickles (0.1.11 to 1.5) and behind them the storages, each a count of 8 bytes and the numbers;
//   - a tar archive (before) with the files pickle, tensors and storages.
//
// Read returns the tensors of the dictionary that the pickle is, or of one that stands in it under a usual name.

// torchMagic is the pickle of a number that begins the second kind of files.
var torchMagic = []byte{0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19}

const tarMagicAt = 257

func isTorch(r io.ReaderAt) bool {
	var head [512]byte
	n, _ := r.ReadAt(head[:], 0)
	return bytes.HasPrefix(head[:n], []byte("PK\x03\x04")) || bytes.HasPrefix(head[:n], torchMagic) ||
		bytes.HasPrefix(head[tarMagicAt:], []byte("ustar"))
}

// storage is an array of numbers.
type storage struct {
	kind string // of dtypes
	data []byte
}

// view is a tensor: a storage seen from an offset with strides, in numbers.
type view struct {
	of            *storage
	offset        int64
	shape, stride []int64
}

// maxDims is how many dimensions a tensor may have, as in PyTorch (at most 64 for most of what it does with them).
const maxDims = 64

// torchFile reads a file.
type torchFile struct {
	size     int64
	left     int64 // bytes that storages and tensors may still take, each charged each time, whatever they share
	storages map[string]*storage
	tensors  map[string]*view // by their keys, in tar archives
}

// dictionaries are names under which programs put the weights.
var dictionaries = []string{"state_dict", "model", "model_state_dict", "state_dict_ema", "net", "network"}

func decodeTorch(r io.ReaderAt, size int64) ([]Tensor, error) {
	// As float32 a number takes at most four times its space, some tensors share theirs, and an archive's files are
	// read before their parts.
	f := &torchFile{size: size, left: 10 * size, storages: map[string]*storage{}, tensors: map[string]*view{}}
	var head [4]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("%d bytes are no file of PyTorch", size)
	}
	var root any
	var err error
	switch {
	case string(head[:]) == "PK\x03\x04":
		root, err = f.zip(r)
	case head[0] == torchMagic[0]:
		root, err = f.pickles(io.NewSectionReader(r, 0, size))
	default:
		root, err = f.tar(io.NewSectionReader(r, 0, size))
	}
	if err != nil {
		return nil, err
	}
	return f.collect(root)
}

// take charges bytes that are about to be made.
func (f *torchFile) take(n int64) error {
	if f.left -= n; n < 0 || f.left < 0 {
		return fmt.Errorf("its storages and tensors take more than ten times the %d bytes of the file", f.size)
	}
	return nil
}

// collect copies the tensors of a dictionary.
func (f *torchFile) collect(root any) ([]Tensor, error) {
	top, ok := root.(*dict)
	if !ok {
		return nil, errors.New("the pickle is no dictionary: save a model's state_dict()")
	}
	for _, name := range dictionaries {
		if slices.ContainsFunc(top.values, isView) {
			break
		}
		if i := slices.Index(top.keys, any(name)); i >= 0 {
			if inner, ok := top.values[i].(*dict); ok {
				top = inner
			}
		}
	}
	var tensors []Tensor
	seen := map[string]int{}
	for i, v := range top.values {
		v, isTensor := v.(*view)
		name, isText := top.keys[i].(string)
		if !isTensor || !isText {
			continue
		}
		n, ok := elements(v.shape)
		if !ok {
			return nil, fmt.Errorf("tensor %.200q: shape %v in a file of %d bytes", name, v.shape, f.size)
		}
		if err := f.take(4*n + 8*int64(len(v.shape))); err != nil {
			return nil, fmt.Errorf("tensor %.200q: shape %v in a file of %d bytes: %w", name, v.shape, f.size, err)
		}
		t, err := v.tensor(name, n)
		if err != nil {
			return nil, fmt.Errorf("tensor %.200q: %w", name, err)
		}
		if k, twice := seen[name]; twice { // as in a dictionary
			tensors[k] = t
			continue
		}
		seen[name] = len(tensors)
		tensors = append(tensors, t)
	}
	if tensors == nil {
		return nil, fmt.Errorf("there are no tensors in the dictionary, nor in one named %s",
			strings.Join(dictionaries, ", "))
	}
	return tensors, nil
}

func isView(v any) bool {
	_, is := v.(*view)
	return is
}

// tensor copies n elements.
func (v *view) tensor(name string, n int64) (Tensor, error) {
	t := Tensor{Name: name, Shape: make([]int, len(v.shape)), Data: make([]float32, 0, n)}
	d := dtypes[v.of.kind]
	have := int64(len(v.of.data) / d.size)
	if len(v.stride) != len(v.shape) || v.offset < 0 || v.offset > have {
		return t, fmt.Errorf("shape %v with strides %v from number %d of %d", v.shape, v.stride, v.offset, have)
	}
	last, dense := v.offset, int64(1)
	contiguous := true
	for k := len(v.shape) - 1; k >= 0; k-- {
		t.Shape[k] = int(v.shape[k])
		if n == 0 {
			continue
		}
		if v.stride[k] < 0 || v.shape[k] > 1 && v.stride[k] > (have-last)/(v.shape[k]-1) {
			return t, fmt.Errorf("shape %v with strides %v from number %d of %d", v.shape, v.stride, v.offset, have)
		}
		last += v.stride[k] * (v.shape[k] - 1)
		contiguous = contiguous && (v.shape[k] == 1 || v.stride[k] == dense)
		dense *= v.shape[k]
	}
	if n == 0 {
		return t, nil
	}
	if last >= have {
		return t, fmt.Errorf("shape %v with strides %v from number %d of %d", v.shape, v.stride, v.offset, have)
	}
	if contiguous {
		from := v.offset * int64(d.size)
		t.Data = d.numbers(t.Data, v.of.data[from:from+n*int64(d.size)])
		return t, nil
	}
	index := make([]int64, len(v.shape))
	for at := v.offset; ; {
		t.Data = append(t.Data, d.read(v.of.data[at*int64(d.size):]))
		k := len(index) - 1
		for ; k >= 0; k-- { // the next index, the last dimension fastest
			at += v.stride[k]
			if index[k]++; index[k] < v.shape[k] {
				break
			}
			at -= v.stride[k] * v.shape[k]
			index[k] = 0
		}
		if k < 0 {
			return t, nil
		}
	}
}

// storageTypes are the classes that name a storage's numbers.
var storageTypes = map[string]string{
	"DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
	"LongStorage": "I64", "IntStorage": "I32",
	"ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8", "BoolStorage": "BOOL",
}

func storageKind(class any) (string, error) {
	g, _ := class.(global)
	kind, known := storageTypes[g.name]
	if !known {
		return "", fmt.Errorf("numbers of the class %.200q", g.module+"."+g.name)
	}
	return kind, nil
}

// reference returns the storage that a persistent id names, ("storage", class, key, device, count, ...), with find for
// those that are not known yet.
func (f *torchFile) reference(id any, find func(key, kind string, count int64) (*storage, error)) (any, error) {
	t, _ := id.(tuple)
	if len(t) < 5 || t[0] != "storage" {
		return opaque{"outside"}, nil
	}
	kind, err := storageKind(t[1])
	if err != nil {
		return nil, err
	}
	key, isText := t[2].(string)
	count, isNumber := t[4].(int64)
	if !isText || !isNumber || count < 0 {
		return nil, errors.New("a storage without a name or size")
	}
	s := f.storages[key]
	if s == nil {
		if s, err = find(key, kind, count); err != nil {
			return nil, err
		}
		f.storages[key] = s
	}
	if s.kind != kind {
		return nil, fmt.Errorf("storage %.200q is of %s and of %s", key, s.kind, kind)
	}
	if len(t) > 5 && t[5] != nil { // a part of it: (key, offset, count)
		part, _ := t[5].(tuple)
		if len(part) != 3 {
			return nil, errors.New("a part of a storage without bounds")
		}
		return nil, fmt.Errorf("storage %.200q is a part of another, which is not read", key)
	}
	return s, nil
}

// rebuild stands for the functions of torch._utils that make tensors.
func (u *unpickler) rebuild(f global, a tuple) (any, bool, error) {
	switch {
	case f.module != "torch._utils":
		return nil, false, nil
	case f.name == "_rebuild_parameter" && len(a) > 0:
		return a[0], true, nil
	case (f.name == "_rebuild_tensor_v2" || f.name == "_rebuild_tensor") && len(a) >= 4:
		s, isStorage := a[0].(*storage)
		offset, isNumber := a[1].(int64)
		shape, isShape := a[2].(tuple)
		stride, isStride := a[3].(tuple)
		if !isStorage || !isNumber || !isShape || !isStride {
			return nil, true, errors.New("a tensor without storage, offset, shape and strides")
		}
		dims, err := whole(shape)
		if err != nil {
			return nil, true, fmt.Errorf("shape: %w", err)
		}
		steps, err := whole(stride)
		if err != nil {
			return nil, true, fmt.Errorf("strides: %w", err)
		}
		u.spent += containBytes + itemBytes*int64(len(dims)+len(steps))
		return &view{s, offset, dims, steps}, true, nil
	}
	return nil, false, nil
}

// whole is a tuple of whole numbers, a dimension each.
func whole(t tuple) ([]int64, error) {
	if len(t) > maxDims {
		return nil, fmt.Errorf("%d dimensions, at most %d are accepted", len(t), maxDims)
	}
	numbers := make([]int64, len(t))
	for i, x := range t {
		n, is := x.(int64)
		if !is {
			return nil, fmt.Errorf("dimension %d is no whole number", i)
		}
		numbers[i] = n
	}
	return numbers, nil
}

// apart tells whether no two files of an archive share bytes, by which a small one would hold much.
func (f *torchFile) apart(archive []*zip.File) error {
	type body struct {
		from, to int64
		name     string
	}
	bodies := make([]body, 0, len(archive))
	for _, file := range archive {
		from, err := file.DataOffset()
		if err != nil {
			return fmt.Errorf("%.200q in the archive: %w", file.Name, err)
		}
		n := file.CompressedSize64
		if n > uint64(f.size) {
			return fmt.Errorf("%.200q in the archive has %d bytes, the file has %d", file.Name, n, f.size)
		}
		if n > 0 {
			bodies = append(bodies, body{from, from + int64(n), file.Name})
		}
	}
	slices.SortFunc(bodies, func(a, b body) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	for i := 1; i < len(bodies); i++ {
		if a, b := bodies[i-1], bodies[i]; b.from < a.to {
			return fmt.Errorf("%.200q and %.200q share bytes of the archive: from byte %d and from byte %d",
				a.name, b.name, a.from, b.from)
		}
	}
	return nil
}

func (f *torchFile) zip(r io.ReaderAt) (any, error) {
	z, err := zip.NewReader(r, f.size)
	if err != nil {
		return nil, err
	}
	if err := f.apart(z.File); err != nil {
		return nil, err
	}
	files := map[string]*zip.File{}
	prefix := ""
	for _, file := range z.File {
		if name, found := strings.CutSuffix(file.Name, "data.pkl"); found {
			prefix = name
		}
		if files[file.Name] != nil {
			return nil, fmt.Errorf("%.200q stands in the archive twice", file.Name)
		}
		files[file.Name] = file
	}
	content := func(name string, most int64) ([]byte, error) {
		file := files[prefix+name]
		switch {
		case file == nil:
			return nil, fmt.Errorf("there is no %.200s in the archive", name)
		case file.Method != zip.Store || file.UncompressedSize64 != file.CompressedSize64: // PyTorch compresses nothing
			return nil, fmt.Errorf("%.200s in the archive is compressed", name)
		}
		size, most := int64(file.UncompressedSize64), min(most, f.size)
		if size < 0 || size > most {
			return nil, fmt.Errorf("%.200s of %d bytes, want at most %d", name, file.UncompressedSize64, most)
		}
		if err := f.take(size); err != nil {
			return nil, fmt.Errorf("%.200s: %w", name, err)
		}
		in, err := file.Open()
		if err != nil {
			return nil, err
		}
		defer in.Close()
		text := make([]byte, size)
		_, err = io.ReadFull(in, text)
		return text, err
	}
	if order, err := content("byteorder", 16); err == nil && string(order) != "little" {
		return nil, fmt.Errorf("numbers in byte order %q", order)
	}
	text, err := content("data.pkl", maxPickle)
	if err != nil {
		return nil, err
	}
	u := newUnpickler(bytes.NewReader(text))
	u.call = u.rebuild
	u.persistent = func(id any) (any, error) {
		return f.reference(id, func(key, kind string, count int64) (*storage, error) {
			if count > f.size {
				return nil, fmt.Errorf("storage %.200q of %d numbers in a file of %d bytes", key, count, f.size)
			}
			data, err := content("data/"+key, count*int64(dtypes[kind].size))
			return &storage{kind, data}, err
		})
	}
	return u.load()
}

func (f *torchFile) pickles(r io.Reader) (any, error) {
	u := newUnpickler(r)
	for range 3 { // the magic number, the version, sizes of the writer's types
		if _, err := u.load(); err != nil {
			return nil, err
		}
	}
	u.call = u.rebuild
	u.persistent = func(id any) (any, error) {
		return f.reference(id, func(_, kind string, _ int64) (*storage, error) { return &storage{kind: kind}, nil })
	}
	root, err := u.load()
	if err != nil {
		return nil, err
	}
	keys, err := u.load()
	if err != nil {
		return nil, err
	}
	order, _ := keys.(*list)
	if order == nil {
		return nil, errors.New("there is no list of storages")
	}
	for _, key := range order.items {
		name, isText := key.(string)
		s := f.storages[name]
		if !isText || s == nil {
			return nil, fmt.Errorf("nothing refers to the storage %.200q", name)
		}
		if s.data, err = f.counted(u, dtypes[s.kind].size, f.size); err != nil {
			return nil, fmt.Errorf("storage %.200q: %w", name, err)
		}
	}
	return root, nil
}

// counted reads a count of 8 bytes and as many numbers from behind a pickle, in a file of a size.
func (f *torchFile) counted(u *unpickler, width int, size int64) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(u.r, head[:]); err != nil {
		return nil, err
	}
	u.read += 8
	count := binary.LittleEndian.Uint64(head[:])
	if count > uint64(size-u.read)/uint64(width) {
		return nil, fmt.Errorf("%d numbers at byte %d of %d", count, u.read, size)
	}
	if err := f.take(int64(count) * int64(width)); err != nil {
		return nil, err
	}
	data := make([]byte, int(count)*width)
	n, err := io.ReadFull(u.r, data)
	u.read += int64(n)
	return data, err
}

func (f *torchFile) tar(r io.ReadSeeker) (any, error) {
	files := map[string][]byte{}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if name := strings.TrimPrefix(h.Name, "./"); name == "storages" || name == "tensors" || name == "pickle" {
			if h.Size > f.size || files[name] != nil {
				return nil, fmt.Errorf("%s of %d bytes in an archive of %d, or twice", name, h.Size, f.size)
			}
			if err := f.take(h.Size); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if files[name], err = io.ReadAll(t); err != nil {
				return nil, err
			}
		}
	}
	if err := f.tarStorages(files["storages"]); err != nil {
		return nil, fmt.Errorf("storages: %w", err)
	}
	if err := f.tarTensors(files["tensors"]); err != nil {
		return nil, fmt.Errorf("tensors: %w", err)
	}
	u := newUnpickler(bytes.NewReader(files["pickle"]))
	u.call = u.rebuild
	u.persistent = func(id any) (any, error) {
		if v := f.tensors[keyOf(id)]; v != nil {
			return v, nil
		}
		return opaque{"outside"}, nil
	}
	return u.load()
}

// keyOf is a key of the tar form, a number or its text.
func keyOf(v any) string {
	switch v := v.(type) {
	case int64:
		return strconv.FormatInt(v, 10)
	case string:
		return v
	}
	return ""
}

// tarStorages reads a count, for each storage its (key, device, class) and numbers, and a list of (key, whole, offset,
// count) of parts.
func (f *torchFile) tarStorages(text []byte) error {
	u := newUnpickler(bytes.NewReader(text))
	count, err := u.load()
	n, ok := count.(int64)
	if err != nil || !ok {
		return fmt.Errorf("no count: %w", notANumber(err))
	}
	for range n {
		head, err := u.load()
		if err != nil {
			return err
		}
		t, _ := head.(tuple)
		if len(t) != 3 {
			return errors.New("a storage without key and class")
		}
		kind, err := storageKind(t[2])
		if err != nil {
			return err
		}
		data, err := f.counted(u, dtypes[kind].size, int64(len(text)))
		if err != nil {
			return err
		}
		f.storages[keyOf(t[0])] = &storage{kind, data}
	}
	parts, err := u.load()
	if err != nil {
		return err
	}
	items, _ := parts.(*list)
	if items == nil {
		return nil
	}
	for _, p := range items.items {
		t, _ := p.(tuple)
		if len(t) != 4 || f.storages[keyOf(t[1])] == nil {
			return errors.New("a part of no storage")
		}
		of := f.storages[keyOf(t[1])]
		size := int64(dtypes[of.kind].size)
		offset, _ := t[2].(int64)
		count, _ := t[3].(int64)
		if have := int64(len(of.data)) / size; offset < 0 || count < 0 || offset > have || count > have-offset {
			return fmt.Errorf("numbers %d to %d of %d", offset, offset+count, have)
		}
		f.storages[keyOf(t[0])] = &storage{of.kind, of.data[offset*size : (offset+count)*size]}
	}
	return nil
}

// tarTensors reads a count and for each tensor its (key, storage, class), the number of dimensions (8 bytes), sizes,
// strides and offset.
func (f *torchFile) tarTensors(text []byte) error {
	u := newUnpickler(bytes.NewReader(text))
	count, err := u.load()
	n, ok := count.(int64)
	if err != nil || !ok {
		return fmt.Errorf("no count: %w", notANumber(err))
	}
	for range n {
		head, err := u.load()
		if err != nil {
			return err
		}
		t, _ := head.(tuple)
		if len(t) != 3 || f.storages[keyOf(t[1])] == nil {
			return errors.New("a tensor without storage")
		}
		u.left = maxPickle
		dims, err := u.unsigned(8)
		if dims &= 0xffffffff; err != nil || dims > maxDims {
			return fmt.Errorf("a tensor of %d dimensions: %w", dims, notANumber(err))
		}
		numbers := make([]int64, 2*dims+1)
		for i := range numbers {
			x, err := u.unsigned(8)
			if err != nil {
				return err
			}
			numbers[i] = int64(x)
		}
		f.tensors[keyOf(t[0])] = &view{f.storages[keyOf(t[1])], numbers[2*dims], numbers[:dims], numbers[dims : 2*dims]}
	}
	return nil
}

// notANumber is the error, or that something is no number.
func notANumber(err error) error {
	if err == nil {
		return errors.New("not a number")
	}
	return err
}
