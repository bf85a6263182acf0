package onnx

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// message is a protobuf message in the making. Field numbers are those of onnx.proto (github.com/onnx/onnx), IR version
// 8.
type message []byte

func (m *message) integer(field protowire.Number, v int64) {
	*m = protowire.AppendVarint(protowire.AppendTag(*m, field, protowire.VarintType), uint64(v))
}

func (m *message) text(field protowire.Number, s string) { m.bytes(field, []byte(s)) }

func (m *message) bytes(field protowire.Number, b []byte) {
	*m = protowire.AppendBytes(protowire.AppendTag(*m, field, protowire.BytesType), b)
}

func (m *message) float(field protowire.Number, v float32) {
	*m = protowire.AppendFixed32(protowire.AppendTag(*m, field, protowire.Fixed32Type), math.Float32bits(v))
}

// Data types of TensorProto.
const (
	typeFloat = 1
	typeInt64 = 7
)

// tensorProto is a TensorProto: dims = 1, data_type = 2, name = 8, raw_data = 9 (little-endian).
func tensorProto(name string, kind int64, shape []int, raw []byte) message {
	var m message
	for _, d := range shape {
		m.integer(1, int64(d))
	}
	m.integer(2, kind)
	if name != "" {
		m.text(8, name)
	}
	m.bytes(9, raw)
	return m
}

// attribute is an AttributeProto: name = 1, f = 2, i = 3, t = 5, ints = 8, type = 20.
func attribute(name string, value any) message {
	var m message
	m.text(1, name)
	switch v := value.(type) {
	case float64:
		m.float(2, float32(v))
		m.integer(20, 1)
	case int:
		m.integer(3, int64(v))
		m.integer(20, 2)
	case message:
		m.bytes(5, v)
		m.integer(20, 4)
	case []int:
		for _, x := range v {
			m.integer(8, int64(x))
		}
		m.integer(20, 7)
	}
	return m
}

// nodeProto is a NodeProto: input = 1, output = 2, name = 3, op_type = 4, attribute = 5.
func nodeProto(op, name string, in []string, out string, attributes ...message) message {
	var m message
	for _, s := range in {
		m.text(1, s)
	}
	m.text(2, out)
	m.text(3, name)
	m.text(4, op)
	for _, a := range attributes {
		m.bytes(5, a)
	}
	return m
}

// valueInfo is a ValueInfoProto (name = 1, type = 2) of floats whose first dimension is the batch, of any size.
func valueInfo(name string, dims ...int) message {
	var shape message // TensorShapeProto: dim = 1, of which dim_value = 1, dim_param = 2
	var batch message
	batch.text(2, "N")
	shape.bytes(1, batch)
	for _, d := range dims {
		var dim message
		dim.integer(1, int64(d))
		shape.bytes(1, dim)
	}
	var tensor, kind, m message // TypeProto: tensor_type = 1, of which elem_type = 1, shape = 2
	tensor.integer(1, typeFloat)
	tensor.bytes(2, shape)
	kind.bytes(1, tensor)
	m.text(1, name)
	m.bytes(2, kind)
	return m
}
