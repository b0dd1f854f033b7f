"""A trained network for other programs: ONNX, PyTorch, Keras, and a page on which one draws digits.

Nothing here is imported before it is used.
"""

from xpnet.export.files import export
from xpnet.export.onnx import to_onnx
from xpnet.export.plain import ExportError

__all__ = ["ExportError", "export", "to_onnx"]
