import contextlib
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle_masks

import mtvision as mtv
from devkit_folder import errors_of, write_image
from mtvision.data import Shapes, Yolo
from mtvision.errors import DataError
from mtvision.registries import DATASETS
from mtvision.registry import Component
from mtvision.types import Sample

SIZE = (40, 60)
DATA = {"path": ".", "train": "images/train", "val": "images/val", "names": ["cat", "dog"]}
BOX = "1 0.5 0.5 0.25 0.3\n"
POLYGON = "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n"


def write(root: Path, **changes: object) -> Path:
    """Two images for training, with a box and with nothing, and one for validation without a label file."""
    for name in ("train/a", "train/b", "val/c"):
        write_image(root / "images" / f"{name}.png", np.full((*SIZE, 3), 90, np.uint8))
    label(root, "a", BOX)
    label(root, "b", "")
    content = {key: value for key, value in (DATA | changes).items() if value is not None}
    (root / "data.yaml").write_text(yaml.safe_dump(content))
    return root


def label(root: Path, name: str, text: str, split: str = "train") -> None:
    path = root / "labels" / split / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("key", ["train", "path"])
def test_half_a_character_is_no_name(tmp_path: Path, key: str):
    write(tmp_path, **{key: "\ud800x"})
    with pytest.raises(DataError, match=r"data\.yaml: .* is no folder"):
        Yolo(tmp_path, "train")


def test_boxes_empty_files_and_missing_files(tmp_path: Path):
    train = DATASETS.build("yolo", write(tmp_path), "train")
    assert train.image_ids == ["a", "b"]
    assert train.classes == mtv.Classes(("background", "cat", "dog"), ("cat", "dog"))
    boxed, empty = train
    assert np.abs(boxed.boxes - [[22.5, 14, 37.5, 26]]).max() < 1e-5
    assert boxed.labels.tolist() == [1]
    assert boxed.difficult.tolist() == [False]
    assert empty.boxes.shape == (0, 4)
    assert boxed.mask is empty.mask is None
    unknown = Yolo(tmp_path, "val")[0]
    assert unknown.boxes is unknown.labels is unknown.difficult is unknown.mask is None
    assert errors_of(train) == []


def test_polygons_are_rasterised_as_pycocotools_does_smaller_on_top(tmp_path: Path):
    rng = np.random.default_rng(3)
    polygons = [rng.uniform(0, 1, 12) * 0.8 ** np.arange(12) for _ in range(5)]
    lines = [f"{number % 2} " + " ".join(f"{value:.9f}" for value in points) for number, points in enumerate(polygons)]
    write(tmp_path)
    label(tmp_path, "a", "\n".join(lines))
    sample, empty = Yolo(tmp_path, "train")
    expected, smallest = np.zeros(SIZE, np.uint8), np.full(SIZE, np.inf)
    for number, points in enumerate(polygons):
        pixels = points * np.tile([60, 40], 6)
        region = oracle_masks.merge(oracle_masks.frPyObjects([pixels.tolist()], *SIZE))
        covered = oracle_masks.decode(region).astype(bool)
        wins = covered & (covered.sum() <= smallest)
        expected[wins], smallest[wins] = number % 2 + 1, covered.sum()
        xy = pixels.reshape(-1, 2)
        assert np.abs(sample.boxes[number] - [*xy.min(0), *xy.max(0)]).max() < 1e-3
    assert np.array_equal(sample.mask, expected)
    assert len(np.unique(expected)) == 3
    assert not empty.mask.any()  # looked at and empty, in a set with polygons


def test_masks_can_be_demanded_or_left(tmp_path: Path):
    write(tmp_path)
    label(tmp_path, "b", POLYGON)
    boxed, outlined = DATASETS.build("yolo", tmp_path, "train")
    assert boxed.mask is None
    assert (outlined.mask[4:20, 6:30] == 1).all()
    assert outlined.mask.sum() == 16 * 24
    assert [sample.mask for sample in Yolo(tmp_path, "train", masks=False)] == [None, None]
    (problem,) = errors_of(Yolo(tmp_path, "train", masks=True))
    assert problem.endswith("a.txt:1: expected a polygon, got a box: it has no mask")


def outline(pixels: np.ndarray) -> list[list[int]] | None:
    """Return the outline of pixels that are one run in each of their rows, None for any others."""
    rows = np.flatnonzero(pixels.any(1))
    if len(rows) != rows[-1] - rows[0] + 1:
        return None
    left, right = [], []
    for row in rows:
        columns = np.flatnonzero(pixels[row])
        if len(columns) != columns[-1] - columns[0] + 1:
            return None
        left += [[columns[0], row], [columns[0], row + 1]]
        right += [[columns[-1] + 1, row], [columns[-1] + 1, row + 1]]
    return left + right[::-1]


def lines_of(sample: Sample, as_polygons: bool) -> list[str] | None:
    """Return the lines of a sample; None if an object has no outline."""
    height, width = sample.original_size
    lines = []
    for box, name in zip(sample.boxes, sample.labels, strict=True):
        left, top, right, bottom = box.astype(int)
        numbers = [(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width]
        numbers.append((bottom - top) / height)
        if as_polygons:
            pixels = np.zeros((height, width), bool)
            pixels[top:bottom, left:right] = sample.mask[top:bottom, left:right] == name + 1
            points = outline(pixels)
            if points is None:
                return None
            numbers = (np.array(points) / [width, height]).ravel().tolist()
        lines.append(" ".join([str(name), *(f"{number:.6f}" for number in numbers)]))
    return lines


@pytest.mark.parametrize("as_polygons", [False, True])
def test_generated_shapes_come_back_as_they_were(tmp_path: Path, as_polygons: bool):
    samples = [
        (sample, lines)
        for sample in Shapes("train", num_images=60, image_size=(64, 96))
        if (lines := lines_of(sample, as_polygons)) is not None
    ]
    assert len(samples) > 15
    for sample, lines in samples:
        write_image(tmp_path / "images" / "train" / f"{sample.image_id}.png", sample.image)
        label(tmp_path, sample.image_id, "\n".join(lines))
    names = dict(enumerate(Shapes.classes.detection))
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(DATA | {"names": names, "nc": len(names)}))
    dataset = Yolo(tmp_path, "train")
    assert dataset.classes == Shapes.classes
    for (sample, _), again in zip(samples, dataset, strict=True):
        assert again.image_id == sample.image_id
        assert np.array_equal(sample.image, again.image)
        assert np.abs(sample.boxes - again.boxes).max(initial=0) < 1e-3
        assert np.array_equal(sample.labels, again.labels)
        assert np.array_equal(sample.mask, again.mask) if as_polygons else again.mask is None


def test_lists_several_folders_and_other_places(tmp_path: Path):
    write(tmp_path, train=["train.txt", "images/val"])
    (tmp_path / "train.txt").write_text(f"./images/train/b.png\n\n{tmp_path}/images/train/a.png\n")
    assert Yolo(tmp_path, "train").image_ids == ["train/b", "train/a", "val/c"]
    write(tmp_path, train="../images/train")  # as Roboflow writes it
    assert Yolo(tmp_path, "train").image_ids == ["a", "b"]
    write(tmp_path, path="images", train="train")
    assert len(Yolo(tmp_path, "train")[0].boxes) == 1
    write(tmp_path, path=str(tmp_path))
    (tmp_path / "data.yaml").rename(tmp_path / "pets.yml")
    assert len(Yolo(tmp_path, "train")) == 2
    other = tmp_path.parent / f"{tmp_path.name}.yaml"
    (tmp_path / "pets.yml").rename(other)
    assert len(DATASETS.build(Component("yolo", {"data": str(other)}), tmp_path, "train")) == 2


def test_labels_beside_the_images(tmp_path: Path):
    write_image(tmp_path / "pictures" / "a.png", np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "pictures" / "a.txt").write_text(BOX)
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(DATA | {"train": "pictures"}))
    assert Yolo(tmp_path, "train")[0].labels.tolist() == [1]


def test_by_config_a_batch_says_what_nobody_looked_at(tmp_path: Path):
    write(tmp_path, train=["images/val", "images/train"])
    label(tmp_path, "a", POLYGON)
    config = {"data": {"dataset": {"name": "yolo", "masks": True}, "dataset_root": str(tmp_path), "image_size": 32}}
    dataset = mtv.build_dataset(config, split="train")
    assert dataset.image_ids == ["val/c", "train/a", "train/b"]
    batch = next(iter(mtv.build_loader(config, dataset, training=False)))
    assert [target if target is None else len(target["boxes"]) for target in batch.targets["det"]] == [None, 1, 0]
    assert (batch.targets["seg"][0] == 255).all()
    assert batch.targets["seg"][1].unique().tolist() == [0, 1]
    assert batch.targets["seg"][2].unique().tolist() == [0]


BAD = {
    "four fields": ("0 0.5 0.5 0.5", "expected 'class x y width height'.*got 4 fields"),
    "confidence": ("0 0.5 0.5 0.5 0.5 0.9", "got 6 fields"),
    "text": ("cat 0.5 0.5 0.5 0.5", "got 'cat 0.5 0.5 0.5 0.5'"),
    "no number": ("0 0.5 wide 0.5 0.5", "got '0 0.5 wide 0.5 0.5'"),
    "not finite": ("0 0.5 nan 0.5 0.5", "got '0 0.5 nan"),
    "class": ("2 0.5 0.5 0.5 0.5", "the class 2 is outside 0 to 1"),
    "huge class": ("9" * 5000 + " 0.5 0.5 0.5 0.5", "the class 9+ is outside 0 to 1"),
    "negative class": ("-1 0.5 0.5 0.5 0.5", "expected 'class x y width height'"),
    "empty": ("0 0.5 0.5 0 0.5", r"the box \(30, 10, 30, 30\) is empty"),
    "pixels": ("0 30 20 10 10", "lies outside the image of 40 x 60"),
    "reaching": ("0 0.9 0.5 0.4 0.5", "reaches outside the image"),
    "far": ("0 0.1 0.1 0.2 0.1 9 9", "the polygon reaches far outside"),
    "points on a line": ("0 0.1 0.1 0.2 0.1 0.3 0.1", "is empty"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_lines_are_named_with_their_number(tmp_path: Path, kind: str):
    line, sentence = BAD[kind]
    dataset = Yolo(write(tmp_path), "train")
    label(tmp_path, "a", f"{BOX}\n{line}\n")
    (problem,) = errors_of(dataset)
    assert re.search(rf"labels/train/a\.txt:3: .*{sentence}", problem)
    with pytest.raises(DataError, match=sentence):
        dataset[0]


def test_labels_that_are_no_text(tmp_path: Path):
    write(tmp_path)
    (tmp_path / "labels" / "train" / "a.txt").write_bytes(b"\xff\xfe\x00")
    (problem,) = errors_of(Yolo(tmp_path, "train"))
    assert "a.txt: the label file cannot be read" in problem


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join(['*' + before] * 9)}]}}\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
FILES = {
    "no YAML": ("names: [", "malformed YAML"),
    "merges that multiply": (
        f"{MERGES}train: images/train\nnames: [cat]",
        "malformed YAML .merging mappings by '<<' is refused",
    ),
    "nested": ("[" * 100_000, "malformed YAML"),
    "giant number": (f"train: images/train\nnames: [cat]\nnc: {'9' * 10_000}", "malformed YAML"),
    "tag of a number": ("train: images/train\nnames: [cat]\nnc: !!int ''", "malformed YAML"),
    "tag of a flag": ("train: images/train\nnames: [cat]\nnc: !!bool x", "malformed YAML"),
    "tag of a time": ("train: !!timestamp x\nnames: [cat]", "malformed YAML"),
    "NUL": ('train: "images\\0/train"\nnames: [cat]', "is no folder and no list of images"),
    "NUL in the path": ('path: "a\\0b"\ntrain: images/train\nnames: [cat]', "is no folder in"),
    "backslashes": ("train: '..\\..\\etc'\nnames: [cat]", "is no folder and no list of images"),
    "a list": ("- 1", "expected the keys train, val and names, got list"),
    "code": ("!!python/object/apply:os.system ['true']", "malformed YAML"),
    "no names": ("train: images/train", "'names' must be a list"),
    "names": ("train: images/train\nnames: [yes, no]", "'names' must be a list of class names.*in quotes"),
    "gap": ("train: images/train\nnames: {0: cat, 2: dog}", "ids 0, 1, 2, ... without a gap"),
    "twice": ("train: images/train\nnames: [cat, cat]", "the name 'cat' occurs twice"),
    "empty": ("train: images/train\nnames: []", "at least one class"),
    "nc": ("train: images/train\nnames: [cat]\nnc: 3", "'nc' is 3, but 'names' has 1 classes"),
    "split": ("trian: images/train\nval: images/val\nnames: [cat]", "no split 'train'.*Available: val"),
    "folder": ("train: images/trian\nnames: [cat]", "'images/trian' is no folder and no list of images"),
    "path": ("path: /data/elsewhere\ntrain: images\nnames: [cat]", "the 'path' '/data/elsewhere' is no folder in"),
    "upward": ("train: ../../etc\nnames: [cat]", "'../../etc' is no folder"),
    "absolute": ("train: /etc\nnames: [cat]", "'/etc' is no folder"),
    "number": ("train: 7\nnames: [cat]", "'train' must be a folder.*got int"),
    "list": ("train: secret.txt\nnames: [cat]", r"secret\.txt:1: '\.\./\.\./secret' leads out"),
    "no images": ("train: labels\nnames: [cat]", "the split 'train' has no images"),
    "bomb": (f"{BOMB}train: images/train\nnames: *i\n", "'names' must be a list"),
    "bomb as count": (f"{BOMB}train: images/train\nnames: [cat]\nnc: *i\n", "'nc' is list"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_bad_file_is_one_sentence(tmp_path: Path, kind: str):
    text, sentence = FILES[kind]
    write(tmp_path)
    (tmp_path / "secret.txt").write_text("../../secret\n")
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=sentence) as caught:
        Yolo(tmp_path, "train")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600


def test_folders_without_a_file(tmp_path: Path):
    with pytest.raises(DataError, match=r"expected a data\.yaml or a single other YAML file, found none"):
        Yolo(tmp_path, "train")
    with pytest.raises(DataError, match="does not exist"):
        Yolo(tmp_path / "nowhere", "train")


def test_two_images_of_one_name_would_share_labels(tmp_path: Path):
    write(tmp_path)
    write_image(tmp_path / "images" / "train" / "a.jpg", np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(DataError, match=r"another image has the same name without suffix: a\.jpg"):
        Yolo(tmp_path, "train")


def test_the_fingerprint_follows_the_labels(tmp_path: Path):
    dataset = Yolo(write(tmp_path), "train")
    before = dataset.fingerprint()
    assert Yolo(tmp_path, "train").fingerprint() == before
    label(tmp_path, "a", BOX * 2)
    assert dataset.fingerprint() != before


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40) | st.text("0123456789.- e\n", max_size=60))
def test_any_text_is_read_or_named(tmp_path: Path, text: str):
    if not (tmp_path / "data.yaml").exists():
        write(tmp_path)
    (tmp_path / "labels" / "train" / "a.txt").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert all("a.txt" in problem for problem in errors_of(Yolo(tmp_path, "train")))


YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(["path", "train", "names", "nc"]), value=YAML)
def test_any_value_of_the_file_is_read_or_named(tmp_path: Path, key: str, value: object):
    if not (tmp_path / "images").exists():
        write(tmp_path)
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(DATA | {key: value}), encoding="utf-8")
    with contextlib.suppress(DataError):  # anything else fails
        problems = errors_of(Yolo(tmp_path, "train"))
        assert all("the class 1 is outside 0 to 0" in problem for problem in problems)  # of names with a single class


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60) | st.text("abtrainmes:{}[]&*<!>-,'\"\n ", max_size=80))
def test_any_text_of_the_file_is_read_or_named(tmp_path: Path, text: str):
    if not (tmp_path / "images").exists():
        write(tmp_path)
    (tmp_path / "data.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=r"data\.yaml"):
        Yolo(tmp_path, "train")
