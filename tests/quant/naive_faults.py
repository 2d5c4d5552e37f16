"""Tensor faults the slow way: Python integers, one multiplication after the other."""

import math

import numpy as np

from tercet.quant import ir, ranges, reference, shapes
from tercet.quant.faults import LAST, Op, Tensor


def run(naive, graph, frame, faults, acc_bits=None):
    """Every tensor of one image [*input_shape] by name, with `faults` of one inference.

    `naive` is the module tests/quant/naive.py.
    """
    kinds, sizes, model = ranges.types(graph), shapes.infer(graph), reference.Reference(graph)
    tensors = {graph.input_name: np.array(frame)}
    _results(
        tensors[graph.input_name],
        of(faults, graph.input_name, Tensor.ACTIVATION),
        kinds[graph.input_name],
    )
    for node in graph:
        operands = [tensors[name].copy() for name in node.inputs]
        mine = [fault for fault in faults if fault.layer == node.name]
        source = node.inputs[0]
        _results(operands[0], of(mine, node.name, Tensor.INPUT), kinds[source])
        if isinstance(node, ir.Conv2d | ir.Dense):
            bits = (acc_bits or {}).get(node.name, ranges.infer(graph)[node.name].raw_bits)
            pairs = naive.products(node, operands[0], kinds[source].zero_point)
            found = _linear(pairs, node, mine, kinds[source], kinds[node.name], bits)
            tensors[node.name] = found.reshape(sizes[node.name])
        else:
            tensors[node.name] = model.evaluate(node, [x[None] for x in operands])[0]
        _results(tensors[node.name], of(mine, node.name, Tensor.ACTIVATION), kinds[node.name])
    return tensors


def of(faults, layer, kind):
    return [fault for fault in faults if fault.layer == layer and fault.tensor == kind]


def changed(word, fault, bits, kind):
    """The word after one fault, bit by bit."""
    if kind.bipolar and fault.op == Op.PUT:
        return fault.value
    if fault.op == Op.ADD:
        total = word + fault.value
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if kind.signed else (0, (1 << bits) - 1)
        return min(max(total, low), high)
    if fault.op == Op.PUT:
        return wrapped(fault.value, bits, kind)
    code = (word + 1) // 2 if kind.bipolar else word % (1 << bits)
    digits = [code >> i & 1 for i in range(bits)]
    for i in range(bits):
        if fault.value >> i & 1:
            digits[i] = {Op.FLIP: 1 - digits[i], Op.CLEAR: 0, Op.SET: 1}[fault.op]
    code = sum(digit << i for i, digit in enumerate(digits))
    return 2 * code - 1 if kind.bipolar else wrapped(code, bits, kind)


def wrapped(number, bits, kind):
    code = number % (1 << bits)
    return code - (1 << bits) if kind.signed and code >> (bits - 1) else code


def _results(tensor, faults, kind):
    flat = tensor.reshape(-1)
    for fault in faults:
        flat[fault.index] = changed(int(flat[fault.index]), fault, kind.bits, kind)


def _linear(pairs, node, faults, act, out, acc_bits):
    """Every element of the layer from its pairs of weight and operand."""
    weight = node.weight.reshape(node.out_channels, -1)
    acc_kind, result = ir.TensorType(acc_bits, True), []
    own = (Tensor.WEIGHT, Tensor.BIAS, Tensor.INPUT, Tensor.ACTIVATION)
    for element, (index, row) in enumerate(pairs):
        channel = index[-1]
        bias = int(node.bias[channel]) - act.zero_point * int(weight[channel].sum())
        for fault in of(faults, node.name, Tensor.BIAS):
            if fault.index == channel:
                bias = changed(bias, fault, fault.width or acc_bits, acc_kind)
        here = [f for f in faults if f.index == element and f.tensor not in own]
        stored = [
            (f.index % len(row), f)
            for f in of(faults, node.name, Tensor.WEIGHT)
            if f.index // len(row) == channel
        ]
        total = _sum(node, row, bias, here, stored, act, acc_bits)
        result.append(_finish(node, total, channel, here, out))
    return np.array(result)


def _sum(node, row, total, faults, stored, act, acc_bits):
    acc_kind = ir.TensorType(acc_bits, True)
    one_bit = act.bipolar and node.weight_bipolar
    natural = (
        1 if one_bit else act.bits + node.weight_bits + (not (act.signed or node.weight_bipolar))
    )
    weight_kind = ir.TensorType(node.weight_bits, True, bipolar=node.weight_bipolar)
    signed = ir.TensorType(40, True)
    sums = [f for f in faults if f.tensor == Tensor.PRODUCT and f.span > 1]
    products = []
    for step, (weight, x) in enumerate(row):
        for place, fault in stored:
            if place == step:
                weight = changed(weight, fault, node.weight_bits, weight_kind)
        width = natural
        for fault in (f for f in faults if f.step == step):
            if fault.tensor == Tensor.WEIGHT_READ:
                weight = changed(weight, fault, node.weight_bits, weight_kind)
                width = fault.width or width
            if fault.tensor == Tensor.INPUT_READ:
                x = changed(x, fault, act.bits, act)
        product = weight * x if one_bit else wrapped(weight * x, width, signed)
        kind = ir.TensorType(1, True, bipolar=True) if one_bit else signed
        for fault in (f for f in faults if f.step == step and f.tensor == Tensor.PRODUCT):
            if fault.span == 1:
                product = changed(product, fault, fault.width or natural, kind)
        products.append(product)
    for step, product in enumerate(products):
        total += product
        for fault in sums:
            if fault.step + fault.span - 1 == step:
                word = sum(products[fault.step : step + 1])
                bits = fault.width or natural + one_bit + math.ceil(math.log2(fault.span))
                total += changed(word, fault, bits, signed) - word
        for fault in (f for f in faults if f.tensor == Tensor.ACCUMULATOR):
            if fault.step == step or (fault.step == LAST and step == len(row) - 1):
                bits = fault.width or acc_bits
                total = changed(wrapped(total, bits, acc_kind), fault, bits, acc_kind)
    return wrapped(total, acc_bits, acc_kind)


def _finish(node, total, channel, faults, out):
    """Both halves of the requantisation, with what is added between them."""
    adds = [f for f in faults if f.tensor == Tensor.PREACTIVATION]
    table = node.requantize
    if table is None:
        low, high, word = out.lo, out.hi, wrapped(total, out.bits, out)
    elif isinstance(table, ir.Thresholds):
        row = table.values[channel % len(table.values)]
        return out.lo + (1 + out.bipolar) * sum(total >= int(t) for t in row)
    else:
        m, s = (int(t[channel % len(t)]) for t in (table.multiplier, table.shift))
        word = (total * m + (1 << s >> 1) >> s) + out.zero_point
        low, high = out.lo, out.hi
        if not out.signed and table.limits[0] == out.zero_point:
            low = 2 * out.zero_point - high - 1
        word = min(max(word, low), high)
    for fault in adds:
        word = min(max(word + fault.value, low), high)
    if table is None:
        return word
    word = min(max(word, table.limits[0]), table.limits[1])
    if table.bound is not None and word > (bound := int(table.bound[channel % len(table.bound)])):
        word = bound if table.bound_kind == "saturate" else out.zero_point
    return word
