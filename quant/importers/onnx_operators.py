"""The ONNX operators that a file may hold, by domain, and the opsets that the importers know.

A file is checked against these lists before anything else reads it: some libraries import a node's
domain as a Python module. Being listed is not being supported everywhere; an importer still refuses
what it cannot express.
"""

from __future__ import annotations

__all__ = [
    "CONTRIB",
    "OPERATORS",
    "OPSETS",
    "QONNX",
    "STANDARD",
]

STANDARD = ""  # also written ai.onnx
CONTRIB = "com.microsoft"  # onnxruntime's own operators
QONNX = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")

_LAYERS = """
Add ArgMax AveragePool BatchNormalization Clip Concat Conv Div Dropout Flatten Gemm
GlobalAveragePool GlobalMaxPool Identity LogSoftmax MatMul Max MaxPool Min Mul Neg Pad ReduceMean
Relu Reshape Softmax Squeeze Sub TopK Transpose Unsqueeze
"""
_CONSTANTS = "Cast Constant ConstantOfShape Gather Shape Slice"  # shapes that exporters compute
_QUANTISED = "DequantizeLinear QLinearConv QLinearMatMul QuantizeLinear Sign"
_CONTRIB = """
DequantizeLinear QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv
QLinearGlobalAveragePool QLinearReduceMean QLinearSoftmax QuantizeLinear
"""
_QONNX = "BipolarQuant IntQuant MultiThreshold Quant Trunc"

OPERATORS: dict[str, frozenset[str]] = {
    STANDARD: frozenset((_LAYERS + _CONSTANTS + " " + _QUANTISED).split()),
    CONTRIB: frozenset(_CONTRIB.split()),
    **{domain: frozenset(_QONNX.split()) for domain in QONNX},
}
OPSETS: dict[str, tuple[int, int]] = {
    STANDARD: (7, 25),  # 7: broadcasting as it still is; 25: the newest that was read and tested
    CONTRIB: (1, 1),
    **dict.fromkeys(QONNX, (1, 2)),
}
