"""The code on the pages of the documentation, and a folder in which it runs."""

import ast
import re
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from io import StringIO
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

import mtvision as mtv

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
"""The text of each page by its path in the repository."""

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<info>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
TITLE = re.compile(r'title="([^"]*)"')

SMALL = {
    "system": {"epochs": 1, "device": "cpu", "trackers": []},
    "model": {"backbone": "test_resnet", "neck": {"name": "fpn", "channels": 16}},
    "training": {"batch_size": 4},
    "data": {"dataset": {"name": "shapes", "num_images": 8, "image_size": 32}, "image_size": 32},
}
"""What a page's config is made of where only its code is of interest."""


class Block(NamedTuple):
    """A fenced block: its page, the line of its first fence, and what it says of itself."""

    page: str
    line: int
    language: str
    title: str
    text: str

    @property
    def place(self) -> str:
        """Where a reader finds it."""
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> Iterator[Block]:
    """Yield the blocks of a page in order."""
    for found in FENCE.finditer(PAGES[page]):
        title = TITLE.search(found["info"])
        text = re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        line = PAGES[page][: found.start()].count("\n") + 1
        yield Block(page, line, found["language"], title[1] if title else "", text)


def blocks_in(*languages: str) -> list[Block]:
    """Return all blocks in these languages."""
    return [block for page in PAGES for block in blocks_of(page) if block.language in languages]


def small(config: Mapping[str, Any]) -> mtv.Config:
    """Return a page's config with what takes the time made small: network, images, epochs."""
    shorter = {f"{section}.{key}": value for section, values in SMALL.items() for key, value in values.items()}
    shorter["model.pretrained"] = False
    if config.get("data", {}).get("dataset_root"):
        shorter.pop("data.dataset")
    return mtv.Config(**config).replace(shorter)


def prepare(folder: Path, page: str) -> None:
    """Write what pages take for granted: two finished runs, photographs, tables, and the files that a page shows."""
    for name in ("street.jpg", "yard.jpg"):
        write_photo(folder / "photos" / name, len(name))
    write_photo(folder / "photo.jpg", 7)
    mtv.Config(**SMALL).save(folder / "run.yaml")
    for block in blocks_of(page):
        if block.title.endswith(".yaml"):
            small(yaml.safe_load(block.text)).save(folder / block.title)
        elif block.title.endswith((".txt", ".csv")):
            (folder / block.title).write_text(block.text)


def write_photo(path: Path, seed: int) -> None:
    """Write an image of 60 x 48 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (48, 60, 3), dtype=np.uint8)).save(path)


def names_for_granted() -> dict[str, Any]:
    """Return the names that a page may use without saying where they come from."""
    config = mtv.Config(**SMALL)
    train, val = mtv.build_dataset(config, "train"), mtv.build_dataset(config, "val")
    batch = next(iter(mtv.build_loader(config, train, training=True)))
    return {
        **{"mtv": mtv, "np": np, "torch": torch, "nn": nn, "Tensor": Tensor},
        **{"cfg": config, "config": config, "train": train, "val": val, "data": train, "dataset": train},
        **{"images": batch.images, "targets": batch.targets},
    }


def run_block(block: Block, scope: dict[str, Any], shorter: Mapping[str, str]) -> str:
    """Run a block in the scope of its page and return what it printed; an error names the page and the line."""
    text = block.text
    for long, short in shorter.items():
        text = text.replace(long, short)
    tree = ast.increment_lineno(ast.parse(text, block.place), block.line)
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(tree, block.page, "exec"), scope)
    return printed.getvalue()


def is_printed(told: str, printed: str) -> bool:
    """Whether what a page says that a block prints is what it printed; a line may end in ``...``."""
    pairs = zip_longest(told.splitlines(), printed.splitlines(), fillvalue="")
    return all(_same_line(line, found.rstrip()) for line, found in pairs)


def _same_line(told: str, printed: str) -> bool:
    return printed.startswith(told[:-3]) if told.endswith("...") else printed == told
