"""Models of which one can work out what they say: nothing in them depends on where a pixel lies."""

import torch
from torch import nn

import mtvision as mtv
from mtvision.layers.normalization import InputNormalization
from mtvision.losses.segmentation import CrossEntropy
from mtvision.ops.boxes import scale_boxes
from mtvision.suppression import class_wise
from mtvision.tasks.classification import ClassificationTask
from mtvision.tasks.depth import DepthTask
from mtvision.tasks.detection import DetectionTask
from mtvision.tasks.segmentation import SegmentationTask
from mtvision.tasks.selection import Selection
from mtvision.types import FeatureInfo

CLASSES = mtv.Classes(("background", "red", "green"), ("red", "green"))


class Pixels(nn.Module):
    """A backbone whose one feature is the image."""

    feature_info = (FeatureInfo(3, 1),)

    def forward(self, images):
        return [images]


class Pointwise(nn.Module):
    """A head that says ``gain`` times the channels, pixel by pixel; of one map the first channel."""

    def __init__(self, maps=3, gain=4.0):
        super().__init__()
        self.maps, self.gain = maps, gain

    def forward(self, features):
        return self.gain * features[0][:, : self.maps]


class Constant(nn.Module):
    """A head that says the same everywhere."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, features):
        return self.values[None, :, None, None].expand(len(features[0]), -1, *features[0].shape[2:])


class Brightest(nn.Module):
    """A head that says the largest value of each channel, as a logit."""

    def forward(self, features):
        return features[0].amax(dim=(2, 3))


class Rectangles(DetectionTask):
    """Finds what is in the red and in the green channel: the box around all pixels that are not black there.

    The score is the mean value of those pixels.
    """

    def __init__(self, score_threshold=0.05, nms_threshold=0.5):
        nn.Module.__init__(self)
        self.num_classes = 2
        self.selection = Selection(score_threshold, class_wise(), nms_threshold, 100, 1000)

    def forward(self, features, image_size):
        return features[0]

    def postprocess(self, output, image_sizes=None):
        own = tuple(output.shape[2:])
        return [
            self._of_image(image, size or own)
            for image, size in zip(output, image_sizes or [None] * len(output), strict=True)
        ]

    def _of_image(self, image, size):
        rows = [(label, *self._found(image[label])) for label in (0, 1) if image[label].any()]
        rows.sort(key=lambda row: -row[2])
        boxes = torch.tensor([box for _, box, _ in rows]).reshape(-1, 4)
        own = torch.tensor(image.shape[1:])
        return {
            "boxes": scale_boxes(boxes, own, torch.tensor(size)),
            "scores": torch.tensor([score for _, _, score in rows]),
            "labels": torch.tensor([label for label, _, _ in rows], dtype=torch.int64),
        }

    @staticmethod
    def _found(channel):
        rows, columns = channel.nonzero(as_tuple=True)
        low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
        return [float(edge) for edge in (*low, *high)], float(channel[channel > 0].mean())


def segmenter(head=None):
    return SegmentationTask(head or Pointwise(), 3, CrossEntropy())


def depth():
    return DepthTask(Pointwise(1))


def classifier():
    return ClassificationTask(Brightest(), 3)


def toy_model(image_size=(32, 32), **tasks):
    """Return a model of tasks; by default of one that segments and one that detects."""
    return mtv.MultiTaskModel(
        Pixels(),
        tasks or {"seg": segmenter(), "det": Rectangles()},
        normalization=InputNormalization([0.0] * 3, [1.0] * 3),
        classes=CLASSES,
        image_size=image_size,
    )


def noise(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def painted(size, *rectangles):
    """Return a black image ``(3, *size)`` with rectangles (channel, value, x1, y1, x2, y2)."""
    image = torch.zeros(3, *size, dtype=torch.uint8)
    for channel, value, x1, y1, x2, y2 in rectangles:
        image[channel, y1:y2, x1:x2] = value
    return image


def same_prediction(one, other):
    """Tell whether two predictions are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one.keys() == other.keys() and all(same_prediction(one[name], other[name]) for name in one)
