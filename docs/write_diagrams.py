"""Write the diagrams of the concept pages as SVG files: ``make docs-diagrams``.

The colours are of middle lightness and the ground is transparent, so one file serves the light and the dark scheme.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("images")
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
COLORS: Final = {"blue": "#4051b5", "teal": "#00796b", "orange": "#b8490a", "grey": "#5f6775", "none": "none"}
LINE: Final = "#7d8696"
"""Lines and text outside boxes: can be read on white and on the dark scheme's ground."""


@dataclass(frozen=True)
class Box:
    """A rounded box with a title and lines below it; ``color`` "none" gives a dashed frame."""

    x: float
    y: float
    width: float
    height: float
    title: str
    lines: Sequence[str] = ()
    color: str = "blue"

    def svg(self) -> str:
        """Return the elements."""
        frame = self.color == "none"
        style = f'stroke="{LINE}" stroke-dasharray="5 4"' if frame else ""
        ink = LINE if frame else "#ffffff"
        middle, step = self.x + self.width / 2, 17
        group = frame and self.height > 60  # its title stands above what is in it
        top = self.y + (20 if group else self.height / 2 - step * len(self.lines) / 2 + 5)
        texts = [_text(middle, top, self.title, ink, 13, bold=True)]
        texts += [_text(middle, top + step * (place + 1), line, ink, 12) for place, line in enumerate(self.lines)]
        shape = (
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="6" '
            f'fill="{COLORS[self.color]}" {style}/>'
        )
        return "\n".join([shape, *texts])


@dataclass(frozen=True)
class Arrow:
    """A line through points, with a head at its end and a label above its middle."""

    points: Sequence[tuple[float, float]]
    label: str = ""

    def svg(self) -> str:
        """Return the elements."""
        path = " ".join(f"{x},{y}" for x, y in self.points)
        line = f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.6" marker-end="url(#head)"/>'
        (x0, y0), (x1, y1) = self.points[0], self.points[-1]
        return line + ("\n" + _text((x0 + x1) / 2, (y0 + y1) / 2 - 8, self.label, LINE, 12) if self.label else "")


@dataclass(frozen=True)
class Note:
    """A line of text, centred at a point."""

    x: float
    y: float
    text: str

    def svg(self) -> str:
        """Return the element."""
        return _text(self.x, self.y, self.text, LINE, 13)


Element = Box | Arrow | Note


def _text(x: float, y: float, text: str, color: str, size: int, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x}" y="{y}" fill="{color}" font-size="{size}" text-anchor="middle"{weight}>{escape(text)}</text>'


def svg(width: int, height: int, description: str, elements: Sequence[Element]) -> str:
    """Return a whole file."""
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{LINE}"/></marker></defs>'
    )
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="{FONT}" role="img">'
    )
    return "\n".join(
        [start, f"<title>{escape(description)}</title>", head, *(each.svg() for each in elements), "</svg>", ""]
    )


def tasks() -> str:
    """One network: a shared backbone, a task object for each thing it does."""
    inner = [
        Box(492, 76, 98, 42, "head", (), "teal"),
        Box(596, 76, 98, 42, "loss", (), "teal"),
        Box(492, 126, 98, 42, "postprocess", (), "teal"),
        Box(596, 126, 98, 42, "metrics", (), "teal"),
        Box(492, 246, 98, 42, "head", (), "orange"),
        Box(596, 246, 98, 42, "loss", (), "orange"),
        Box(492, 296, 98, 42, "postprocess", (), "orange"),
        Box(596, 296, 98, 42, "metrics", (), "orange"),
    ]
    elements: list[Element] = [
        Box(10, 165, 110, 70, "images", ("uint8 or", "float in [0, 1]"), "grey"),
        Box(150, 165, 120, 70, "normalization", ("mean and std are", "the model's own")),
        Box(300, 150, 120, 100, "backbone", ("any of timm's", "features of", "stride 4 ... 32")),
        Box(482, 40, 222, 140, 'task "seg"', (), "none"),
        Box(482, 210, 222, 140, 'task "det"', (), "none"),
        *inner,
        Box(746, 85, 104, 56, "mask", ("(H, W)",), "grey"),
        Box(746, 250, 104, 66, "boxes", ("scores", "labels"), "grey"),
        Arrow(((122, 200), (148, 200))),
        Arrow(((272, 200), (298, 200))),
        Arrow(((422, 200), (450, 200), (450, 110), (480, 110))),
        Arrow(((422, 200), (450, 200), (450, 280), (480, 280))),
        Arrow(((706, 112), (744, 112))),
        Arrow(((706, 282), (744, 282))),
        Note(435, 22, "model(images) = {task name: that task's output}; nothing else knows which task it is"),
    ]
    return svg(860, 365, "Images, normalization, backbone, and one object for each task", elements)


def features() -> str:
    """What is published between backbone, neck and heads."""
    strides, channels = ("2 and 4", "8", "16", "32"), (64, 128, 256, 512)
    rows: list[Element] = []
    for place, (stride, width) in enumerate(zip(strides, channels, strict=True)):
        y = 62 + 58 * place
        rows.append(Box(180, y, 140, 46, f"stride {stride}", (f"{width} channels",)))
        if place > 0:
            rows.append(Box(420, y, 140, 46, f"stride {stride}", ("64 channels",), "orange"))
            rows.append(Arrow(((322, y + 23), (418, y + 23))))
    elements: list[Element] = [
        Box(10, 132, 110, 76, "backbone", ("resnet18",), "grey"),
        Box(166, 28, 168, 274, "feature_info", (), "none"),
        Box(406, 86, 168, 216, "neck: feature_info", (), "none"),
        Arrow(((122, 170), (164, 170))),
        *rows,
        Box(650, 28, 190, 66, "segmentation head", ("chooses the strides", "8, 16 and 32 of them"), "teal"),
        Box(650, 161, 190, 66, "detection head", ("takes what the neck", "publishes"), "orange"),
        Arrow(((336, 61), (648, 61))),
        Arrow(((576, 194), (648, 194))),
    ]
    return svg(850, 318, "A backbone publishes its features' channels and strides; a neck does the same", elements)


def config() -> str:
    """Where a config is read, and what it never enters."""
    elements: list[Element] = [
        Box(10, 60, 130, 84, "config", ("YAML, mapping,", "key=value"), "grey"),
        Box(200, 60, 170, 84, "mtv.Config", ("keys, names, options", "and types: all errors", "at once")),
        Box(430, 60, 150, 84, "factory", ("names become", "objects")),
        Box(640, 20, 200, 44, "backbone, neck, heads", (), "teal"),
        Box(640, 80, 200, 44, "losses, assigners", (), "teal"),
        Box(640, 140, 200, 44, "data, loader, trainer", (), "teal"),
        Arrow(((142, 102), (198, 102))),
        Arrow(((372, 102), (428, 102))),
        Arrow(((582, 102), (610, 102), (610, 42), (638, 42))),
        Arrow(((582, 102), (638, 102))),
        Arrow(((582, 102), (610, 102), (610, 162), (638, 162))),
        Box(430, 190, 150, 62, "registries", ("name -> factory", "with its signature"), "orange"),
        Arrow(((505, 188), (505, 146))),
        Arrow(((430, 221), (285, 221), (285, 146))),
        Note(740, 212, "these take modules and numbers"),
    ]
    return svg(
        850, 265, "A config is read by Config, checked against the registries, and stops at the factory", elements
    )


def partly_labelled() -> str:
    """One batch with all kinds of annotation."""
    kinds = (
        ("mask and boxes", "mask", "boxes (3, 4)"),
        ("mask only", "mask", "boxes None"),
        ("boxes only", "mask None", "boxes (2, 4)"),
        ("looked at, empty", "mask None", "boxes (0, 4)"),
    )
    elements: list[Element] = [
        Note(105, 26, "one batch"),
        Note(380, 26, "counts for segmentation"),
        Note(640, 26, "counts for detection"),
    ]
    for place, (name, mask, boxes) in enumerate(kinds):
        y = 44 + 64 * place
        elements.append(Box(10, y, 190, 48, name, (), "grey"))
        for x, text, color in ((290, mask, "teal"), (550, boxes, "orange")):
            counts = not text.endswith("None")
            elements.append(Box(x, y, 180, 48, text if counts else "nobody looked", (), color if counts else "none"))
            if counts and x == 290:
                elements.append(Arrow(((202, y + 24), (288, y + 24))))
        if not boxes.endswith("None"):
            start = 472 if not mask.endswith("None") else 202
            elements.append(Arrow(((start, y + 24), (548, y + 24)) if start == 472 else _around(y)))
    elements.append(Note(380, 318, "the pixels of 2 masks"))
    elements.append(Note(640, 318, "the points of 3 images"))
    return svg(750, 335, "Images with masks, boxes, both or none in one batch, and which loss counts them", elements)


def _around(y: float) -> tuple[tuple[float, float], ...]:
    """Return an arrow's way below the frame in the middle."""
    return (202, y + 24), (245, y + 24), (245, y + 55), (510, y + 55), (510, y + 24), (548, y + 24)


def studies() -> str:
    """From a question to an answer that says how sure it is."""
    elements: list[Element] = [
        Box(10, 40, 120, 76, "base config", ("and factors",), "grey"),
        Box(180, 40, 140, 76, "plan", ("balanced runs;", "what is aliased", "is said before")),
        Box(370, 40, 150, 76, "queue of runs", ("each an ordinary", "run folder"), "teal"),
        Box(570, 40, 140, 76, "analysis", ("paired effects", "with intervals")),
        Box(570, 180, 140, 64, "report", ("what is shown,", "and what is not"), "grey"),
        Box(370, 180, 150, 64, "confirmation", ("the best, fresh seeds,", "unused images"), "orange"),
        Box(180, 180, 140, 64, "workers", ("any number of", "machines"), "teal"),
        Arrow(((132, 78), (178, 78))),
        Arrow(((322, 78), (368, 78))),
        Arrow(((522, 78), (568, 78))),
        Arrow(((640, 118), (640, 178))),
        Arrow(((568, 102), (545, 102), (545, 150), (445, 150), (445, 178))),
        Arrow(((522, 212), (568, 212))),
        Arrow(((322, 205), (345, 205), (345, 102), (368, 102))),
    ]
    return svg(720, 260, "A study: plan, queue, workers, analysis, confirmation, report", elements)


def diagrams() -> Mapping[str, str]:
    """Return the text of each file in ``docs/images`` by its name."""
    return {f"{draw.__name__}.svg": draw() for draw in (tasks, features, config, partly_labelled, studies)}


if __name__ == "__main__":
    for name, text in diagrams().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
