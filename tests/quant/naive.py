"""The specification in plain Python integers, one output element at a time: slow and obvious.

A third opinion beside the NumPy reference and the torch executor. Tests get this module as the
session fixture `naive`.
"""

import itertools

import numpy as np

from tercet.quant import ir, ranges


def evaluate(graph, image):
    """Every tensor of one image by name, as object arrays of Python integers."""
    kinds = ranges.types(graph)
    values = {graph.input_name: np.array(image, dtype=object)}
    for node in graph:
        operands = [values[name] for name in node.inputs]
        values[node.name] = _node(node, operands, [kinds[name] for name in node.inputs])
    return values


def windows(node, shape):
    """For each output place: [(kernel place, (row, column) or None where padding stands)]."""
    kernel, stride = node.kernel, node.stride
    dilation = getattr(node, "dilation", (1, 1))
    top, left, bottom, right = node.padding
    rows = (shape[0] + top + bottom - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    columns = (shape[1] + left + right - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    for row, column in itertools.product(range(rows), range(columns)):
        places = []
        for i, j in itertools.product(range(kernel[0]), range(kernel[1])):
            r = row * stride[0] - top + i * dilation[0]
            c = column * stride[1] - left + j * dilation[1]
            inside = 0 <= r < shape[0] and 0 <= c < shape[1]
            places.append(((i, j), (r, c) if inside else None))
        yield (row, column), places


def products(node, operand, zero_point):
    """For each output element: (index, [(weight, raw value)]), zero points standing in padding."""
    if isinstance(node, ir.Dense):
        for o in range(node.out_channels):
            pairs = [(int(w), int(v)) for w, v in zip(node.weight[o], operand, strict=True)]
            yield (o,), pairs
        return
    each = node.weight.shape[3]
    for (row, column), places in windows(node, operand.shape):
        for o in range(node.out_channels):
            first = o // (node.out_channels // node.groups) * each
            pairs = []
            for (i, j), place in places:
                for k in range(each):
                    x = zero_point if place is None else int(operand[(*place, first + k)])
                    pairs.append((int(node.weight[o, i, j, k]), x))
            yield (row, column, o), pairs


def requantize(table, acc, channel, multiplier=None):
    """One accumulator through its table."""

    def of(vector):
        return int(vector[channel if len(vector) > 1 else 0])

    if isinstance(table, ir.Thresholds):
        row = table.values[channel if len(table.values) > 1 else 0]
        passed = sum(acc >= int(t) for t in row)
        return (1 if passed else -1) if table.out.bipolar else table.out.lo + passed
    m = of(table.multiplier) if multiplier is None else multiplier
    q = _scale(acc * m, of(table.shift), table.out.zero_point, table.limits)
    if table.bound is not None and q > of(table.bound):
        return of(table.bound) if table.bound_kind == "saturate" else table.out.zero_point
    return q


def _scale(value, shift, zero_point, limits):
    """Round half up to a multiple of 2^shift: floor(value / 2^shift + 1/2)."""
    q = (2 * value + 2**shift) // 2 ** (shift + 1) if shift else value
    return min(max(q + zero_point, limits[0]), limits[1])


def _filled(shape):
    return np.zeros(shape, dtype=object)


def _size(node, shape):
    last = max(place for place, _ in windows(node, shape))
    return last[0] + 1, last[1] + 1


def _node(node, operands, kinds):
    x, zero = operands[0], kinds[0].zero_point
    match node:
        case ir.Conv2d() | ir.Dense():
            return _linear(node, x, zero)
        case ir.MaxPool() | ir.AvgPool():
            out = _filled((*_size(node, x.shape), x.shape[2]))
            pool = _max if isinstance(node, ir.MaxPool) else _mean
            for (row, column), places in windows(node, x.shape):
                for c in range(x.shape[2]):
                    inside = [x[(*place, c)] for _, place in places if place is not None]
                    out[row, column, c] = pool(node, inside, zero, c)
            return out
        case ir.GlobalAvgPool():
            sums = [sum(v - zero for v in x[..., c].ravel()) for c in range(x.shape[2])]
            values = [requantize(node.requantize, acc, c) for c, acc in enumerate(sums)]
            return np.array(values, dtype=object)
        case ir.Add():
            return _add(node, operands, kinds)
        case ir.Concat():
            return _concat(node, operands, kinds)
        case ir.Flatten():
            return x.reshape(-1)
        case ir.Pad():
            top, left, bottom, right = node.padding
            spans = ((top, bottom), (left, right), node.channels)
            padded = np.pad(x, spans, constant_values=zero).astype(np.int64)
            return padded.astype(object)  # np.pad leaves NumPy integers, which can wrap
        case ir.ArgMax():
            return np.array([list(x).index(max(x))], dtype=object)
    raise AssertionError(node)


def _linear(node, x, zero):
    size = _size(node, x.shape) if isinstance(node, ir.Conv2d) else ()
    out = _filled((*size, node.out_channels))
    for index, pairs in products(node, x, zero):
        acc = int(node.bias[index[-1]]) + sum(w * (v - zero) for w, v in pairs)
        table = node.requantize
        out[index] = acc if table is None else requantize(table, acc, index[-1])
    return out


def _max(node, inside, zero, channel):
    return max(inside)  # the type's minimum, which padding inserts, is never larger


def _mean(node, inside, zero, channel):
    acc = sum(v - zero for v in inside)
    table = node.requantize
    if node.count_include_pad:
        return requantize(table, acc, channel)
    m = int(table.multiplier[channel if len(table.multiplier) > 1 else 0])
    n, window = len(inside), node.kernel[0] * node.kernel[1]
    return requantize(table, acc, channel, (m * window + n // 2) // n)


def _add(node, operands, kinds):
    out = _filled(operands[0].shape)
    for index in np.ndindex(out.shape):
        acc = sum(
            (x[index] - kind.zero_point) * m
            for x, kind, m in zip(operands, kinds, node.multipliers, strict=True)
        )
        out[index] = _scale(acc, node.shift, node.out.zero_point, node.limits)
    return out


def _concat(node, operands, kinds):
    parts = []
    for x, kind, table in zip(operands, kinds, node.requantize, strict=True):
        part = x.copy()
        for index in np.ndindex(x.shape) if table is not None else ():
            part[index] = requantize(table, x[index] - kind.zero_point, index[-1])
        parts.append(part)
    return np.concatenate(parts, axis=-1)
