import re
import shutil
import tarfile
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torchvision

from devkit_folder import errors_of, write_item, write_lists, write_mask
from mtvision.data import VOC
from mtvision.errors import DataError
from mtvision.registries import DATASETS
from mtvision.registry import Component


@pytest.fixture
def sbd(devkit: Path) -> Path:
    """Two more images with masks of SBD alone, and another mask of b; d is in SBD too, but VOC's own for validation."""
    for name in ("e", "f"):
        write_item(devkit, name)
        (devkit / "SegmentationClass" / f"{name}.png").unlink()
        (devkit / "Annotations" / f"{name}.xml").unlink()
    for number, name in enumerate("bdef"):
        write_mask(devkit / "SegmentationClassAug" / f"{name}.png", np.full((20, 30), 10 + number))
    write_lists(devkit, Segmentation_trainaug="a b c d e f")
    return devkit


def value(dataset: VOC, name: str) -> int:
    return int(dataset[dataset.image_ids.index(name)].mask[10, 20])


def test_sbd_masks_are_taken_where_there_are_some(sbd: Path):
    plain, train = VOC(sbd, "train"), VOC(sbd, "train", sbd_masks=True)
    assert plain.image_ids == ["a", "b", "c"]
    assert train.image_ids == ["a", "b", "c", "e", "f"]  # d is held out
    assert [value(plain, name) for name in "abc"] == [0, 0, 0]
    assert [value(train, name) for name in "abcef"] == [0, 10, 0, 12, 13]
    assert [sample.boxes is None for sample in train] == [False, False, False, True, True]
    assert plain.fingerprint() != train.fingerprint()
    assert errors_of(train) == []


def test_validation_stays_that_of_voc(sbd: Path):
    val = DATASETS.build(Component("voc", {"sbd_masks": True}), sbd, "val")
    assert val.image_ids == ["d"]
    assert value(val, "d") == 0


@pytest.mark.parametrize("name", ["train_aug", "aug"])
def test_other_names_of_the_list(sbd: Path, name: str):
    path = sbd / "ImageSets" / "Segmentation" / "trainaug.txt"
    path.with_name(f"{name}.txt").write_text("e\n")
    path.unlink()
    assert VOC(sbd, "train", sbd_masks=True).image_ids == ["a", "b", "c", "e"]


def test_a_list_of_paths_of_images_and_masks(sbd: Path):
    path = sbd / "ImageSets" / "Segmentation" / "trainaug.txt"
    lines = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" for name in "abcdef"]
    path.with_name("train_aug.txt").write_text("\n".join(lines) + "\n")
    path.unlink()
    assert VOC(sbd, "train", sbd_masks=True).image_ids == ["a", "b", "c", "e", "f"]


def test_an_image_that_sbd_lists_needs_a_mask(sbd: Path):
    (sbd / "SegmentationClassAug" / "e.png").unlink()
    (problem,) = errors_of(VOC(sbd, "train", sbd_masks=True))
    assert problem.endswith("SegmentationClass/e.png: the mask is missing")


def test_instances_never_contradict_the_masks_of_sbd(sbd: Path):
    numbers = np.zeros((20, 30), np.uint8)
    numbers[2:8, 4:10] = 1  # the cat of the XML
    write_mask(sbd / "SegmentationObject" / "b.png", numbers)
    mask = np.zeros((20, 30), np.uint8)
    mask[2:8, 4:9] = 8
    write_mask(sbd / "SegmentationClassAug" / "b.png", mask)
    assert np.array_equal(VOC(sbd, "train")[1].instances, numbers)
    sample = VOC(sbd, "train", sbd_masks=True)[1]
    assert np.array_equal(sample.instances > 0, mask == 8)


def test_what_sbd_lacks_is_said(sbd: Path):
    (sbd / "ImageSets" / "Segmentation" / "trainaug.txt").unlink()
    with pytest.raises(DataError, match=r"needs the list .*: trainaug\.txt, train_aug\.txt or aug\.txt; none"):
        VOC(sbd, "train", sbd_masks=True)
    with pytest.raises(DataError, match=r"the list .*: trainvalaug\.txt or trainval_aug\.txt; none"):
        VOC(sbd, "trainval", sbd_masks=True)
    shutil.rmtree(sbd / "SegmentationClassAug")
    with pytest.raises(DataError, match="'sbd_masks' needs the folder SegmentationClassAug"):
        VOC(sbd, "train", sbd_masks=True)


@pytest.fixture
def archives(devkit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Stand in for the download alone: torchvision's own archive names and checksums are asked for, and unpacked."""
    asked: list[tuple[str, str]] = []
    archive = tmp_path / "source.tar"
    write_lists(devkit, Main_trainval="a b c d")
    with tarfile.open(archive, "w") as file:
        file.add(devkit, "VOCdevkit/VOC2012")

    def fetch(url: str, root: str, filename: str, md5: str) -> None:
        asked.append((filename, md5))
        Path(root).mkdir(parents=True, exist_ok=True)
        shutil.copy(archive, Path(root) / filename)
        torchvision.datasets.utils.extract_archive(str(Path(root) / filename), root)

    monkeypatch.setattr(torchvision.datasets.voc, "download_and_extract_archive", fetch)
    return asked


def test_the_download_is_torchvisions_and_happens_once(tmp_path: Path, archives: list[Any]):
    root = tmp_path / "new" / "place"
    dataset = DATASETS.build(Component("voc", {"download": True}), root, "train")
    assert dataset.root == root / "VOCdevkit" / "VOC2012"
    assert len(dataset) == 3
    assert errors_of(dataset) == []
    assert archives == [("VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd")]
    assert VOC(root, "val", download=True).image_ids == ["d"]
    assert VOC(root, "val").image_ids == ["d"]
    assert len(archives) == 1
    assert [path.name for path in root.iterdir() if not path.name.endswith(".lock")] == ["VOCdevkit"]  # no archive left


def test_a_download_that_was_killed_begins_again(tmp_path: Path, archives: list[Any]):
    (tmp_path / "root/.voc2012.download/VOCdevkit/VOC2012/JPEGImages").mkdir(parents=True)
    with pytest.raises(DataError, match="expected a VOC folder"):
        VOC(tmp_path / "root", "train")
    assert VOC(tmp_path / "root", "val", download=True).image_ids == ["d"]
    assert len(archives) == 1


def test_what_is_being_written_is_no_devkit(devkit: Path):
    for name in (".writing-x", "more/.writing-x", ".trash/VOC2012"):
        (devkit.parent / name / "JPEGImages").mkdir(parents=True)
    assert VOC(devkit.parent, "train").root == devkit


def test_a_second_caller_waits_and_downloads_nothing(
    tmp_path: Path, archives: list[Any], monkeypatch: pytest.MonkeyPatch
):
    fetch, callers, found = torchvision.datasets.voc.download_and_extract_archive, [], []

    def fetch_while_another_asks(*arguments: Any, **options: Any) -> None:
        callers.append(Thread(target=lambda: found.append(VOC(tmp_path / "root", "val", download=True))))
        if len(callers) == 1:
            callers[0].start()
            callers[0].join(0.3)  # it cannot end before this function has
            assert callers[0].is_alive()
        fetch(*arguments, **options)

    monkeypatch.setattr(torchvision.datasets.voc, "download_and_extract_archive", fetch_while_another_asks)
    assert VOC(tmp_path / "root", "train", download=True).image_ids == ["a", "b", "c"]
    callers[0].join()
    assert [dataset.image_ids for dataset in found] == [["d"]]
    assert len(archives) == 1


def test_a_year_is_not_downloaded_into_a_devkit_of_another_name(devkit: Path, archives: list[Any]):
    flat = devkit.rename(devkit.with_name("flat"))
    with pytest.raises(DataError, match="flat: it is a VOC folder itself but not named VOC2012; leave out the year"):
        VOC(flat, "train", download=True, year=2012)
    assert archives == []
    assert VOC(flat, "train", download=True).image_ids == ["a", "b", "c"]


def test_an_existing_devkit_is_not_downloaded(devkit: Path, archives: list[Any]):
    assert len(VOC(devkit, "train", download=True)) == 3
    assert archives == []


def test_the_year_chooses_one_of_several(devkit: Path, archives: list[Any]):
    write_item(devkit.parent / "VOC2007", "x")
    write_lists(devkit.parent / "VOC2007", Main_train="x")
    assert DATASETS.build(Component("voc", {"year": 2007}), devkit.parent, "train").image_ids == ["x"]
    assert VOC(devkit.parent, "train", year="2012", download=True).image_ids == ["a", "b", "c"]
    with pytest.raises(DataError, match="expected a folder VOC2010, found VOC2007, VOC2012"):
        VOC(devkit.parent, "train", year=2010)
    with pytest.raises(DataError, match=r"year: expected 2007 to 2012, got '2021'"):
        VOC(devkit.parent, "train", year="2021")
    assert archives == []


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("File not found or corrupted."), EOFError("cut")])
def test_a_download_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception):
    def fetch(url: str, root: str, filename: str, md5: str) -> None:
        (Path(root) / "VOCdevkit" / "VOC2012" / "JPEGImages").mkdir(parents=True)
        raise error

    monkeypatch.setattr(torchvision.datasets.voc, "download_and_extract_archive", fetch)
    with pytest.raises(DataError, match=r"VOC: Pascal VOC 2012 could not be downloaded \(.+\)"):
        VOC(tmp_path / "VOC", "train", download=True)
    assert not list((tmp_path / "VOC").glob("*/*"))  # nothing that looks like a devkit
    with pytest.raises(DataError, match="expected a VOC folder with JPEGImages"):
        VOC(tmp_path / "VOC", "train")


BAD_NAMES = [
    "../../etc/passwd",
    "/JPEGImages/../a.jpg",
    "/JPEGImages/",
    "/etc/passwd",
    "..\\..\\secret",
    "..",
    ".",
    "a\0b",
    "a/b",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_lead_elsewhere_are_refused(devkit: Path, name: str):
    write_lists(devkit, Main_train=name)
    with pytest.raises(DataError, match=r"train\.txt: expected the name of an image without folder and suffix, got"):
        VOC(devkit, "train")
    with pytest.raises(DataError, match="expected the name of a split without folder, got"):
        VOC(devkit, name)


BILLION = "<!DOCTYPE a [<!ENTITY a '1'>" + "".join(
    f"<!ENTITY {one} '{f'&{other};' * 10}'>" for other, one in zip("abcdefgh", "bcdefghi", strict=True)
)

BOMBS = {
    "entities that multiply": (BILLION + "]><annotation><folder>&i;</folder></annotation>", "entities .* are refused"),
    "a file of the system": (
        "<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><annotation><folder>&e;</folder></annotation>",
        "entities or external references, which are refused",
    ),
    "deep": ("<annotation>" + "<a>" * 50_000, "malformed XML"),
    "deep and closed": ("<annotation>" + "<a>" * 50_000 + "</a>" * 50_000 + "</annotation>", ""),
    "long number": (
        "<annotation><object><name>cat</name><bndbox><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax><xmin>"
        + "9" * 100_000
        + "</xmin></bndbox></object></annotation>",
        "xmin is not a number",
    ),
    "NUL": ("<annotation>\0</annotation>", "malformed XML"),
    "an encoding that is none": ('<?xml version="1.0" encoding="none"?><annotation/>', "malformed XML"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_xml_that_is_made_to_harm_is_refused_or_harmless(devkit: Path, kind: str):
    content, sentence = BOMBS[kind]
    (devkit / "Annotations" / "b.xml").write_text(content)
    problems = errors_of(VOC(devkit, "train"))
    assert len(problems) == (1 if sentence else 0)
    for problem in problems:
        assert "b.xml" in problem
        assert len(problem) < 1000
    if sentence:
        assert any(re.search(sentence, problem) for problem in problems)
