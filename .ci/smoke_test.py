"""What an installed mtvision must do, tried away from its source tree; `check_wheel.sh` calls it."""

import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

CONFIG = {
    "system": {"epochs": 1, "device": "cpu"},
    "model": {"backbone": "test_resnet"},
    "training": {"batch_size": 8},
    "data": {"dataset": {"name": "shapes", "num_images": 16, "image_size": 64}, "image_size": 64},
}


def main() -> None:
    """Train, predict, save and load; then the command line."""
    start = time.perf_counter()
    import torch

    torch_seconds = time.perf_counter() - start
    import mtvision as mtv

    seconds = time.perf_counter() - start - torch_seconds
    assert mtv.__file__.startswith(sys.prefix), f"{mtv.__file__} is not what was installed"
    assert mtv.__version__ == version("mtvision")
    assert (Path(mtv.__file__).parent / "py.typed").exists()
    say(f"import: torch {torch_seconds:.2f} s, then mtvision {seconds:.2f} s")
    with TemporaryDirectory() as folder:
        result = mtv.train(CONFIG, Path(folder) / "run", progress=False)
        prediction = result.model.predict(torch.rand(3, 48, 60))[0]
        assert prediction["seg"].shape == (48, 60)
        saved = result.model.save_pretrained(Path(folder) / "saved", results=result)
        again = mtv.MultiTaskModel.from_pretrained(saved).predict(torch.zeros(3, 48, 60))[0]
        assert torch.equal(again["seg"], result.model.predict(torch.zeros(3, 48, 60))[0]["seg"])
        say(f"trained, predicted, saved and loaded: {result.metrics}")
    assert mtv.__version__ in output("--version")
    say(output("doctor"))


def output(*arguments: str) -> str:
    """Return what the installed command says."""
    command = [str(Path(sys.executable).parent / "mtvision"), *arguments]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
