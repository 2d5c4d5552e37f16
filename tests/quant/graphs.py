"""Random graphs over every operator, for property tests of the whole project.

Tests get `random_graph` and `random_input` as session fixtures (tests/conftest.py) and draw the
seed themselves: `@given(seed=st.integers(0, 2**32 - 1))`. Equal seeds give equal graphs.
"""

import dataclasses
import math

import numpy as np

from tercet.quant import ir

OPERATORS = frozenset(
    {"Conv2d", "Dense", "MaxPool", "AvgPool", "GlobalAvgPool", "Add", "Concat", "Flatten", "Pad"}
    | {"ArgMax"}
)
MAPS = ("Conv2d", "MaxPool", "AvgPool", "Add", "Concat", "Pad")
VECTORS = ("Dense", "Add", "Concat")


def random_graph(
    rng: np.random.Generator,
    ops: frozenset[str] | set[str] = OPERATORS,
    max_hw: int = 6,
    *,
    max_channels: int = 5,
    max_steps: int = 4,
) -> ir.Graph:
    """A valid graph whose operators come from `ops`; at least one of Conv2d, Dense or a pool.

    Images are at most max_hw x max_hw, channels about max_channels (Concat and Pad add some).
    Weights, biases, multipliers, shifts and thresholds take extreme values now and then.
    """
    assert set(ops) <= OPERATORS
    return _Builder(rng, frozenset(ops), max_hw, max_channels).build(max_steps)


def random_input(rng: np.random.Generator, graph: ir.Graph, count: int) -> ir.IntArray:
    """[count, *input_shape] values of the input's type; some images hold only its limits."""
    kind, shape = graph.input_type, (count, *graph.input_shape)
    x = rng.integers(kind.lo, kind.hi + 1, shape)
    limits = rng.choice([kind.lo, kind.hi], shape)
    extreme = kind.bipolar or rng.random(count).reshape(-1, *[1] * len(graph.input_shape)) < 0.3
    return np.where(extreme, limits, x).astype(np.int64)


def random_type(rng: np.random.Generator, *, bipolar: bool = True) -> ir.TensorType:
    """1..8 bits, signed or not, often with a zero point, now and then bipolar."""
    if bipolar and rng.random() < 0.12:
        return ir.TensorType(bits=1, signed=True, bipolar=True)
    signed = bool(rng.integers(2))
    bits = int(rng.integers(2 if signed else 1, 9))
    plain = ir.TensorType(bits=bits, signed=signed)
    zero = int(rng.integers(plain.lo, plain.hi + 1)) if rng.random() < 0.5 else 0
    return dataclasses.replace(plain, zero_point=zero)


def random_requantize(
    rng: np.random.Generator, channels: int, spread: float, out: ir.TensorType | None = None
) -> ir.Requantize:
    """A table for accumulators of about +-spread: mostly useful, sometimes at the limits."""
    out = random_type(rng, bipolar=False) if out is None else out
    count = channels if rng.random() < 0.5 else 1
    m_bits = int(rng.choice([8, 16, 24, 31])) if spread < 2**31 else 16
    top = (1 << m_bits) - 1
    shift = rng.integers(0, m_bits + 8, count)
    ideal = (out.hi - out.lo) / (2 * spread + 1) * rng.uniform(0.3, 3, count)
    multiplier = np.clip(np.rint(ideal * 2.0**shift), 0, top).astype(np.int64)
    if rng.random() < 0.15:
        multiplier = rng.choice([0, 1, top], count)
        shift = rng.choice([0, m_bits, 62], count)
    lo = out.zero_point if rng.random() < 0.4 else None
    least = out.lo if lo is None else lo
    bound = None
    if rng.random() < 0.3:
        bound = rng.integers(least, out.hi + 1, channels if rng.random() < 0.5 else 1)
    kind = str(rng.choice(["saturate", "zero"]))
    return ir.Requantize(multiplier, shift, out, m_bits, lo, None, bound, kind)


def random_thresholds(rng: np.random.Generator, channels: int, spread: float) -> ir.Thresholds:
    """Ascending rows within about +-spread, equal neighbours included."""
    while True:
        out = random_type(rng)
        if out.bits <= 4:
            break
    rows = channels if rng.random() < 0.5 else 1
    limit = int(spread) + 1
    values = np.sort(rng.integers(-limit, limit + 1, (rows, (1 << out.bits) - 1)), axis=1)
    return ir.Thresholds(values, out)


@dataclasses.dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    kind: ir.TensorType

    @property
    def reach(self) -> float:
        """Largest |x - zp|."""
        zero = self.kind.zero_point
        return float(max(self.kind.hi - zero, zero - self.kind.lo, 1))


class _Builder:
    """One chain: every step reads the newest tensor, so that the output needs every node."""

    def __init__(
        self, rng: np.random.Generator, ops: frozenset[str], max_hw: int, max_channels: int
    ) -> None:
        self.rng, self.ops = rng, ops
        self.max_hw, self.max_channels = max_hw, max_channels
        self.nodes: list[ir.Node] = []
        self.seen: list[_Tensor] = []

    def build(self, max_steps: int) -> ir.Graph:
        rng = self.rng
        image = bool(self.ops & {"Conv2d", "MaxPool", "AvgPool", "GlobalAvgPool", "Pad"})
        size = [int(n) for n in rng.integers(1, self.max_hw + 1, 2)] if image else []
        shape = (*size, int(rng.integers(1, self.max_channels + 1)))
        first = _Tensor("x", shape, random_type(rng))
        x = self._steps(first, MAPS if image else VECTORS, int(rng.integers(1, max_steps + 1)))
        if len(x.shape) == 3 and (squeeze := sorted(self.ops & {"Flatten", "GlobalAvgPool"})):
            x = self._step(x, str(rng.choice(squeeze)))
            x = self._steps(x, VECTORS, int(rng.integers(0, 3)))
        if not self.nodes:
            x = self._steps(x, tuple(sorted(self.ops - {"ArgMax"})), 1)
        x = self._tail(x)
        return ir.Graph("random", "x", first.shape, first.kind, tuple(self.nodes), x.name)

    def _steps(self, x: _Tensor, choices: tuple[str, ...], count: int) -> _Tensor:
        allowed = [op for op in choices if op in self.ops]
        for _ in range(count if allowed else 0):
            x = self._step(x, str(self.rng.choice(allowed)))
        return x

    def _tail(self, x: _Tensor) -> _Tensor:
        """Often the last sum stays an accumulator; often ArgMax follows."""
        last = self.nodes[-1]
        if isinstance(last, ir.Conv2d | ir.Dense) and self.rng.random() < 0.6:
            self.nodes[-1] = dataclasses.replace(last, requantize=None)
            if len(x.shape) == 3 and "Flatten" in self.ops and self.rng.random() < 0.5:
                x = self._step(x, "Flatten")
        if len(x.shape) == 1 and "ArgMax" in self.ops and self.rng.random() < 0.4:
            x = self._put(ir.ArgMax(name=self._name("argmax"), inputs=(x.name,)), (1,), x.kind)
        return x

    def _name(self, stem: str) -> str:
        return f"{stem}{len(self.nodes)}"

    def _put(self, node: ir.Node, shape: tuple[int, ...], kind: ir.TensorType) -> _Tensor:
        self.nodes.append(node)
        self.seen.append(_Tensor(node.name, shape, kind))
        return self.seen[-1]

    def _step(self, x: _Tensor, op: str) -> _Tensor:
        if op == "Pad" and x.kind.bipolar:
            return x
        return {
            "Conv2d": self._conv,
            "Dense": self._dense,
            "MaxPool": self._max_pool,
            "AvgPool": self._avg_pool,
            "GlobalAvgPool": self._global_avg_pool,
            "Add": self._add,
            "Concat": self._concat,
            "Flatten": self._flatten,
            "Pad": self._pad,
        }[op](x)

    def _weights(self, shape: tuple[int, ...]) -> dict[str, object]:
        rng = self.rng
        bits = int(rng.integers(1, 9))
        limit = 1 << (bits - 1)
        if bits == 1:
            weight = rng.choice([-1, 1], shape)
        elif rng.random() < 0.15:
            weight = np.full(shape, -limit)
        else:
            weight = rng.integers(-limit, limit, shape)
        huge = (1 << 40) - 1 if rng.random() < 0.05 else 1 << int(rng.integers(1, 12))
        bias = rng.integers(-huge, huge + 1, shape[0])
        return {"weight": weight, "bias": bias, "weight_bits": bits, "weight_bipolar": bits == 1}

    def _table(self, x: _Tensor, values: dict[str, object]) -> ir.Requantize | ir.Thresholds:
        weight, bias = np.asarray(values["weight"]), np.asarray(values["bias"])
        terms = weight[0].size
        spread = x.reach * float(np.abs(weight).max()) * math.sqrt(terms) / 2
        spread = max(spread, float(np.abs(bias).max()))
        make = random_thresholds if self.rng.random() < 0.3 else random_requantize
        return make(self.rng, len(bias), spread)

    def _window(
        self, x: _Tensor, dilation: tuple[int, int] = (1, 1), most: int = 3
    ) -> tuple[tuple[int, int], tuple[int, int], tuple[int, ...], tuple[int, int]]:
        """Kernel, stride, padding and result size of a window that fits the image."""
        rng = self.rng
        kernel, padding, stride, size = [], [0] * 4, [], []
        for axis in (0, 1):
            length, step = x.shape[axis], dilation[axis]
            k = int(rng.integers(1, most + 1))
            extent = (k - 1) * step + 1
            if not x.kind.bipolar:
                padding[axis], padding[axis + 2] = (int(n) for n in rng.integers(0, extent, 2))
            while extent > length + padding[axis] + padding[axis + 2]:
                k, padding[axis], padding[axis + 2] = k - 1, 0, 0
                extent = (k - 1) * step + 1
            kernel.append(k)
            stride.append(int(rng.integers(1, 3)))
            total = length + padding[axis] + padding[axis + 2]
            size.append((total - extent) // stride[axis] + 1)
        return tuple(kernel), tuple(stride), tuple(padding), tuple(size)

    def _conv(self, x: _Tensor) -> _Tensor:
        rng, channels = self.rng, x.shape[2]
        dilation = tuple(int(n) for n in rng.integers(1, 3, 2))
        kernel, stride, padding, size = self._window(x, dilation)
        groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
        out = groups * int(rng.integers(1, max(1, self.max_channels // groups) + 1))
        values = self._weights((out, *kernel, channels // groups))
        table = self._table(x, values)
        node = ir.Conv2d(
            name=self._name("conv"),
            inputs=(x.name,),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            requantize=table,
            **values,
        )
        return self._put(node, (*size, out), table.out)

    def _dense(self, x: _Tensor) -> _Tensor:
        out = int(self.rng.integers(1, self.max_channels + 1))
        values = self._weights((out, x.shape[0]))
        table = self._table(x, values)
        node = ir.Dense(name=self._name("dense"), inputs=(x.name,), requantize=table, **values)
        return self._put(node, (out,), table.out)

    def _max_pool(self, x: _Tensor) -> _Tensor:
        kernel, stride, padding, size = self._window(x)
        node = ir.MaxPool(
            name=self._name("max"), inputs=(x.name,), kernel=kernel, stride=stride, padding=padding
        )
        return self._put(node, (*size, x.shape[2]), x.kind)

    def _avg_pool(self, x: _Tensor) -> _Tensor:
        kernel, stride, padding, size = self._window(x)
        table = random_requantize(self.rng, x.shape[2], x.reach * math.sqrt(math.prod(kernel)))
        node = ir.AvgPool(
            name=self._name("avg"),
            inputs=(x.name,),
            kernel=kernel,
            stride=stride,
            padding=padding,
            requantize=table,
            count_include_pad=bool(self.rng.integers(2)),
        )
        return self._put(node, (*size, x.shape[2]), table.out)

    def _global_avg_pool(self, x: _Tensor) -> _Tensor:
        table = random_requantize(self.rng, x.shape[2], x.reach * math.sqrt(math.prod(x.shape[:2])))
        node = ir.GlobalAvgPool(name=self._name("mean"), inputs=(x.name,), requantize=table)
        return self._put(node, (x.shape[2],), table.out)

    def _flatten(self, x: _Tensor) -> _Tensor:
        node = ir.Flatten(name=self._name("flat"), inputs=(x.name,))
        return self._put(node, (math.prod(x.shape),), x.kind)

    def _pad(self, x: _Tensor) -> _Tensor:
        top, left, bottom, right, front, back = (int(n) for n in self.rng.integers(0, 2, 6))
        node = ir.Pad(
            name=self._name("pad"),
            inputs=(x.name,),
            padding=(top, left, bottom, right),
            channels=(front, back),
        )
        h, w, c = x.shape
        return self._put(node, (h + top + bottom, w + left + right, c + front + back), x.kind)

    def _partner(self, x: _Tensor, same: slice) -> _Tensor:
        """An earlier tensor that agrees with x on the `same` axes, at worst x itself."""
        fits = [
            t for t in self.seen if len(t.shape) == len(x.shape) and t.shape[same] == x.shape[same]
        ]
        return fits[int(self.rng.integers(len(fits)))] if fits else x

    def _add(self, x: _Tensor) -> _Tensor:
        rng, other = self.rng, self._partner(x, slice(None))
        shift = int(rng.integers(0, 20))
        multipliers = tuple(int(n) for n in rng.integers(0, (1 << shift) + 2, 2))
        if rng.random() < 0.15:
            multipliers, shift = ((1 << 31) - 1, 1), int(rng.choice([0, 62]))
        out = random_type(rng, bipolar=False)
        node = ir.Add(
            name=self._name("add"),
            inputs=(x.name, other.name),
            multipliers=multipliers,
            shift=shift,
            out=out,
            lo=out.zero_point if rng.random() < 0.4 else None,
        )
        return self._put(node, x.shape, out)

    def _concat(self, x: _Tensor) -> _Tensor:
        rng = self.rng
        parts = [x] + [self._partner(x, slice(0, -1)) for _ in range(int(rng.integers(1, 3)))]
        parts = [parts[i] for i in rng.permutation(len(parts))]
        keep = x.kind if x.kind.bipolar or rng.random() < 0.5 else None
        if keep is not None and keep.bipolar:
            parts = [t for t in parts if t.kind == keep]
        out = keep or random_type(rng, bipolar=False)
        tables = [
            None if t.kind == out else random_requantize(rng, t.shape[-1], t.reach, out)
            for t in parts
        ]
        node = ir.Concat(
            name=self._name("join"),
            inputs=tuple(t.name for t in parts),
            requantize=tuple(tables),
            out=out,
        )
        return self._put(node, (*x.shape[:-1], sum(t.shape[-1] for t in parts)), out)
