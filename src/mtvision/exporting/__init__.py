"""Files that run without mtvision: ONNX and programs of torch.export; quantisation."""

from mtvision.exporting.exporter import Exported, export
from mtvision.exporting.metadata import Metadata, read_metadata
from mtvision.exporting.quantization import Quantized, quantize

__all__ = ["Exported", "Metadata", "Quantized", "export", "quantize", "read_metadata"]
