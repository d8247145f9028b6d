"""Colour changes against torchvision's, and what they must leave alone."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from mtvision.data import Shapes
from mtvision.data.augmentation.colours import hue_matrix, jitter, relight, saturation_matrix

NEUTRAL = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}


def picture(index: int = 0) -> np.ndarray:
    # away from 0 and 255, where the order of clipping matters
    return (Shapes("train", num_images=4, image_size=48)[index].image * 0.5 + 60).astype(np.uint8)


def torchvision_says(name: str, image: np.ndarray, factor: float) -> np.ndarray:
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    return getattr(functional, f"adjust_{name}")(tensor, factor).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.2])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_each_change_is_torchvisions(name: str, factor: float):
    own = jitter(picture(), **{**NEUTRAL, name: factor})
    assert np.abs(own.astype(int) - torchvision_says(name, picture(), factor).astype(int)).max() <= 1


@pytest.mark.parametrize("turn", [-0.02, 0.02])
def test_a_small_turn_moves_the_hue_by_about_so_much(turn: float):
    """Hue as OpenCV measures it in HSV, which is not linear: the same turn is more or less at some colours."""
    hues = np.arange(0, 360, 10, dtype=np.float32)
    colours = np.stack([hues, np.full(36, 0.5, np.float32), np.full(36, 0.6, np.float32)], axis=-1)[None]
    image = np.rint(cv2.cvtColor(colours, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)
    turned = cv2.cvtColor(jitter(image, **{**NEUTRAL, "hue": turn}).astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    change = (turned[0, :, 0] - hues + 180) % 360 - 180
    assert (np.sign(change) == np.sign(turn)).all()
    assert np.abs(change / 360).mean() == pytest.approx(0.02, rel=0.1)
    assert np.abs(change / 360).max() < 0.04


def test_neutral_factors_change_nothing():
    assert np.array_equal(jitter(picture(), **NEUTRAL), picture())
    assert np.array_equal(relight(picture()), picture())


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.5, 0.5), st.floats(0, 2))
def test_greys_stay_grey_and_luma_stays(turn: float, factor: float):
    luma = np.array([0.299, 0.587, 0.114])
    for matrix in (hue_matrix(turn), saturation_matrix(factor)):
        np.testing.assert_allclose(matrix @ np.ones(3), np.ones(3), atol=1e-4)
        np.testing.assert_allclose(luma @ matrix, luma, atol=1e-4)


def test_a_full_turn_and_back_is_the_identity():
    np.testing.assert_allclose(hue_matrix(1.0), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(hue_matrix(0.3) @ hue_matrix(-0.3), np.eye(3), atol=1e-9)


def test_relight_is_its_formula():
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    expected = np.clip(np.rint((image / 255) ** 2.0 * 1.2 * 255 - 0.1 * 255), 0, 255)
    assert np.array_equal(relight(image, gamma=2.0, gain=1.2, offset=-0.1), expected.astype(np.uint8))
