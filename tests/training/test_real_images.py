"""Photographs: the 21-class path with difficult objects, crowds and imbalance, end to end."""

import math

from PIL import Image

import mtvision as mtv


def test_the_21_classes_train_evaluate_and_predict_without_a_fault(real_pack, tmp_path):
    root = real_pack("coco_voc20")
    cfg = mtv.Config(
        system={"epochs": 1, "device": "cpu"},
        model={"backbone": "test_resnet", "dropout_rate": 0.1},
        training={"batch_size": 16},
        data={
            "dataset_root": root,
            "image_size": [64, 96],
            "augmentation_level": "heavy",
            "preprocessing": "normalize",
        },
    )
    result = mtv.train(cfg, tmp_path / "run", progress=False)
    assert all(math.isnan(value) or 0 <= value <= 1 for value in result.metrics.values())
    assert len(result.per_class["seg/iou"]) == 21
    assert len(result.per_class["det/ap50"]) == 20
    data = mtv.build_dataset(cfg, "val")
    again = mtv.evaluate(result.model, data, batch_size=16)  # as in training: else sums round differently
    assert again.metrics["seg/miou"] == result.metrics["seg/miou"]
    paths = [root / "JPEGImages" / f"{name}.jpg" for name in data.image_ids[:3]]
    for path, prediction in zip(paths, result.model.predict(paths), strict=True):
        picture = mtv.visualize.draw(Image.open(path), prediction, result.model.classes)
        assert picture.shape[:2] == tuple(prediction["seg"].shape)


def test_one_class_is_not_mistaken_for_a_scalar(real_pack, tmp_path):
    """With a single class its table has one row, and the metrics have no entry of the table's name."""
    cfg = mtv.Config(
        system={"epochs": 1, "device": "cpu"},
        model={"backbone": "test_resnet", "segmentation_head": None},
        training={"batch_size": 16},
        data={"dataset_root": real_pack("coco_person"), "image_size": 32},
    )
    train, val = (mtv.build_dataset(cfg, split)[:32] for split in ("train", "val"))
    trainer = mtv.Trainer(mtv.build_model(cfg, classes=train.classes), cfg, run_dir=tmp_path / "run", progress=False)
    row = trainer.fit(train, val)[0]
    assert set(row["per_class"]["det/ap50"]) == {"person"}
    assert "val/det/ap50" not in row
