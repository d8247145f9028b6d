"""Lists of images to leave out, and the command that checks and writes them."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from devkit_folder import write_lists, write_mask
from mtvision.cli import app
from mtvision.data import VOC, Shapes, check
from mtvision.data.base import SampleDataset, Subset
from mtvision.data.checking.check_report import CheckReport, Finding
from mtvision.data.checking.exclusion import exclude, read_exclusions
from mtvision.errors import DataError
from mtvision.types import Sample
from sound_folders import make, mask, picture, save

SHAPES = Shapes("train", num_images=6, image_size=32)


def finding(image_id: str | None, kind: str = "truncated-image", index: int | None = 0) -> Finding:
    return Finding(f"{image_id}.jpg: something", kind=kind, index=index, image_id=image_id)


def test_ids_are_left_out_and_nothing_else_changes():
    rest = exclude(SHAPES, ["train-00001", "train-00004"])
    assert isinstance(rest, Subset)
    assert rest.image_ids == ["train-00000", "train-00002", "train-00003", "train-00005"]
    assert [sample.image_id for sample in rest] == rest.image_ids
    assert rest.classes is SHAPES.classes
    assert exclude(rest, ["train-00002"]).image_ids == ["train-00000", "train-00003", "train-00005"]
    assert exclude(rest, ["train-00002"]).fingerprint() != rest.fingerprint()


def test_what_a_check_writes_is_what_is_left_out(tmp_path: Path):
    root = make("voc", tmp_path / "voc")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    (root / "JPEGImages/a.jpg").write_bytes(b"")
    before[root / "JPEGImages/a.jpg"] = b""
    listed = tmp_path / "new" / "exclude.txt"
    assert check(VOC(root, "train")).write_exclusions(listed) == 1
    lines = [line for line in listed.read_text().splitlines() if not line.startswith("#")]
    assert lines == [
        f"a\tunreadable-image: {root}/JPEGImages/a.jpg: not an image that can be decoded (corrupt, too large, or of "
        "another format)"
    ]
    rest = exclude(VOC(root, "train"), listed)
    assert rest.image_ids == ["b", "c"]
    assert check(rest) == []
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_warnings_are_left_out_only_where_their_kind_is_named(tmp_path: Path):
    report = CheckReport(
        [
            finding("a"),
            Finding("b: twice", kind="duplicate-across-splits", severity="warning", index=1, image_id="b"),
            Finding("no box is of 'cat'", kind="absent-class", severity="warning"),
        ]
    )
    report.write_exclusions(tmp_path / "errors.txt")
    assert list(read_exclusions(tmp_path / "errors.txt")) == ["a"]
    report.write_exclusions(tmp_path / "both.txt", kinds=["duplicate-across-splits", "absent-class", "mask-size"])
    assert list(read_exclusions(tmp_path / "both.txt")) == ["a", "b"]
    with pytest.raises(DataError, match=r"'duplicate-across-split'\. Did you mean 'duplicate-across-splits'\?"):
        report.write_exclusions(tmp_path / "both.txt", kinds=["duplicate-across-split"])


def test_a_list_that_is_there_is_kept_and_extended(tmp_path: Path):
    path = tmp_path / "exclude.txt"
    path.write_text("# mine\nz\nb\tmy own reason")  # without a newline at the end
    assert CheckReport([finding("b"), finding("a"), finding("a", "mask-size")]).write_exclusions(path) == 1
    assert (
        path.read_text()
        == "# mine\nz\nb\tmy own reason\na\ttruncated-image: a.jpg: something; mask-size: a.jpg: something\n"
    )
    text = path.read_text()
    assert CheckReport([finding("a")]).write_exclusions(path) == 0
    assert path.read_text() == text
    assert read_exclusions(path)["b"] == "my own reason"
    assert sorted(item.name for item in tmp_path.iterdir()) == [".exclude.txt.lock", "exclude.txt"]


def test_several_processes_add_to_one_list(tmp_path: Path):
    path = tmp_path / "exclude.txt"
    names = [[f"{number}-{place}" for place in range(20)] for number in range(4)]

    def add(chosen: list[str]) -> None:
        for name in chosen:
            CheckReport([finding(name)]).write_exclusions(path)

    with ThreadPoolExecutor(4) as pool:  # the lock is one between processes, and so also between these
        list(pool.map(add, names))
    assert sorted(read_exclusions(path)) == sorted(name for chosen in names for name in chosen)


def test_an_item_without_an_id_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    CheckReport([finding(None, index=7), finding(None, index=None)]).write_exclusions(tmp_path / "list.txt")
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "item 7 has no id and cannot be listed: None.jpg: something"
    ]


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.lists(st.text(min_size=1), unique=True, max_size=6))
@example(["#a", '"b"', " c", "d ", "e\tf", "g\nh", "\ufeffi"])
def test_any_id_survives_the_list(tmp_path_factory: pytest.TempPathFactory, ids: list[str]):
    path = tmp_path_factory.mktemp("lists") / "exclude.txt"
    CheckReport([finding(name) for name in ids]).write_exclusions(path)
    assert list(read_exclusions(path)) == ids


def test_unknown_ids_are_told_once(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    exclude(SHAPES, ["train-00001", "train-1", "val-00001"])
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert record.message == (
        "the ids to leave out: 1 of 6 images are left out; 2 of its 3 ids are not in the data set, such as 'train-1'"
    )
    exclude(SHAPES, ["train-1"])
    assert caplog.records[1].levelname == "WARNING"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a\n\tno id\n", r"list\.txt:2: expected an image's id"),
        (b'a\n\n"b\tnot closed\n', r"list\.txt:3: .* are not closed"),
        (b'[1]\n""\n', r"list\.txt:2: expected an image's id"),
        (b"a\n\xff\xfe\n", r"list\.txt: .* not UTF-8"),
        (b"a\n\x00\n", r"list\.txt:2: expected an image's id"),
    ],
)
def test_a_list_that_is_none_is_one_sentence(tmp_path: Path, content: bytes, sentence: str):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        exclude(SHAPES, tmp_path / "list.txt")


def test_a_list_that_is_missing_or_a_folder_is_one_sentence(tmp_path: Path):
    with pytest.raises(DataError, match=r"none\.txt: the list of images to leave out is missing"):
        exclude(SHAPES, tmp_path / "none.txt")
    with pytest.raises(DataError, match="cannot be read"):
        exclude(SHAPES, str(tmp_path))
    (tmp_path / f".list.txt.{os.getpid()}.unfinished").mkdir()  # where a new list is written first
    with pytest.raises(DataError, match=r"list\.txt: the list of images to leave out cannot be written"):
        CheckReport([finding("a")]).write_exclusions(tmp_path / "list.txt")
    with pytest.raises(DataError, match="cannot be written"):
        CheckReport([finding("a")]).write_exclusions(tmp_path / ("x" * 300))


def test_nothing_left_is_an_error():
    with pytest.raises(DataError, match="all of the 6 images"):
        exclude(SHAPES, SHAPES.image_ids)


class Own:
    """A user's own sequence."""

    def __init__(self) -> None:
        self.samples = list(SHAPES)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def test_a_sequence_of_a_users_own_needs_ids():
    own = Own()
    with pytest.raises(
        DataError, match="images of Own cannot be left out by their ids: give it an attribute 'image_ids'"
    ):
        exclude(own, ["train-00001"])
    own.image_ids = SHAPES.image_ids[:5]
    with pytest.raises(DataError, match="Own has 6 items but 5 'image_ids'"):
        exclude(own, ["train-00001"])
    own.image_ids = SHAPES.image_ids
    rest = exclude(own, ["train-00001"])
    assert isinstance(rest, SampleDataset)
    assert [sample.image_id for sample in rest] == rest.image_ids == SHAPES.image_ids[:1] + SHAPES.image_ids[2:]
    assert rest[1:].image_ids == rest.image_ids[1:]
    assert not hasattr(rest, "classes")
    own.classes = SHAPES.classes
    assert exclude(own, ["train-00001"]).classes is SHAPES.classes
    assert rest.fingerprint() is None


def test_a_part_of_a_set_without_ids_has_none():
    class Nameless(SampleDataset):
        classes = SHAPES.classes

        def __len__(self) -> int:
            return 6

        def sample(self, index: int) -> Sample:
            return SHAPES[index]

    assert not hasattr(Nameless()[1:], "image_ids")
    assert Nameless()[1:].image_path(0) is None


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """A VOC folder with a, b, c in ``train`` and d, a copy of b, in ``val``."""
    root = make("voc", tmp_path / "voc")
    save(root / "JPEGImages/d.png", picture(9))
    write_mask(root / "SegmentationClass/d.png", mask())
    (root / "Annotations/d.xml").write_text((root / "Annotations/a.xml").read_text())
    write_lists(root, Main_val="d", Segmentation_val="d")
    return root


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["check-data", *map(str, arguments)])


def test_the_command_says_that_all_is_well(splits: Path):
    result = run(splits)
    assert result.exit_code == 0, result.output
    assert "train: 3 images: 0 errors, 0 warnings" in result.output
    assert "val: 1 image:" in result.output


def test_the_command_writes_a_report_and_a_list(splits: Path, tmp_path: Path):
    (splits / "JPEGImages/c.jpg").write_bytes(b"")
    (splits / "JPEGImages/d.png").unlink()
    (splits / "JPEGImages/d.jpg").write_bytes((splits / "JPEGImages/b.jpg").read_bytes())
    report, listed = tmp_path / "report.json", tmp_path / "exclude.txt"
    result = run(splits, "--split", "train", "--split", "val", "--fix", listed, "--json", report)
    assert result.exit_code == 1
    assert "c.jpg: not an image that can be decoded" in result.output
    assert "image 'b': it has the same pixels as image 'd' of 'val'" in result.output
    content = json.loads(report.read_text())
    assert {name: part["counts"] for name, part in content.items()} == {
        "train": {"unreadable-image": 1, "duplicate-across-splits": 1},
        "val": {},
    }
    assert list(read_exclusions(listed)) == ["c"]
    assert run(splits, "--fix", listed, "--fix-kind", "duplicate-across-splits", "--quiet").exit_code == 1
    assert list(read_exclusions(listed)) == ["c", "b"]
    assert exclude(VOC(splits, "train"), listed).image_ids == ["a"]


def test_warnings_fail_only_where_that_is_asked_for(splits: Path):
    (splits / "JPEGImages/d.png").unlink()
    (splits / "JPEGImages/d.jpg").write_bytes((splits / "JPEGImages/b.jpg").read_bytes())
    assert run(splits).exit_code == 0
    assert run(splits, "--strict").exit_code == 1
    assert run(splits, "--strict", "--no-duplicates").exit_code == 0
    assert run(splits, "--strict", "--quiet").output == ""


def test_errors_are_told_also_by_a_quiet_command(splits: Path):
    write_mask(splits / "SegmentationClass/c.png", np.full((40, 60), 9))
    (splits / "JPEGImages/b.jpg").write_bytes(b"")
    result = run(splits, "--quiet")
    assert result.exit_code == 1
    first, second = result.output.splitlines()
    assert first.startswith(f"train: {splits}/JPEGImages/b.jpg: not an image")
    assert second.startswith(f"train: {splits}/SegmentationClass/c.png: the mask has the class id 9")


@pytest.mark.parametrize("option", ["--fix", "--json", "--quiet"])
def test_a_name_that_is_no_utf8(tmp_path: Path, option: str):
    root = make("folder", tmp_path / "data")
    (root / "train/boxes.csv").unlink()
    name = os.fsdecode(b"caf\xe9")
    try:
        (root / "train/images/b.png").rename(root / f"train/images/{name}.png")
    except OSError:
        pytest.skip("the file system takes names of UTF-8 alone")
    (root / "train/masks" / f"{name}.png").write_bytes(b"none")
    target = tmp_path / "new/target"
    result = run(root, "--dataset", "folder", "--split", "train", option, *([] if option == "--quiet" else [target]))
    assert result.exit_code == 1, result.output
    assert "caf\\udce9.png: the mask cannot be read" in result.output
    if option == "--fix":
        assert list(read_exclusions(target)) == [name]
        assert "caf\\udce9.png: the mask cannot be read" in read_exclusions(target)[name]
    if option == "--json":
        findings = json.loads(target.read_text())["train"]["findings"]
        assert name in [finding["image_id"] for finding in findings]


def test_the_command_reads_a_config_and_other_data_sets(splits: Path, tmp_path: Path):
    config = tmp_path / "run.yaml"
    config.write_text(f"data: {{dataset_root: {splits}}}\n")
    assert "3 images" in run(config).output
    assert "12 images" in run(tmp_path, "--dataset", "{name: shapes, num_images: 12}", "--split", "train").output
    assert "3 images" in run(make("yolo", tmp_path / "yolo"), "--dataset", "yolo", "--split", "train").output


def test_an_id_of_two_splits_is_told(tmp_path: Path):
    root = make("folder", tmp_path)
    (root / "train").rename(root / "val")
    make("folder", tmp_path)
    (root / "train/images/b.png").write_bytes(b"")
    result = run(root, "--dataset", "folder", "--no-duplicates", "--fix", tmp_path / "list.txt")
    assert "out of two splits, since both have the id: 1, such as 'b'" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--dataset", "vok"], 2, "Did you mean 'voc'?"),
        (["--dataset", "{"], 2, "not valid YAML"),
        (["--split", "trein"], 2, "no split 'trein'"),
        (["--fix-kind", "duplicate-image"], 2, "--fix"),
        (["--fix", "FOLDER"], 2, "--fix: "),
        (["--json", "FOLDER"], 2, "is a folder; expected the path of a file"),
        (["--json", "FOLDER/classes.txt/x.json"], 2, "cannot be written"),
        (["--fix", "FOLDER/JPEGImages/a.jpg"], 2, "it is not UTF-8 text"),
        (["--fix", "list.txt", "--fix-kind", "duplicat-image"], 2, "Did you mean 'duplicate-image'?"),
    ],
)
def test_wrong_calls_are_one_sentence_before_anything_is_read(
    splits: Path, arguments: list[str], code: int, sentence: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mtvision.data.checking.check.check_splits", None)
    result = run(splits, *(argument.replace("FOLDER", str(splits)) for argument in arguments))
    assert result.exit_code == code, result.output
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert np.count_nonzero([line.startswith("error: ") for line in result.output.splitlines()]) == 1


def test_a_folder_that_cannot_be_opened_is_a_wrong_call(tmp_path: Path):
    result = run(tmp_path / "none")
    assert result.exit_code == 2
    assert "the data set's folder does not exist" in result.output
    (tmp_path / "run.yaml").write_text("data: {dataset_rot: x}\n")
    assert run(tmp_path / "run.yaml").exit_code == 2


def test_a_missing_module_is_not_that_of_studies(splits: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mtvision.data.loading.loader", None)
    result = run(splits)
    assert result.exit_code == 2
    assert "mtvision.data.loading.loader" in result.output
    assert "study" not in result.output


def test_a_config_names_its_data_set_itself(splits: Path, tmp_path: Path):
    config = tmp_path / "run.yaml"
    config.write_text(f"data: {{dataset_root: {splits}}}\n")
    assert "which names the data set already" in run(config, "--dataset", "voc").output
