import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_inputs import blobs, example, hard
from segmentation_models_pytorch.losses import DiceLoss, JaccardLoss, LovaszLoss, TverskyLoss
from sklearn.metrics import f1_score, jaccard_score

from mtvision.errors import ConfigError
from mtvision.losses.segmentation import Dice, Jaccard, Lovasz, Tversky, lovasz_softmax, tversky_loss
from mtvision.types import VOID

OURS_AND_THEIRS = [
    (Dice, DiceLoss, {}),
    (Dice, DiceLoss, {"smooth": 1.5}),
    (Dice, DiceLoss, {"smooth": 0.5, "log_loss": True}),
    (Jaccard, JaccardLoss, {}),
    (Jaccard, JaccardLoss, {"smooth": 2.0}),
    (Jaccard, JaccardLoss, {"log_loss": True}),
    (Tversky, TverskyLoss, {"alpha": 0.2, "beta": 0.9}),
    (Tversky, TverskyLoss, {"alpha": 0.7, "beta": 0.3, "smooth": 1.0}),
]


def assert_same(ours, theirs, logits):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("ours", "theirs", "options"), OURS_AND_THEIRS)
@pytest.mark.parametrize("seed", range(3))
def test_equals_smp_where_every_class_occurs(ours, theirs, options, seed):
    logits, mask = example(seed)
    assert set(mask.unique().tolist()) == {0, 1, 2, 3, 4, VOID}
    loss = theirs("multiclass", ignore_index=VOID, **options)
    assert_same(ours(**options)(logits, mask), loss(logits, mask), logits)


@pytest.mark.parametrize(("ours", "theirs", "options"), OURS_AND_THEIRS)
def test_the_mean_is_over_the_classes_that_occur_where_smp_divides_by_all(ours, theirs, options):
    logits, mask = example()
    mask = torch.where((mask == 1) | (mask == 4), VOID, mask)
    loss = theirs("multiclass", ignore_index=VOID, **options)
    assert_same(ours(**options)(logits, mask), loss(logits, mask) * 5 / 3, logits)


@pytest.mark.parametrize(("ours", "theirs", "options"), OURS_AND_THEIRS)
def test_without_background_equals_smp_without_its_first_class(ours, theirs, options):
    logits, mask = example()
    loss = theirs("multiclass", classes=[1, 2, 3, 4], ignore_index=VOID, **options)
    assert_same(ours(include_background=False, **options)(logits, mask), loss(logits, mask), logits)


@pytest.mark.parametrize("gamma", [0.75, 2.0])
def test_focal_tversky_of_one_class_equals_smp(gamma):
    """Theirs is the power of the mean over classes, the paper's (and ours) the mean of powers."""
    logits, mask = example(num_classes=2)
    options = {"alpha": 0.3, "beta": 0.7, "gamma": gamma}
    loss = TverskyLoss("multiclass", classes=[1], ignore_index=VOID, **options)
    assert_same(Tversky(include_background=False, **options)(logits, mask), loss(logits, mask), logits)


def test_focal_tversky_is_the_mean_of_powers():
    logits, mask = example()
    each = [tversky_loss(logits.roll(-c, 1), torch.where(mask == VOID, VOID, (mask - c) % 5)) for c in range(5)]
    torch.testing.assert_close(torch.stack(each), each[0].expand(5))  # the order of classes does not matter
    two, truth = example(num_classes=2)
    second = tversky_loss(two, truth, include_background=False)
    first = tversky_loss(two.flip(1), torch.where(truth == VOID, VOID, 1 - truth), include_background=False)
    torch.testing.assert_close(tversky_loss(two, truth, gamma=0.5), (first**0.5 + second**0.5) / 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8), st.floats(0, 2))
def test_dice_and_jaccard_are_cases_of_tversky(seed, num_classes, smooth):
    logits, mask = example(seed, num_classes)
    dice, jaccard = Dice(smooth=smooth)(logits, mask), Jaccard(smooth=smooth)(logits, mask)
    torch.testing.assert_close(dice, Tversky(alpha=0.5, beta=0.5, smooth=smooth)(logits, mask))
    torch.testing.assert_close(jaccard, Tversky(alpha=1, beta=1, smooth=smooth)(logits, mask))
    assert dice <= jaccard


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("loss", "metric"), [(Dice(), f1_score), (Jaccard(), jaccard_score), (Lovasz(), jaccard_score)]
)
def test_hard_predictions_give_one_minus_the_metric(loss, metric, seed):
    truth, prediction = blobs(seed)
    truth[:, :2] = VOID
    truth[truth == 3] = VOID  # a class that is predicted but does not occur
    counted = truth != VOID
    scores = metric(truth[counted], prediction[counted], labels=truth[counted].unique().tolist(), average="macro")
    assert loss(hard(prediction, 4), truth).item() == pytest.approx(1 - scores, abs=1e-6)
    by_hand = [
        metric(t[c], p[c], labels=t[c].unique().tolist(), average="macro")
        for t, p, c in zip(truth, prediction, counted, strict=True)
    ]
    if isinstance(loss, Lovasz):
        assert Lovasz(per_image=True)(hard(prediction, 4), truth).item() == pytest.approx(
            1 - sum(by_hand) / 2, abs=1e-6
        )


def test_false_positives_and_false_negatives_have_their_own_weight():
    truth = torch.tensor([[[1, 1, 1, 1, 0, 0, 0, 0]]])
    more, less = torch.tensor([[[1, 1, 1, 1, 1, 1, 0, 0]]]), torch.tensor([[[1, 1, 0, 0, 0, 0, 0, 0]]])
    loss = Tversky(alpha=0.2, beta=0.8, include_background=False)
    assert loss(hard(more, 2), truth).item() == pytest.approx(1 - 4 / (4 + 0.2 * 2))
    assert loss(hard(less, 2), truth).item() == pytest.approx(1 - 2 / (2 + 0.8 * 2))


def test_nothing_to_weigh_is_refused():
    with pytest.raises(ConfigError, match="alpha and beta of 'tversky' must not both be 0"):
        Tversky(alpha=0.0, beta=0.0)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_lovasz_equals_smp_also_where_classes_are_absent(seed, per_image):
    logits, mask = example(seed, num_classes=6, size=(11, 8))
    mask[1][mask[1] == 2] = VOID
    mask[mask == 4] = VOID
    loss = LovaszLoss("multiclass", per_image=per_image, ignore_index=VOID)
    assert_same(Lovasz(per_image=per_image)(logits, mask), loss(logits, mask), logits)


def test_lovasz_per_image_leaves_out_images_that_nobody_annotated():
    logits, mask = example()
    both = torch.stack([mask[0], torch.full_like(mask[0], VOID)])
    torch.testing.assert_close(lovasz_softmax(logits, both, per_image=True), lovasz_softmax(logits[:1], mask[:1]))


def test_lovasz_without_background_is_the_mean_of_the_others():
    logits, mask = example()
    whole, others = lovasz_softmax(logits, mask), lovasz_softmax(logits, mask, include_background=False)
    first = logits.softmax(1)[:, :1]
    binary = torch.cat([1 - first, first], 1).log()  # class 1 of two is what class 0 of five was
    truth = torch.where(mask == VOID, VOID, (mask == 0).long())
    background = lovasz_softmax(binary, truth, include_background=False)
    torch.testing.assert_close(whole, (4 * others + background) / 5)


def test_lovasz_is_exact_with_many_pixels():
    """The slopes of a million pixels are about 1e-6; as differences of float32 they would be a tenth off."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 1024, 1024, generator=generator)
    mask = torch.randint(0, 2, (1, 1024, 1024), generator=generator)
    single = logits.clone().requires_grad_()
    double = logits.double().requires_grad_()
    for value in (single, double):
        lovasz_softmax(value, mask).backward()
    torch.testing.assert_close(single.grad, double.grad.float(), rtol=1e-3, atol=1e-12)
