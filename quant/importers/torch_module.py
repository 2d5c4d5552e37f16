"""A torch module, or a program that torch.export wrote, becomes a float graph.

torch.export traces the module and `run_decompositions` brings it to core ATen operators, the same
vocabulary from torch 2.6 on and without in-place operators. Operators whose operands are all
weights are computed at once; the others go through `torch_operators.OPERATORS`.
"""

from __future__ import annotations

import contextlib
import logging
import operator
import warnings
from collections.abc import Iterator
from typing import Any

from ..errors import InputError
from ..float_graph import FloatGraph
from ..float_passes import simplify
from ..names import printable
from .torch_calls import Builder, Call
from .torch_operators import OPERATORS, SUPPORTED

__all__ = ["import_program", "import_torch"]

BATCH = 2  # tells the batch axis from a one


def import_torch(module: Any, input_shape: tuple[int, ...]) -> FloatGraph:
    """Trace `module` (torch.nn.Module, evaluated as in eval()) for one input of `input_shape`.

    `input_shape` is (c, h, w) or (features,), without the batch axis. Raises InputError, naming the
    layer, for an operator that is not supported, a shape that depends on data and weights that are
    not finite.
    """
    import torch

    shape = tuple(input_shape)
    if len(shape) not in (1, 3) or any(type(n) is not int or n < 1 for n in shape):
        raise InputError(f"input shape {shape} must be (channels, height, width) or (features,)")
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"the model must be a torch.nn.Module, not {type(module).__name__}")
    modes = [(part, part.training) for part in module.modules()]
    example = torch.zeros(BATCH, *shape)
    module.eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(module, (example,), strict=False)
    except Exception as error:
        raise InputError(
            f"torch.export cannot trace {type(module).__name__} for an input of {shape}: "
            f"{_first_line(error)}"
        ) from error
    finally:
        for part, training in modes:
            part.training = training
    return import_program(program, type(module).__name__)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, and no log: torch prints the traceback of an error that it also raises."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def import_program(program: Any, name: str) -> FloatGraph:
    """The float graph of a torch.export.ExportedProgram; raises InputError as `import_torch`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = program.run_decompositions()
    inputs = program.graph_signature.user_inputs
    outputs = program.graph_signature.user_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(
            f"the model has {len(inputs)} inputs and {len(outputs)} outputs; it must have one each"
        )
    values = _weights(program)
    builder = Builder()
    source = ""
    shape: tuple[int, ...] = ()
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name == inputs[0]:
                builder.batch = _tensor_shape(node, "the input")[0]
                source, shape = node.name, _static(node, "the input", builder.batch)
                values[node] = source
                builder.shapes[source] = shape
        elif node.op == "call_function":
            values[node] = _call(node, values, builder)
    result = next((n for n in values if n.name == outputs[0]), None)
    output = values.get(result)
    if not isinstance(output, str) or output == source:
        raise InputError("the model's output does not depend on its input")
    graph = FloatGraph(name, source, shape, tuple(builder.nodes), output)
    return simplify(graph)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return printable(lines[0] if lines else type(error).__name__)


def _weights(program: Any) -> dict[Any, Any]:
    """Placeholder node -> its parameter, buffer or constant."""
    signature = program.graph_signature
    state = {**program.constants, **program.state_dict}
    targets = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    return {
        node: state[targets[node.name]].detach()
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in targets
    }


def _tensor_shape(node: Any, path: str) -> tuple[Any, ...]:
    shape = getattr(node.meta.get("val"), "shape", None)
    if not shape:
        raise InputError(f"layer {printable(path)}: its result is not one tensor with a batch axis")
    return tuple(shape)


def _static(node: Any, path: str, batch: Any) -> tuple[int, ...]:
    """Shape without the batch axis; InputError for a dynamic one."""
    first, *rest = _tensor_shape(node, path)
    if any(type(n) is not int for n in rest):
        raise InputError(
            f"layer {printable(path)}: shape {tuple(map(str, rest))} is dynamic; "
            "export with a fixed input size (only the batch axis may vary)"
        )
    if str(first) != str(batch):
        raise InputError(
            f"layer {printable(path)}: changes the batch axis; flatten with "
            "x.flatten(1), and give Linear vectors"
        )
    return tuple(rest) or (1,)


def _path(node: Any) -> str:
    """Where the node stands: the module's path, with the operator unless the module is torch's."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"
    if path and kind.startswith("torch.nn.") and "container" not in kind:
        return str(path)
    return f"{path}.{node.name}" if path else str(node.name)


def _call(node: Any, values: dict[Any, Any], builder: Builder) -> Any:
    """The value of one operator: the name of a tensor, or an array if only weights enter."""
    import torch

    path = _path(node)
    if node.target is operator.getitem:
        picked = values.get(node.args[0])
        if isinstance(picked, str) and node.args[1] != 0:
            raise InputError(f"layer {printable(path)}: only its first result can be used")
        return picked if isinstance(picked, str | None) else picked[node.args[1]]
    operands = [values.get(arg) for arg in node.all_input_nodes]
    if not any(isinstance(value, str) for value in operands):
        return _evaluate(node, values)
    handler = OPERATORS.get(_operator(node))
    if handler is None:
        if not isinstance(node.meta.get("val"), torch.Tensor | tuple | list):
            return None  # a size; the operators that use it are read by their results' shapes
        raise InputError(
            f"layer {printable(path)}: operator {printable(_operator(node))} is not supported; "
            f"supported: {SUPPORTED}"
        )
    args = torch.fx.node.map_arg(node.args, values.get)
    shape = _result_shape(node, path, builder.batch)
    kwargs = torch.fx.node.map_arg(node.kwargs, values.get)
    return handler(builder, Call(node.name, path, shape, args, kwargs))


def _evaluate(node: Any, values: dict[Any, Any]) -> Any:
    import torch

    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.get)
    with torch.no_grad():
        return node.target(*args, **kwargs)


def _result_shape(node: Any, path: str, batch: Any) -> tuple[int, ...]:
    """Shape of the result; of the first one where there are several (indices, statistics)."""
    import torch

    if isinstance(node.meta.get("val"), torch.Tensor):
        return _static(node, path, batch)
    first = next((u for u in node.users if u.target is operator.getitem and u.args[1] == 0), None)
    if first is None:
        raise InputError(f"layer {printable(path)}: only its first result can be used")
    return _static(first, path, batch)


def _operator(node: Any) -> str:
    """Name of an ATen operator without namespace and overload."""
    return str(getattr(node.target, "__name__", node.target)).split(".")[0]
