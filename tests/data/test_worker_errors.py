"""A bad file is one sentence, also when a worker process met it."""

import pytest

import mtvision as mtv


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_file_is_one_sentence_with_any_number_of_workers(devkit, num_workers):
    (devkit / "JPEGImages" / "b.jpg").write_bytes(b"not an image")
    cfg = mtv.Config(
        training={"batch_size": 1}, data={"dataset_root": devkit, "image_size": 32, "num_workers": num_workers}
    )
    loader = mtv.build_loader(cfg, mtv.build_dataset(cfg, "train"), training=True)
    with pytest.raises(mtv.DataError) as caught:
        list(loader)
    assert str(caught.value).startswith(f"{devkit / 'JPEGImages' / 'b.jpg'}: ")
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)
