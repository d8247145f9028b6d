"""Pictures: what was asked for is where it should be."""

import numpy as np
import pytest
import torch
from PIL import Image

import mtvision as mtv
from mtvision.visualize import draw
from mtvision.visualize.curves import write_curves
from mtvision.visualize.draw import class_color
from mtvision.visualize.panel import write_panel

CLASSES = mtv.Classes(("background", "cat", "dog"), ("cat", "dog"))


def grey(height=60, width=80):
    return np.full((height, width, 3), 100, dtype=np.uint8)


def detections(box, label=1, score=0.9):
    return {"boxes": torch.tensor([box]), "labels": torch.tensor([label]), "scores": torch.tensor([score])}


def test_colours_are_pascal_vocs():
    # from the palette of the VOC devkit: background, aeroplane, bicycle, bird, person
    expected = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 15: (192, 128, 128)}
    assert {index: class_color(index) for index in expected} == expected


def test_the_mask_is_blended_where_it_is_and_nowhere_else():
    mask = torch.zeros(60, 80, dtype=torch.int64)
    mask[10:20, 10:20] = 1
    mask[30:40, 30:40] = 255
    picture = draw(grey(), {"seg": mask}, CLASSES, mask_opacity=0.5)
    assert tuple(picture[15, 15]) == (114, 50, 50)
    assert tuple(picture[0, 0]) == (100, 100, 100)
    assert tuple(picture[35, 35]) == (162, 162, 146)


def test_a_box_has_the_colour_of_its_class_in_the_mask_and_lies_on_its_edges():
    picture = draw(grey(), {"det": detections([20.0, 30.0, 50.0, 55.0])}, CLASSES)
    for y, x in [(30, 35), (54, 35), (45, 20), (45, 49)]:
        assert tuple(picture[y, x]) == class_color(2), (y, x)
    assert tuple(picture[45, 35]) == (100, 100, 100)


def test_detections_below_the_threshold_are_left_out():
    weak = {"det": detections([20.0, 30.0, 50.0, 55.0], score=0.2)}
    assert np.array_equal(draw(grey(), weak, CLASSES), grey())
    assert not np.array_equal(draw(grey(), weak, CLASSES, score_threshold=0.1), grey())


@pytest.mark.parametrize("prediction", [{}, {"seg": None, "det": None}, {"det": {"boxes": [], "labels": []}}])
def test_nothing_to_draw_leaves_a_copy(prediction):
    image = grey()
    picture = draw(image, prediction)
    assert np.array_equal(picture, image)
    assert picture is not image


def test_every_form_of_an_image_gives_the_same_picture(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    for form in (path, str(path), Image.fromarray(image), tensor, tensor / 255, (tensor / 255).double(), image / 255):
        assert np.array_equal(draw(form, {}), image)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 4)])
def test_what_is_no_picture_is_one_sentence(shape):
    with pytest.raises(mtv.DataError, match=r"an image array: expected \(H, W, 3\)"):
        draw(np.zeros(shape, dtype=np.uint8), {})


class Elsewhere(torch.Tensor):
    """Like a tensor on a GPU: no array until it is brought back."""

    def __array__(self, *arguments, **options):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def numpy(self, **options):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


@pytest.mark.parametrize(
    "form",
    [
        lambda tensor: tensor.as_subclass(Elsewhere),
        lambda tensor: tensor.requires_grad_() if tensor.is_floating_point() else tensor,
        lambda tensor: tensor.bfloat16() if tensor.is_floating_point() else tensor,
    ],
    ids=["cuda", "requires_grad", "bfloat16"],
)
def test_predictions_of_any_device_and_kind_give_the_same_picture(form):
    mask = torch.zeros(60, 80, dtype=torch.int64)
    mask[10:20, 10:20] = 1
    objects = detections([20.0, 30.0, 50.0, 55.0], score=0.875)
    expected = draw(grey(), {"seg": mask, "det": objects}, CLASSES)
    prediction = {"seg": form(mask), "det": {name: form(value) for name, value in objects.items()}}
    assert np.array_equal(draw(grey(), prediction, CLASSES), expected)


def test_the_callers_picture_is_not_drawn_on():
    image = grey()
    draw(image, {"det": detections([20.0, 30.0, 50.0, 55.0])}, CLASSES)
    assert np.array_equal(image, grey())


def test_boxes_at_the_border_and_unknown_labels_are_drawn():
    prediction = {"det": detections([0.0, 0.0, 80.0, 60.0], label=7)}
    assert draw(grey(), prediction, CLASSES).shape == (60, 80, 3)


def test_names_may_stand_for_classes():
    prediction = {"det": detections([20.0, 30.0, 50.0, 55.0])}
    assert np.array_equal(draw(grey(), prediction, ["cat", "dog"]), draw(grey(), prediction, CLASSES))


def test_a_mask_of_another_size_is_an_error():
    with pytest.raises(ValueError, match="the mask is 3 x 4, the image 60 x 80"):
        draw(grey(), {"seg": np.zeros((3, 4), dtype=np.int64)})


def test_panel_has_three_pictures_a_row(tmp_path):
    data = mtv.build_dataset({"data": {"dataset": {"name": "shapes", "num_images": 3, "image_size": 64}}})
    samples = list(data)
    predictions = [{"seg": torch.from_numpy(s.mask.astype(np.int64))} for s in samples]
    path = write_panel(samples, predictions, data.classes, tmp_path / "new" / "panel.png", height=64)
    picture = np.asarray(Image.open(path))
    assert picture.shape == (3 * 70 + 18, 3 * 70 + 6, 3)
    assert np.array_equal(picture[18 : 18 + 64, 6 : 6 + 64], samples[0].image)


def test_curves_are_written_also_with_gaps(tmp_path):
    rows = [
        {"epoch": 1, "lr": 0.1, "seconds": 1.0, "train/loss": 2.0, "val/loss": 2.0, "val/seg/miou": float("nan")},
        {"epoch": 2, "lr": 0.05, "seconds": 1.0, "train/loss": 1.0},
    ]
    path = write_curves(rows, tmp_path / "plots")
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.std() > 5
    assert path.name == "curves.png"
