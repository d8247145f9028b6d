"""What every registered assigner owes."""

import pytest
import torch
from assigner_inputs import (
    CLASSES,
    CPU,
    POINTS,
    SIZE,
    anchors_of,
    points_of,
    random_batch,
    random_predictions,
    random_targets,
    target_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtvision.assigners import base
from mtvision.assigners.base import Assignment, pad_targets
from mtvision.registries import ASSIGNERS

pytestmark = pytest.mark.parametrize("name", ASSIGNERS.names())
A_GIVEN_SIZE = st.floats(9, 60, width=32)
A_FRACTION = st.floats(0, 1, width=32)


def crowded(num_images, num_objects, points, size):
    generator = torch.Generator().manual_seed(0)
    targets = []
    for _ in range(num_images):
        low = torch.rand(num_objects, 2, generator=generator) * size * 0.9
        boxes = torch.cat([low, low + torch.rand(num_objects, 2, generator=generator) * size * 0.3 + 2], dim=1)
        boxes[-5:] = boxes[:5]  # equally good for every point, in another block
        difficult = (torch.rand(num_objects, generator=generator) < 0.1).tolist()
        labels = torch.randint(0, CLASSES, (num_objects,), generator=generator).tolist()
        targets.append(target_of(boxes, labels, difficult))
    return *random_predictions(generator, num_images, points), pad_targets(targets, CPU)


def check_contract(result, points, targets):
    num_images, num_objects = targets.valid.shape
    assert [part.shape for part in result] == [(num_images, len(points))] * 4
    assert [part.dtype for part in result] == [torch.bool, torch.int64, torch.float32, torch.bool]
    assert ((result.object_index >= 0) & (result.object_index < num_objects)).all()
    assert (result.object_index[~result.foreground] == 0).all()
    assert targets.learnable.gather(1, result.object_index)[result.foreground].all()
    assert ((result.scores >= 0) & (result.scores <= 1)).all()
    assert torch.equal(result.scores > 0, result.foreground)
    assert not (result.ignored & result.foreground).any()
    unseen = result.foreground | result.ignored
    assert not unseen[~targets.annotated].any()


def check_equal(first, second):
    """Equal but for the last bits of soft scores: torch's exp rounds the last few elements of a tensor otherwise."""
    for name, one, other in zip(Assignment._fields, first, second, strict=True):
        tolerance = 1e-5 if name == "scores" else 0
        torch.testing.assert_close(one, other, rtol=tolerance, atol=0)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), anchors=st.booleans())
def test_the_contract_holds(name, seed, anchors):
    generator = torch.Generator().manual_seed(seed)
    points = anchors_of(POINTS) if anchors else POINTS
    targets = pad_targets([*random_targets(generator, 3), None, target_of([])], CPU)
    logits, boxes = random_predictions(generator, 5, points)
    result = ASSIGNERS.build(name)(logits, boxes, points, targets)
    check_contract(result, points, targets)
    if not ASSIGNERS.get(name).soft:
        assert torch.equal(result.scores, result.foreground.float())


def test_nothing_is_learned_without_objects(name):
    logits, boxes, _ = random_batch(0, 2)
    targets = pad_targets([target_of([]), None], CPU)
    result = ASSIGNERS.build(name)(logits, boxes, POINTS, targets)
    assert not torch.stack([result.foreground, result.ignored, result.scores > 0]).any()


def test_a_difficult_object_is_ignored_and_no_positive(name):
    points = points_of(256)
    hard, easy = [100, 100, 220, 220], [10, 10, 60, 70]
    generator = torch.Generator().manual_seed(1)
    logits, boxes = (part.expand(3, -1, -1) for part in random_predictions(generator, 1, points))
    targets = [target_of([hard, easy], difficult=[True, False]), target_of([hard, easy]), target_of([easy])]
    padded = pad_targets(targets, CPU)
    result = ASSIGNERS.build(name)(logits, boxes, points, padded)
    check_contract(result, points, padded)
    learns_hard = result.foreground & (result.object_index == 0) & padded.valid[:, 1:]
    assert learns_hard.any(dim=1).tolist() == [False, True, False]
    # but for what it hides, the difficult object might not be there
    assert result.foreground[0].any()
    assert torch.equal(result.foreground[0], result.foreground[2])
    assert torch.equal(result.scores[0], result.scores[2])
    hidden = result.ignored[0] & ~result.ignored[2]
    assert hidden.any()
    centre = points[hidden, :2]
    assert ((centre >= 100) & (centre <= 220)).all()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), order=st.permutations(range(4)))
def test_images_do_not_see_each_other(name, seed, order):
    logits, boxes, targets = random_batch(seed, num_images=4)
    targets[int(seed) % 4] = None
    assigner = ASSIGNERS.build(name)
    result = assigner(logits, boxes, POINTS, pad_targets(targets, CPU))
    permuted = assigner(logits[order], boxes[order], POINTS, pad_targets([targets[i] for i in order], CPU))
    check_equal(Assignment(*(part[order] for part in result)), permuted)
    for image, target in enumerate(targets):
        row = slice(image, image + 1)
        alone = assigner(logits[row], boxes[row], POINTS, pad_targets([target], CPU))  # with less padding
        check_equal(Assignment(*(part[row] for part in result)), alone)


@settings(max_examples=60, deadline=None)
@given(w=A_GIVEN_SIZE, h=A_GIVEN_SIZE, x=A_FRACTION, y=A_FRACTION)
def test_an_object_of_usual_size_has_a_positive(name, w, h, x, y):
    x, y = x * (SIZE - w), y * (SIZE - h)
    logits, boxes, _ = random_batch(0, 1)
    result = ASSIGNERS.build(name)(logits, boxes, POINTS, pad_targets([target_of([[x, y, x + w, y + h]])], CPU))
    assert result.foreground.any()


def test_blocks_of_objects_change_nothing(name, monkeypatch):
    points = anchors_of(points_of(128))
    logits, boxes, targets = crowded(2, 23, points, 128)
    assigner = ASSIGNERS.build(name)
    whole = assigner(logits, boxes, points, targets)
    check_contract(whole, points, targets)
    for limit in (1, 3 * 2 * len(points), 22 * 2 * len(points)):
        monkeypatch.setattr(base, "MAX_PAIRS", limit)
        check_equal(assigner(logits, boxes, points, targets), whole)


class LargestTensor(TorchDispatchMode):
    """Records the elements of the largest memory that an operation returns."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.elements = max(self.elements, leaf.untyped_storage().nbytes() // leaf.element_size())
        return out


def test_memory_is_bounded(name):
    """A crowd at the nine anchors a cell of RetinaNet, 512 pixels: 29 million pairs, more than one block may hold."""
    points = anchors_of(
        points_of(512, (8, 16, 32, 64, 128)), sides=[(s, s * r) for s in (4, 5, 6) for r in (0.5, 1, 2)]
    )
    assert len(points) == 49104
    logits, boxes, targets = crowded(2, 300, points, 512)
    with LargestTensor() as largest:
        result = ASSIGNERS.build(name)(logits, boxes, points, targets)
    check_contract(result, points, targets)
    assert result.foreground.any()
    assert 2 * len(points) < largest.elements <= base.MAX_PAIRS
