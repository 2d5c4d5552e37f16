"""ONNX models made on the spot: a maker for nodes and constants, and small quantised networks."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tercet.quant import ranges, shapes
from tercet.quant.importers.onnx_compare import compare
from tercet.quant.importers.onnx_model import load_onnx

FRAMES = 24
OPSETS = {"": 17, "com.microsoft": 1}


class Maker:
    """Collects nodes; every method returns the name of the tensor that it made."""

    def __init__(self, shape, opset=17, dtype=TensorProto.FLOAT, seed=0):
        self.rng = np.random.default_rng(seed)
        self.opsets = {**OPSETS, "": opset}
        self.input = helper.make_tensor_value_info("x", dtype, shape)
        self.nodes, self.constants = [], []

    def constant(self, array, dtype=None):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype=dtype), name))
        return name

    def node(self, op, *inputs, domain="", outputs=1, **attributes):
        names = [f"t{len(self.nodes)}_{i}" if i else f"t{len(self.nodes)}" for i in range(outputs)]
        made = helper.make_node(
            op, inputs, names, name=f"{op}_{len(self.nodes)}", domain=domain, **attributes
        )
        self.nodes.append(made)
        return names[0]

    def scales(self, scale, zero=0, dtype=np.uint8):
        return self.constant(scale, np.float32), self.constant(zero, dtype)

    def quantize(self, x, scale, zero=0, dtype=np.uint8):
        """QuantizeLinear only."""
        return self.node("QuantizeLinear", x, *self.scales(scale, zero, dtype))

    def qdq(self, x, scale, zero=0, dtype=np.uint8):
        """QuantizeLinear and DequantizeLinear with one scale and zero point."""
        pair = self.scales(scale, zero, dtype)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, *pair), *pair)

    def weight(self, shape, axis=None, scale=0.0103, zero=0, dtype=np.int8):
        """A quantised random weight; scales differ along `axis`."""
        limits = np.iinfo(dtype)
        q = self.rng.integers(max(limits.min, zero - 127), min(limits.max, zero + 127) + 1, shape)
        if axis is None:
            pair, extra = self.scales(scale, zero, dtype), {}
        else:
            spread = scale * self.rng.uniform(0.5, 2, shape[axis])
            pair, extra = self.scales(spread, np.full(shape[axis], zero), dtype), {"axis": axis}
        return self.node("DequantizeLinear", self.constant(q, dtype), *pair, **extra)

    def bias(self, scales):
        """An int32 bias with scale s_x * s_w."""
        q = self.constant(self.rng.integers(-2000, 2000, len(np.atleast_1d(scales))), np.int32)
        return self.node("DequantizeLinear", q, self.constant(scales, np.float32), axis=0)

    def model(self, output):
        graph = helper.make_graph(
            self.nodes,
            "network",
            [self.input],
            [onnx.ValueInfoProto(name=output)],
            self.constants,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in self.opsets.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def save(self, path, output):
        onnx.save(self.model(output), path)
        return path


def small_qdq(maker=None):
    """x -> Conv -> Relu -> MaxPool -> Flatten -> Gemm -> output, quantised; (maker, output)."""
    m = maker or Maker(["n", 2, 6, 6])
    x = m.qdq("x", 0.02, 128)
    y = m.node("Relu", m.node("Conv", x, m.weight((4, 2, 3, 3), 0), pads=[1, 1, 1, 1]))
    y = m.node("MaxPool", m.qdq(y, 0.05), kernel_shape=[2, 2], strides=[2, 2])
    y = m.node("Gemm", m.node("Flatten", y), m.weight((3, 36)), transB=1)
    return m, m.qdq(y, 0.3, 120)


def agree(path, maker, output, share=0.0):
    """The graph, after every layer of it equals onnxruntime's but for `share`, by one step."""
    maker.save(path, output)
    model = load_onnx(path)
    kind = model.graph.input_type
    shapes.infer(model.graph)
    ranges.infer(model.graph)
    x = np.random.default_rng(1).integers(kind.lo, kind.hi + 1, (FRAMES, *model.graph.input_shape))
    layers, end = compare(path, model, x)

    assert end is not None
    assert all(one.share <= share and one.largest <= 1 for one in layers), layers
    return model.graph


def kinds(graph):
    """Operators of a graph, in order."""
    return [type(node).__name__ for node in graph]
