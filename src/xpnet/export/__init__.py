"""Exporting a trained network: to ONNX, PyTorch, Keras, and to a page on which you draw digits.

Nothing here is imported before it is used.
"""

from xpnet.export.files import export
from xpnet.export.keras import to_keras
from xpnet.export.onnx import to_onnx
from xpnet.export.plain import ExportError
from xpnet.export.torch import to_torch

__all__ = ["ExportError", "export", "to_keras", "to_onnx", "to_torch"]
