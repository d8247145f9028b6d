"""Errors keep their sentences on their way between processes."""

import pickle

import pytest

import mtvision as mtv


def test_a_config_error_is_the_same_after_pickling():
    error = mtv.ConfigError(["a.b: wrong", "c: wrong"], source="run.yaml")
    again = pickle.loads(pickle.dumps(error))
    assert (again.problems, str(again)) == (error.problems, str(error))
    assert str(error) == "run.yaml: a.b: wrong\nrun.yaml: c: wrong"


@pytest.mark.parametrize("kind", [mtv.ConfigError, mtv.DataError])
def test_a_workers_traceback_is_left_out(kind):
    name = kind.__name__
    text = f"Caught {name} in worker.\nOriginal Traceback:\n  File x\nmtvision.errors.{name}: the sentence\n"
    assert str(kind(text)) == "the sentence"
    assert str(kind("plain")) == "plain"


def test_a_wrong_augmentation_in_a_worker_is_one_sentence():
    import albumentations as A

    cfg = mtv.Config(
        training={"batch_size": 2},
        data={
            "dataset": {"name": "shapes", "num_images": 4, "image_size": 32},
            "image_size": 32,
            "num_workers": 1,
            "augmentation_level": A.Compose([A.Normalize()]),
        },
    )
    with pytest.raises(mtv.ConfigError) as caught:
        list(mtv.build_loader(cfg, mtv.build_dataset(cfg), training=True))
    assert str(caught.value).startswith("data.augmentation_level: the image must stay uint8")
    assert "\n" not in str(caught.value)
