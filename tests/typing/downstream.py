"""A user's own code as a type checker sees it: mypy --strict and pyright find nothing to say. Nobody runs it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, assert_type

import torch
from torch import Tensor, nn
from typing_extensions import override

import mtvision as mtv

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


@mtv.SEGMENTATION_HEADS.register("mine")
class MyHead(nn.Module):
    def __init__(self, feature_info: Sequence[mtv.FeatureInfo], num_classes: int, *, channels: int = 32) -> None:
        super().__init__()
        self.layer = nn.Conv2d(feature_info[0].channels, num_classes, 1)
        self.channels = channels

    @override
    def forward(self, features: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.layer(features[0])
        return logits


@mtv.BOX_LOSSES.register("mine")
def my_loss(*, weight: float = 1.0) -> "MyLoss":
    return MyLoss(weight)


class MyLoss:
    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, predicted: Tensor, target: Tensor) -> Tensor:
        return self.weight * (predicted - target).abs().sum(-1)


class Brightness(NamedTuple):
    value: Tensor


@mtv.TASKS.register("brightness")
class BrightnessTask(mtv.Task):
    main_metric: ClassVar[str] = "error"

    def __init__(self, feature_info: Sequence[mtv.FeatureInfo], *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.layer = nn.Linear(feature_info[-1].channels, 1)

    @override
    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> Brightness:
        return Brightness(self.layer(features[-1].mean((2, 3))))

    @override
    def loss(self, output: Brightness, target: Tensor) -> dict[str, Tensor]:
        return {"squared": (output.value - target).square().mean() * self.scale}

    @override
    def postprocess(self, output: Brightness, image_sizes: Sequence[tuple[int, int]] | None = None) -> list[float]:
        return [float(value) for value in output.value]

    @override
    def metrics(self) -> "MetricCollection":
        raise NotImplementedError


class MyData(Sequence[mtv.Sample]):
    classes = mtv.Classes(("background", "cat"), ("cat",))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: Any) -> Any:
        raise IndexError(index)


class MyCallback(mtv.Callback):
    @override
    def on_epoch_end(self, trainer: mtv.Trainer, row: Mapping[str, Any]) -> None:
        if row["val/score"] > 0.9:
            trainer.stop("good enough")


def parts_keep_their_types() -> None:
    assert_type(MyHead([mtv.FeatureInfo(8, 4)], 2).channels, int)
    assert_type(my_loss(weight=2.0), MyLoss)
    assert_type(mtv.BACKBONES.names("resnet*"), list[str])
    assert_type(mtv.ACTIVATIONS.build("relu"), nn.Module)


def build_train_evaluate() -> mtv.MultiTaskModel:
    cfg = mtv.Config.load("run.yaml", overrides=["training.lr=0.01"])
    assert_type(cfg.training.lr, float)
    model = mtv.build_model(cfg, classes=MyData.classes)
    assert_type(model, mtv.MultiTaskModel)
    train, val = mtv.build_dataset(cfg, "train"), mtv.build_dataset(cfg, "val")
    assert_type(train[0], mtv.Sample)
    for batch in mtv.build_loader(cfg, train, training=True):
        outputs = model(batch.images)
        losses = model.loss(outputs, batch.targets)
        assert_type(losses, dict[str, dict[str, Tensor]])
        predictions = model.postprocess(outputs)
        assert_type(predictions, list[mtv.Prediction])
    trainer = mtv.Trainer(model, cfg, run_dir=Path("runs/a"), callbacks=[MyCallback()])
    history = trainer.fit(train, val, resume=True)
    assert_type(history.column("val/seg/miou"), list[float])
    assert_type(trainer.evaluate(MyData()), dict[str, float])
    return model


def one_call() -> None:
    result = mtv.train({"model": {"backbone": "resnet18"}}, run_dir="runs/b", callbacks=[MyCallback()])
    assert_type(result, mtv.RunResult)
    assert_type(result.metrics, dict[str, float])
    numbers = mtv.evaluate(result.model, MyData(), protocol=["voc"])
    assert_type(numbers.per_class, dict[str, dict[str, float]])
    numbers.save("numbers")
    compared = mtv.compare({"a": "runs/a", "b": result.model}, MyData())
    assert_type(compared, mtv.RunComparison)
    assert_type(mtv.analyze(result.model, MyData()), mtv.Analysis)
    assert_type(mtv.compare_single_task("run.yaml", seeds=[0, 1]), mtv.SingleTaskComparison)


def predict_and_share() -> None:
    model = mtv.load_model("runs/a", which="last")
    assert_type(model.predict(["a.jpg", torch.zeros(3, 8, 8)], score_threshold=0.5)[0], mtv.Prediction)
    predictor = mtv.Predictor(model, flip=True, scales=(1.0, 1.5))
    assert_type(predictor.predict("photo.jpg"), list[mtv.Prediction])
    mtv.predict_folder(predictor, "photos", "out", overwrite=True)
    assert_type(mtv.tune_thresholds(model, MyData()), mtv.Thresholds)
    assert_type(model.save_pretrained("street", results=mtv.evaluate(model, MyData()), card={"license": "mit"}), Path)
    assert_type(model.push_to_hub("user/street", results=mtv.train("run.yaml"), private=True), str)
    assert_type(mtv.MultiTaskModel.from_pretrained("user/street", revision="v1"), mtv.MultiTaskModel)
    assert_type(mtv.export(model, "model.onnx"), mtv.Exported)


def study() -> None:
    plan = mtv.Study("run.yaml", {"model.activation": ["relu", "gelu"]}, design="one_at_a_time", seeds=[0, 1])
    plan.run("studies/a", workers=2).analyze()
    plan.report()


def errors() -> None:
    try:
        mtv.data.check(MyData())
    except mtv.ConfigError as error:
        assert_type(error.problems, tuple[str, ...])
    except (mtv.DataError, mtv.CheckpointError, mtv.RegistryError, mtv.TrainingError) as error:
        caught: mtv.MtvisionError = error
        raise SystemExit(f"error: {caught}") from None
    assert_type(mtv.visualize.draw("photo.jpg", {}, MyData.classes).ndim, int)


def parts() -> mtv.MultiTaskModel:
    backbone = mtv.BACKBONES.build("resnet18", False)
    return mtv.MultiTaskModel(backbone, {"brightness": BrightnessTask([mtv.FeatureInfo(512, 32)])}, image_size=(64, 64))
