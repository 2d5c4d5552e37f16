"""Files that an importer must not trust: what is refused, in which words, and what is read."""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tercet.quant.errors import InputError
from tercet.quant.importers import onnx_file, onnx_tensors
from tercet.quant.importers.onnx_file import read_onnx
from tercet.quant.importers.onnx_model import load_onnx

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


@pytest.fixture
def models(helper):
    return helper("quant", "onnx_models")


@pytest.fixture
def save(tmp_path):
    """save(model) -> the path of its file."""

    def write(model):
        path = tmp_path / "m.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture
def small(models):
    """A quantised network, as a ModelProto."""
    maker, output = models.small_qdq()
    return maker.model(output)


def refused(path, message):
    """The error is one line that names the file."""
    with pytest.raises(InputError, match=message) as caught:
        load_onnx(path)

    assert str(caught.value).startswith("m.onnx: ")
    assert "\n" not in str(caught.value)


def test_reads_nodes_constants_and_shape(save, small):
    graph = read_onnx(save(small))

    assert (graph.input_name, graph.input_shape, graph.output_name) == ("x", (1, 2, 6, 6), "t12")
    assert graph.input_dtype == np.float32
    assert graph.nodes[0].op == "QuantizeLinear"
    assert graph.nodes[3].attributes["pads"] == (1, 1, 1, 1)
    assert not graph.initializers["c0"].flags.writeable


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (TensorProto.FLOAT, [0.5, -1.5, 2.0]),
        (TensorProto.DOUBLE, [0.5, -1.5, 2.0]),
        (TensorProto.FLOAT16, [0.5, -1.5, 2.0]),
        (TensorProto.INT8, [-128, 0, 127]),
        (TensorProto.UINT8, [0, 128, 255]),
        (TensorProto.INT16, [-300, 0, 300]),
        (TensorProto.INT32, [-(2**31), 0, 2**31 - 1]),
        (TensorProto.INT64, [-(2**62), 0, 2**62]),
        (TensorProto.UINT64, [0, 1, 2**63]),
        (TensorProto.BOOL, [0, 1, 1]),
        (TensorProto.INT4, [-8, 0, 7]),
        (TensorProto.UINT4, [0, 8, 15]),
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_constants_of_every_type(save, small, kind, values, raw):
    tensor = helper.make_tensor("k", kind, [3], values)
    if raw:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), "k")
    small.graph.initializer.append(tensor)
    small.graph.node.append(helper.make_node("Constant", [], ["n"], value_ints=[3, 4]))
    graph = read_onnx(save(small))

    assert graph.initializers["k"].tolist() == values
    assert ("k" in graph.four_bit) == (kind in (TensorProto.INT4, TensorProto.UINT4))
    assert graph.initializers["n"].tolist() == [3, 4]


def test_unsupported_operator(save, small):
    small.graph.node[3].op_type = "Einsum"

    refused(save(small), r"node Conv_3 \(Einsum\): operator Einsum is not supported; .*cut")


def test_unsupported_domain(save, small):
    small.graph.node[3].domain = "os.path"

    refused(save(small), "node Conv_3 .*domain 'os.path' is not supported; supported: ''")


@pytest.mark.parametrize("version", [6, 99])
def test_unsupported_opset(save, small, version):
    small.opset_import[0].version = version

    refused(save(small), rf"opset {version} of domain '' is not supported; export with opset 7..")


def test_domain_without_opset(save, small):
    del small.opset_import[:]
    small.opset_import.append(helper.make_opsetid("com.microsoft", 1))

    refused(save(small), "imports no opset of domain ''")


def test_local_functions(save, small):
    small.functions.append(onnx.FunctionProto(name="f", domain="d"))

    refused(save(small), "local functions; inline them")


def test_sub_graphs(save, small):
    small.graph.node[3].attribute.append(helper.make_attribute("body", small.graph))

    refused(save(small), "Conv_3 .*attribute body is a sub-graph")


def test_missing_scales(models, save):
    m = models.Maker([1, 2, 4, 4])
    weight = m.constant(np.ones((2, 2, 1, 1)), np.float32)
    y = m.qdq(m.node("Conv", m.qdq("x", 0.1), weight), 0.1)

    refused(save(m.model(y)), r"Conv_2 \(Conv\): its weight c.* not quantised \(missing scales\)")


@pytest.mark.parametrize("count", [1, 0])
def test_quantiser_without_scale(models, save, count):
    m = models.Maker([1, 2, 4, 4])
    m.nodes.append(helper.make_node("QuantizeLinear", ["x"] * count, ["q"], name="first"))

    refused(save(m.model("q")), r"first \(QuantizeLinear\): has no (scale|operand)")


def test_activation_between_layers_without_scale(models, save):
    m = models.Maker([1, 2, 4, 4])
    y = m.node("Conv", m.qdq("x", 0.1), m.weight((2, 2, 1, 1)))
    y = m.node("Conv", y, m.weight((2, 2, 1, 1)))

    refused(save(m.model(m.qdq(y, 0.1))), r"Conv_5 .*operand .* not quantised \(missing scales\)")


def test_input_without_scale(models, save):
    m = models.Maker([1, 6])
    y = m.node("MatMul", "x", m.weight((6, 2)))

    refused(save(m.model(m.qdq(y, 0.1))), r"MatMul_1 .*operand x is not quantised")


@pytest.mark.parametrize(("place", "what"), [(1, "scale"), (2, "zero point")])
def test_scale_and_zero_point_must_be_constant(models, save, place, what):
    m = models.Maker([1, 2, 4, 4])
    pair = list(m.scales(0.1))
    pair[place - 1] = m.node("Relu", "x")
    y = m.node("QuantizeLinear", m.qdq("x", 0.1), *pair)

    refused(save(m.model(y)), f"QuantizeLinear_.*: {what} t0 is computed .* must be constant")


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_scale_must_be_positive_and_finite(models, save, scale):
    m = models.Maker([1, 6])

    refused(save(m.model(m.qdq("x", scale))), "QuantizeLinear_0 .*(positive|NaN)")


def external(tmp_path, model, location, **entries):
    """The model with its first weight (int8, 72 bytes) in another file."""
    tensor = next(c for c in model.graph.initializer if len(c.dims) == 4)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=str(value)))
    path = tmp_path / "inside" / "m.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_in_the_folder_is_read(tmp_path, small):
    path = external(tmp_path, small, "deep/w.bin", offset=8, length=72)
    (path.parent / "deep").mkdir()
    data = np.arange(80, dtype=np.int8)
    data.tofile(path.parent / "deep" / "w.bin")
    weight = next(v for v in read_onnx(path).initializers.values() if v.ndim == 4)

    assert weight.ravel().tolist() == data[8:].tolist()


@pytest.mark.parametrize("way", ["../w.bin", "absolute", "deep/../../w.bin", "..\\w.bin"])
def test_external_data_outside_the_folder(tmp_path, small, way):
    (tmp_path / "w.bin").write_bytes(bytes(72))
    location = str(tmp_path / "w.bin") if way == "absolute" else way

    refused(external(tmp_path, small, location), "tensor c.* outside the model's folder")


@pytest.mark.parametrize("link", ["w.bin", "deep"])
def test_external_data_through_a_symlink(tmp_path, small, link):
    path = external(tmp_path, small, "w.bin" if link == "w.bin" else "deep/w.bin")
    (tmp_path / "w.bin").write_bytes(bytes(72))
    (path.parent / link).symlink_to(tmp_path / "w.bin" if link == "w.bin" else tmp_path)

    refused(path, "tensor c.* is a symbolic link")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": 1}, "ends behind the end of w.bin"),
        ({"length": 10**12}, "of 1000000000000 bytes for a tensor of 72"),
        ({"offset": -1}, "whole numbers"),
        ({"offset": "9" * 99}, "whole numbers"),
    ],
)
def test_external_data_that_does_not_fit(tmp_path, small, entries, message):
    path = external(tmp_path, small, "w.bin", **entries)
    (path.parent / "w.bin").write_bytes(bytes(72))

    refused(path, message)


@pytest.mark.parametrize("location", ["", ".", "gone.bin"])
def test_external_data_that_is_no_file(tmp_path, small, location):
    refused(external(tmp_path, small, location), "no (such )?file")


def test_truncated_protobuf(save, small):
    path, data = save(small), small.SerializeToString()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])

        refused(path, r"truncated|no network|made by no node|outputs|shape|damaged|number|no opset")


def test_not_a_protobuf(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_text("hello")

    refused(path, "truncated or not an ONNX file")


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"m\.onnx: no such file"):
        load_onnx(tmp_path / "m.onnx")


def test_file_over_the_limit(save, small, monkeypatch):
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 1000)

    refused(save(small), "more than 1000 bytes")


def test_cycle(save, small):
    small.graph.node[3].input[0] = small.graph.node[4].output[0]

    refused(save(small), "node Conv_3 .*later node or by a cycle")


def test_nodes_out_of_order(save, small):
    nodes = list(small.graph.node)
    del small.graph.node[:]
    small.graph.node.extend(reversed(nodes))

    refused(save(small), "made by a later node or by a cycle; sort the nodes")


def test_unknown_input(save, small):
    small.graph.node[0].input[0] = "nobody"

    refused(save(small), "QuantizeLinear_0 .*unknown input nobody")


def test_tensor_made_twice(save, small):
    small.graph.node[5].output[0] = "t0"

    refused(save(small), "output t0 is made twice")


def test_two_inputs(save, small):
    small.graph.input.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]))

    refused(save(small), "2 inputs and 1 outputs; cut it")


@pytest.mark.parametrize("batch", ["n", None, 1, 4])
def test_open_batch_axis_is_one(models, save, batch):
    m, y = models.small_qdq(models.Maker([batch, 2, 6, 6]))
    graph = read_onnx(save(m.model(y)))

    assert graph.input_shape == (batch if isinstance(batch, int) else 1, 2, 6, 6)
    assert load_onnx(save(m.model(y))).graph.input_shape == (6, 6, 2)


@pytest.mark.parametrize("shape", [[1, 2, "rows", 6], [1, 2, None, 6], [1, 0, 6, 6]])
def test_other_axes_must_have_a_size(models, save, shape):
    m, y = models.small_qdq(models.Maker(shape))

    refused(save(m.model(y)), r"input x: axis \d .* has no size; .*only the batch axis")


@pytest.mark.parametrize("shape", [[6], [1, 2, 6], [1, 2, 3, 6, 6]])
def test_input_of_another_rank(models, save, shape):
    m, y = models.small_qdq(models.Maker(shape))

    refused(save(m.model(y)), "input x: must have 2 axes .* or 4")


@pytest.mark.parametrize("dims", [[10**12], [10**6, 10**6], [2**40, 2**40, 0], [-1], [1] * 99])
def test_tensor_that_claims_too_much(save, small, dims):
    small.graph.initializer[0].dims[:] = dims

    refused(save(small), r"tensor c0: (claims \d+ elements; at most|a shape needs)")


def test_constants_that_are_too_large_together(save, small, monkeypatch):
    monkeypatch.setattr(onnx_tensors, "MAX_TOTAL_BYTES", 50)

    refused(save(small), "tensor c.*more than 50 bytes")


def test_computed_constant_that_is_too_large(models, save):
    m = models.Maker([1, 6])
    big = m.node("ConstantOfShape", m.constant([10**6, 10**6], np.int64))

    refused(save(m.model(m.node("Add", "x", big))), "ConstantOfShape_0 .*1000000000000 elements")


def test_fewer_bytes_than_the_shape(save, small):
    small.graph.initializer[0].raw_data = b"\0\0"

    refused(save(small), "tensor c0: has 2 bytes where its shape needs 4")


def test_names_are_made_safe(save, small):
    small.graph.node[3].name = "a\n<b>`"
    graph = load_onnx(save(small)).graph

    assert graph.nodes[0].name.isidentifier()


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_bytes_give_an_error_or_a_graph(models, save, data):
    """Nothing but InputError ever comes out, whatever the file holds."""
    maker, output = models.small_qdq()
    raw = bytearray(maker.model(output).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        kind = data.draw(st.sampled_from(["set", "flip", "cut", "insert"]))
        if kind == "set":
            raw[place] = data.draw(st.integers(0, 255))
        elif kind == "flip":
            raw[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del raw[place : place + data.draw(st.integers(1, 8))]
        else:
            raw[place:place] = data.draw(st.binary(min_size=1, max_size=8))
    path = save(maker.model(output))
    path.write_bytes(raw)
    with contextlib.suppress(InputError):
        assert load_onnx(path, lambda: np.ones((1, 2, 6, 6))).graph.nodes
