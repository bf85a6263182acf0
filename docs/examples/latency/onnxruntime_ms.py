"""Prints the milliseconds that onnxruntime takes for an ONNX file, the median of some runs, on one thread.

    ctnas latency measure --space nasbench201 --repeats 3 -o ort.csv \
        --runtime 'exec:python3 docs/examples/latency/onnxruntime_ms.py {onnx} {batch}'

Needs onnxruntime and numpy. For another runtime change what runs; what is printed stays.
"""

import json
import statistics
import sys
import time

import numpy
import onnxruntime

WARMUPS, SECONDS, LEAST = 3, 0.2, 10

path, batch = sys.argv[1], int(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
# The first dimension is the batch, which the files leave open.
inputs = {i.name: numpy.random.rand(batch, *i.shape[1:]).astype(numpy.float32) for i in session.get_inputs()}
for _ in range(WARMUPS):
    session.run(None, inputs)
taken = []
while sum(taken) < SECONDS or len(taken) < LEAST:
    begin = time.perf_counter()
    session.run(None, inputs)
    taken.append(time.perf_counter() - begin)
print(json.dumps({"ms": 1000 * statistics.median(taken)}))
