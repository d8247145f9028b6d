import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

import mtvision as mtv
from devkit_folder import errors_of, write_image, write_item, write_lists, write_mask, write_xml
from mtvision.data import VOC, Subset
from mtvision.data.readers.torchvision import from_torchvision
from mtvision.errors import DataError

SIZE = (40, 60)


@pytest.fixture
def voc_root(tmp_path: Path) -> Path:
    """The folder that torchvision wants, with one image of two objects, one of them difficult."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("b", "a"):
        write_item(root, name)
    write_xml(root / "Annotations" / "b.xml", [("cat", (5, 3, 10, 8)), ("dog", (1, 1, 30, 20))], difficult=[0, 1])
    write_lists(root, Main_train="b a", Segmentation_train="b a")
    return tmp_path


def test_voc_segmentation_is_what_torchvision_reads(voc_root: Path):
    theirs = datasets.VOCSegmentation(str(voc_root), image_set="train")
    ours = from_torchvision(theirs)
    assert len(ours) == 2
    assert errors_of(ours) == []
    assert [sample.image_id for sample in ours] == ["b", "a"]
    assert ours.classes == mtv.data.voc_classes()
    for (image, target), sample in zip(theirs, ours, strict=True):
        assert np.abs(np.array(image).astype(int) - sample.image).max() <= 4  # two decoders of one JPEG
        assert np.array_equal(np.array(target), sample.mask)
        assert sample.boxes is sample.labels is sample.difficult is None


def test_voc_detection_is_what_torchvision_reads(voc_root: Path):
    theirs = datasets.VOCDetection(str(voc_root), image_set="train")
    ours = from_torchvision(theirs)
    assert errors_of(ours) == []
    for (_, target), sample in zip(theirs, ours, strict=True):
        assert sample.mask is None
        objects = target["annotation"]["object"]
        corners = [[int(item["bndbox"][edge]) for edge in ("xmin", "ymin", "xmax", "ymax")] for item in objects]
        assert (np.array(corners) - [1, 1, 0, 0]).tolist() == sample.boxes.tolist()
        assert [item["name"] for item in objects] == [ours.classes.detection[label] for label in sample.labels]
        assert [item.get("difficult", "0") == "1" for item in objects] == sample.difficult.tolist()
    whole = VOC(voc_root / "VOCdevkit", "train")
    assert all(np.array_equal(one.boxes, other.boxes) for one, other in zip(ours, whole, strict=True))


def test_problems_name_the_files(voc_root: Path):
    ours = from_torchvision(datasets.VOCDetection(str(voc_root), image_set="train"))
    before = ours.fingerprint()
    write_xml(voc_root / "VOCdevkit/VOC2012/Annotations/a.xml", [("cta", (5, 3, 10, 8))])
    assert ours.fingerprint() != before
    (problem,) = errors_of(ours)
    assert "a.xml: object 1: unknown class name 'cta'. Did you mean 'cat'?" in problem


def test_a_list_that_leads_out_is_refused(voc_root: Path):
    write_lists(voc_root / "VOCdevkit" / "VOC2012", Segmentation_train="../../../../secret")
    with pytest.raises(DataError, match=r"secret\.jpg: the list of images leads out of"):
        from_torchvision(datasets.VOCSegmentation(str(voc_root), image_set="train"))


def test_coco_is_what_torchvision_reads(tmp_path: Path):
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.png", np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    polygon = [[5.5, 8.25, 35.5, 8.25, 35.5, 28.75]]
    annotation = {"id": 1, "image_id": 9, "category_id": 4, "bbox": [5.5, 8.25, 30, 20.5], "iscrowd": 0}
    content = {
        "images": [{"id": 9, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 4, "name": "cat"}],
        "annotations": [annotation | {"segmentation": polygon, "area": 300}],
    }
    for item in content["images"]:
        item |= {"height": SIZE[0], "width": SIZE[1]}
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    theirs = datasets.CocoDetection(str(tmp_path), str(path))
    ours = from_torchvision(theirs)
    assert errors_of(ours) == []
    for (image, target), number, sample in zip(theirs, theirs.ids, ours, strict=True):
        assert np.array_equal(np.array(image), sample.image)
        assert sample.image_id == str(number)
        expected = [[x, y, x + w, y + h] for x, y, w, h in (item["bbox"] for item in target)]
        assert sample.boxes.tolist() == expected
        pixels = sum(theirs.coco.annToMask(item) for item in target) if target else np.zeros(SIZE)
        assert np.array_equal(sample.mask, pixels)
    theirs.ids = [9]
    chosen = from_torchvision(theirs)
    assert isinstance(chosen, Subset)
    assert [sample.image_id for sample in chosen] == ["9"]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    base = tmp_path / "oxford-iiit-pet"
    lines = []
    for number, name in enumerate(["Abyssinian_1", "beagle_2"]):
        write_image(base / "images" / f"{name}.jpg", np.full((*SIZE, 3), 80 + number, np.uint8))
        trimap = np.full(SIZE, 2, np.uint8)
        trimap[10:30, 10:40] = 3
        trimap[12:28, 12:38] = 1
        (base / "annotations" / "trimaps").mkdir(parents=True, exist_ok=True)
        Image.fromarray(trimap).save(base / "annotations" / "trimaps" / f"{name}.png")
        lines.append(f"{name} {number + 1} {number + 1} 1\n")
    (base / "annotations" / "trainval.txt").write_text("".join(lines))
    return tmp_path


def test_pets_are_what_torchvision_reads(pets: Path):
    theirs = datasets.OxfordIIITPet(str(pets), target_types="segmentation")
    ours = from_torchvision(theirs)
    assert errors_of(ours) == []
    assert ours.classes.segmentation == ("background", "pet")
    assert [sample.image_id for sample in ours] == ["Abyssinian_1", "beagle_2"]
    for (image, trimap), sample in zip(theirs, ours, strict=True):
        assert np.array_equal(np.array(image), sample.image)
        values = np.array(trimap)
        assert np.array_equal(sample.mask == 1, values == 1)
        assert np.array_equal(sample.mask == 0, values == 2)
        assert np.array_equal(sample.mask == 255, values == 3)
        assert sample.boxes is None


def test_bad_pets_are_named(pets: Path):
    ours = from_torchvision(datasets.OxfordIIITPet(str(pets), target_types="segmentation"))
    folder = pets / "oxford-iiit-pet"
    write_mask(folder / "annotations/trimaps/Abyssinian_1.png", np.full(SIZE, 4))
    (folder / "images/beagle_2.jpg").write_bytes(b"")
    values, unreadable = errors_of(ours)
    assert "Abyssinian_1.png: expected a trimap of the values 1, 2 and 3, got [4]" in values
    assert "OxfordIIITPet: item 1 cannot be read" in unreadable
    assert "beagle_2.jpg" in unreadable
    write_mask(folder / "annotations/trimaps/Abyssinian_1.png", np.full((41, 60), 1))
    assert "the trimap is (41, 60) (height, width) but its image (40, 60)" in errors_of(ours)[0]
    breeds = datasets.OxfordIIITPet(str(pets))
    with pytest.raises(DataError, match="make OxfordIIITPet with target_types='segmentation'"):
        from_torchvision(breeds)


def test_other_sets_and_transforms_are_refused(voc_root: Path):
    class Own(datasets.VOCDetection):
        pass

    for dataset in (datasets.FakeData(), Own(str(voc_root), image_set="train"), [1]):
        with pytest.raises(DataError, match=r"expected VOCSegmentation, VOCDetection, CocoDetection or Oxford.*, got"):
            from_torchvision(dataset)
    with pytest.raises(DataError, match="make VOCDetection without transforms"):
        from_torchvision(datasets.VOCDetection(str(voc_root), image_set="train", transform=np.array))
