import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_inputs import example, hard
from pydantic import ValidationError
from torchvision.ops import sigmoid_focal_loss

from mtvision.errors import ConfigError
from mtvision.losses.segmentation import segmentation_cross_entropy, softmax_focal
from mtvision.registries import SEGMENTATION_LOSSES
from mtvision.registry import Component
from mtvision.types import VOID


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.1, 2.0, 1.0, 0.0, 3.0]])
def test_cross_entropy_equals_torch(weights, smoothing):
    logits, mask = example()
    loss = SEGMENTATION_LOSSES.build(
        Component("cross_entropy", {"class_weights": weights, "label_smoothing": smoothing})
    )
    tensor = None if weights is None else torch.tensor(weights)
    expected = F.cross_entropy(logits, mask, weight=tensor, ignore_index=VOID, label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, mask), expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.5])
@pytest.mark.parametrize("alpha", [0.25, 0.8])
def test_focal_of_two_classes_equals_torchvision_sigmoid_focal(gamma, alpha):
    torch.manual_seed(0)
    z = torch.randn(2, 7, 9, requires_grad=True)
    mask = torch.randint(0, 2, (2, 7, 9))
    loss = SEGMENTATION_LOSSES.build(Component("focal", {"gamma": gamma, "alpha": alpha}))
    ours = loss(torch.stack([torch.zeros_like(z), z], dim=1), mask)  # softmax over (0, z) is sigmoid(z)
    theirs = sigmoid_focal_loss(z, mask.float(), alpha=alpha, gamma=gamma, reduction="mean")
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, z), torch.autograd.grad(theirs, z), rtol=1e-4, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9))
def test_focal_with_gamma_zero_is_cross_entropy(seed, num_classes):
    logits, mask = example(seed, num_classes)
    torch.testing.assert_close(softmax_focal(logits, mask, gamma=0.0), segmentation_cross_entropy(logits, mask))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 5))
def test_focal_is_at_most_cross_entropy_and_falls_with_gamma(seed, gamma):
    logits, mask = example(seed)
    more, less = softmax_focal(logits, mask, gamma=gamma + 0.5), softmax_focal(logits, mask, gamma=gamma)
    assert more < less <= segmentation_cross_entropy(logits, mask) * (1 + 1e-6)


def test_focal_alpha_weighs_each_true_class():
    logits, mask = example()
    alpha = [0.0, 1.0, 2.0, 0.5, 0.25]
    loss = SEGMENTATION_LOSSES.build(Component("focal", {"alpha": alpha}))(logits, mask)
    count = (mask != VOID).sum()
    parts = [
        a * softmax_focal(logits, torch.where(mask == c, mask, VOID)) * (mask == c).sum() / count
        for c, a in enumerate(alpha)
    ]
    torch.testing.assert_close(loss, sum(parts))


CHOICES = [
    Component("cross_entropy"),
    Component("cross_entropy", {"class_weights": [0.0, 1.0, 2.0, 3.0, 4.0], "label_smoothing": 0.2}),
    Component("cross_entropy", {"class_weights": "balanced"}),
    Component("focal"),
    Component("focal", {"gamma": 0.5, "alpha": 0.25}),
    Component("rare_focal", {"gamma": 0.5, "rare_classes": [1, 3]}),
    Component("rare_focal"),
    Component("ohem"),
    Component("ohem", {"threshold": 0.3, "min_kept": 0.5, "class_weights": [0.0, 1.0, 2.0, 3.0, 4.0]}),
    Component("dice"),
    Component("dice", {"smooth": 1.0, "log_loss": True}),
    Component("jaccard", {"include_background": False}),
    Component("tversky", {"alpha": 0.3, "beta": 0.7, "gamma": 0.75}),
    Component("tversky", {"alpha": 0.0, "beta": 2.0, "gamma": 1.5}),
    Component("lovasz"),
    Component("lovasz", {"per_image": True, "include_background": False}),
    Component("boundary"),
    Component("boundary", {"boundary_kernel": 5, "tolerance_kernel": 3, "include_background": False}),
    Component("sum", {"terms": ["cross_entropy", {"name": "lovasz", "weight": 0.5}]}),
]
REGIONS = [choice for choice in CHOICES if choice.name in {"dice", "jaccard", "tversky", "lovasz", "boundary"}]


def test_every_registered_loss_is_tested_here():
    assert {choice.name for choice in CHOICES} == set(SEGMENTATION_LOSSES.names())


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_void_never_counts(choice):
    loss = SEGMENTATION_LOSSES.build(choice)
    logits, mask = example()
    void = mask == VOID
    changed = torch.where(void[:, None], logits.detach() * 7 + 1, logits.detach())
    torch.testing.assert_close(loss(changed, mask), loss(logits, mask))
    (gradient,) = torch.autograd.grad(loss(logits, mask), logits)
    assert not gradient.permute(0, 2, 3, 1)[void].any()
    assert gradient.permute(0, 2, 3, 1)[~void].any()


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_all_void_is_zero_with_a_gradient_path(choice):
    logits, mask = example()
    value = SEGMENTATION_LOSSES.build(choice)(logits, torch.full_like(mask, VOID))
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_saturated_logits_stay_finite(choice):
    logits, mask = example()
    certain = (logits.detach() * 1e4).requires_grad_()
    value = SEGMENTATION_LOSSES.build(choice)(certain, mask)
    value.backward()
    assert value.isfinite()
    assert certain.grad.isfinite().all()
    right = torch.zeros(1, 5, 1, 1).index_fill(1, torch.tensor(2), 1e4).requires_grad_()
    value = SEGMENTATION_LOSSES.build(choice)(right, torch.full((1, 1, 1), 2))
    value.backward()
    assert right.grad.isfinite().all()


@pytest.mark.parametrize("choice", [c for c in CHOICES if "label_smoothing" not in c.options], ids=str)
def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_something(choice):
    loss = SEGMENTATION_LOSSES.build(choice)
    _, mask = example(void=False)
    void = torch.where(torch.rand(mask.shape, generator=torch.Generator().manual_seed(1)) < 0.3, VOID, mask)
    for truth in (mask, void):
        assert loss(hard(mask), truth).item() == pytest.approx(0, abs=2e-5)
        assert loss(hard((mask + 1) % 5), truth) > 0.02


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_one_pixel_and_one_class_are_enough(choice):
    """What the task does when it is built, and a batch with a single class."""
    loss = SEGMENTATION_LOSSES.build(choice)
    for mask in (torch.full((1, 1, 1), VOID), torch.full((2, 3, 3), 2)):
        logits = torch.randn(len(mask), 5, *mask.shape[1:], requires_grad=True)
        value = loss(logits, mask)
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.shape == ()
        assert value.isfinite()
        assert gradient.isfinite().all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 50), st.sampled_from(REGIONS))
def test_losses_of_regions_are_fractions_with_finite_gradients(seed, scale, choice):
    logits, mask = example(seed)
    logits = (logits.detach() * scale).requires_grad_()
    value = SEGMENTATION_LOSSES.build(choice)(logits, mask)
    value.backward()
    assert value >= 0
    assert value <= 1 + 1e-6 or choice.options.get("log_loss")
    assert logits.grad.isfinite().all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([choice for choice in CHOICES if choice.name != "boundary"]))
def test_the_order_of_pixels_does_not_matter(seed, choice):
    logits, mask = example(seed)
    order = torch.randperm(63, generator=torch.Generator().manual_seed(seed))
    shuffled = logits.flatten(2)[..., order].view_as(logits), mask.flatten(1)[:, order].view_as(mask)
    loss = SEGMENTATION_LOSSES.build(choice)
    torch.testing.assert_close(loss(*shuffled), loss(logits, mask))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_compiles_into_one_graph(choice):
    loss = SEGMENTATION_LOSSES.build(choice)
    logits, mask = example()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(logits, mask), loss(logits, mask))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_half_precision_is_raised_to_float32(choice):
    logits, mask = example()
    half = logits.detach().bfloat16()
    loss = SEGMENTATION_LOSSES.build(choice)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(half, mask)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(half.float(), mask))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_gradient_is_right(choice):
    loss = SEGMENTATION_LOSSES.build(choice)
    logits, mask = example(dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: loss(x, mask[:1, :2, :2]), logits.detach()[:1, :, :2, :2].requires_grad_()
    )


def test_only_zero_weight_classes_present_gives_zero():
    logits, mask = example()
    weights = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0])
    assert segmentation_cross_entropy(logits, torch.zeros_like(mask), class_weights=weights).item() == 0


def test_wrong_number_of_weights_is_a_clear_error():
    logits, mask = example()
    with pytest.raises(ConfigError, match=r"training.seg_loss.class_weights: must have one entry a class \(5\), got 2"):
        SEGMENTATION_LOSSES.build(Component("cross_entropy", {"class_weights": [1.0, 2.0]}))(logits, mask)
    with pytest.raises(ConfigError, match=r"training.seg_loss.alpha: must have one entry a class \(5\), got 3"):
        SEGMENTATION_LOSSES.build(Component("focal", {"alpha": [1.0, 2.0, 0.1]}))(logits, mask)


@pytest.mark.parametrize(
    "choice",
    [
        Component("focal", {"gamma": -1.0}),
        Component("focal", {"alpha": 1.5}),
        Component("focal", {"gama": 1.0}),
        Component("cross_entropy", {"label_smoothing": 2.0}),
        Component("cross_entropy", {"class_weights": [-1.0]}),
        Component("cross_entropy", {"class_weights": "median"}),
        Component("ohem", {"min_kept": 0.0}),
        Component("ohem", {"threshold": 1.1}),
        Component("tversky", {"gamma": 0.0}),
        Component("dice", {"smooth": -1.0}),
        Component("boundary", {"boundary_kernel": 4}),
        Component("boundary", {"tolerance_kernel": 1}),
        Component("rare_focal", {"rare_classes": [255]}),
        Component("rare_focal", {"rare_classes": "rare"}),
    ],
    ids=str,
)
def test_wrong_options_are_refused(choice):
    with pytest.raises(ValidationError):
        SEGMENTATION_LOSSES.build(choice)


def test_no_state_of_the_loss_is_stored():
    assert not SEGMENTATION_LOSSES.build(Component("cross_entropy", {"class_weights": [1.0, 2.0]})).state_dict()
