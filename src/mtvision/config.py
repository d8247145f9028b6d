"""The typed config: four sections, every choice a component, every problem reported at once with its dotted path."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from mtvision import registries
from mtvision.config_errors import error_details, problem, problem_sentences
from mtvision.config_fields import ImageSize, In, InSum, LenientPath, parse_yaml, write_yaml
from mtvision.errors import ConfigError
from mtvision.registry import Component

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


class SystemConfig(Section):
    """Where and how long a run goes."""

    epochs: Count = 60
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, mps, cuda or cuda:N"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    deterministic: bool = False
    run_dir: LenientPath | None = None


class NumClasses(Section):
    """Number of classes a task, null: the data set's; ``seg`` counts the background, ``det`` does not."""

    seg: Annotated[int, Field(ge=2, le=255)] | None = None
    det: Count | None = None


class DetectionsConfig(Section):
    """What becomes a detection; null: as the detection head's own recipe says."""

    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    nms: Annotated[Component, In(registries.SUPPRESSIONS)] = Component("class_wise")
    nms_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    max_detections: Count = 100
    candidates: Count = 1000


class ModelConfig(Section):
    """The network. Either head may be null: then that task is left out."""

    backbone: Annotated[Component, In(registries.BACKBONES)] = Component("resnet18")
    segmentation_head: Annotated[Component, In(registries.SEGMENTATION_HEADS)] | None = Component("fcn")
    detection_head: Annotated[Component, In(registries.DETECTION_HEADS)] | None = Component("fpn")
    auxiliary_heads: list[Annotated[Component, In(registries.SEGMENTATION_HEADS)]] = Field(
        default=[], description="further segmentation heads that only add losses (deep supervision)"
    )
    neck: Annotated[Component, In(registries.NECKS)] | None = Field(
        default=None, description="null: the one that the detection head names"
    )
    share_neck: bool = Field(default=False, description="true: the neck stands before all tasks, not only detection")
    tasks: dict[str, Annotated[Component, In(registries.TASKS)]] = Field(
        default={}, description="further tasks by name, beside seg and det"
    )
    detections: DetectionsConfig = DetectionsConfig()
    activation: Annotated[Component, In(registries.ACTIVATIONS)] | None = Component("relu")
    init_scheme: Annotated[Component, In(registries.INITIALIZERS)] = Component("xavier")
    init_backbone: bool | None = Field(default=None, description="null: exactly when the backbone is not pretrained")
    zero_init_residual: bool = Field(default=False, description="start every residual block as the identity")
    norm: Annotated[Component, In(registries.NORMS)] | None = Field(
        default=None, description="takes the place of every batch norm; null keeps them"
    )
    dropout_rate: Fraction = 0.3
    pretrained: bool | LenientPath = Field(
        default=False, description="true: timm's weights; a path: a local file of weights"
    )
    num_classes: NumClasses | None = Field(
        default=None, description="null: those of the data set, VOC's where there is none"
    )

    @model_validator(mode="wrap")
    @classmethod
    def _consistent(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Report contradictions together with all other problems of the section."""
        details = _contradictions(values) if isinstance(values, Mapping) else []
        try:
            section = handler(values)
        except ValidationError as error:
            details = [*error_details(error), *details]
        if details:
            raise ValidationError.from_exception_data("model", details)
        return section

    @property
    def initializes_backbone(self) -> bool:
        """Whether the init scheme acts on the backbone too."""
        return self.init_backbone if self.init_backbone is not None else not self.pretrained


def _contradictions(values: Mapping[str, Any]) -> list[InitErrorDetails]:
    no_segmentation, no_detection = (values.get(f"{kind}_head", "") is None for kind in ("segmentation", "detection"))
    found = []
    if no_segmentation and no_detection and not values.get("tasks"):
        found.append(problem(("segmentation_head",), "null, as detection_head is: at least one head is needed"))
    if no_segmentation and values.get("auxiliary_heads"):
        found.append(problem(("auxiliary_heads",), "belong to the segmentation task, but segmentation_head is null"))
    if no_detection:
        found += _neck_without_detection(values)
    found += [
        problem(("tasks", name), f"'{name}' is made by {key}; choose another name")
        for name, key in (("seg", "segmentation_head"), ("det", "detection_head"))
        if isinstance(values.get("tasks"), Mapping) and name in values["tasks"]
    ]
    if values.get("pretrained", False) is not False:
        found += [
            problem((key,), "true would overwrite the weights that 'pretrained' loads; choose one")
            for key in ("init_backbone", "zero_init_residual")
            if values.get(key) is True
        ]
    return found


def _neck_without_detection(values: Mapping[str, Any]) -> list[InitErrorDetails]:
    shares, neck = values.get("share_neck", False) is True, values.get("neck")
    if shares and neck is None:
        return [problem(("share_neck",), "true, but there is no neck to share: choose one as model.neck")]
    if neck is not None and not shares:
        return [problem(("neck",), "stands before the detection head, which is null; share_neck: true for all tasks")]
    return []


class TrainingConfig(Section):
    """The optimization."""

    lr: Positive = 0.002
    lr_schedule: Annotated[Component, In(registries.SCHEDULES)] = Component("cosine")
    warmup_epochs: NonNegative = Field(default=1.0, description="linear warm-up from 0, in epochs")
    optimizer: Annotated[Component, In(registries.OPTIMIZERS)] = Component("adamw")
    batch_size: Count = 32
    accumulate: Count = Field(default=1, description="batches an optimizer step")
    weight_decay: NonNegative = 0.0
    clip_norm: Positive | None = Field(default=10.0, description="largest norm of the gradient; null: no limit")
    loss_weights: dict[str, NonNegative] = {"seg": 1.0, "det": 1.0}
    seg_loss: Annotated[Component, InSum(registries.SEGMENTATION_LOSSES)] = Component("cross_entropy")
    det_loss: Annotated[Component, In(registries.BOX_LOSSES)] = Component("ciou")
    det_class_loss: Annotated[Component, In(registries.CLASSIFICATION_LOSSES)] = Component("focal")
    det_assigner: Annotated[Component, In(registries.ASSIGNERS)] | None = Field(
        default=None, description="which point learns which object; null: the one that the detection head names"
    )
    auxiliary_weight: NonNegative = Field(default=0.4, description="of each auxiliary head's loss")
    monitor: str = Field(
        default="score", description="metric that tells the best epoch; score: mean of the tasks' main metrics"
    )


class DataConfig(Section):
    """The images and what is done to them before the network."""

    dataset: Annotated[Component, In(registries.DATASETS)] = Component("voc")
    dataset_root: LenientPath = Path("./data/VOC2012")
    image_size: ImageSize = (256, 256)
    preprocessing: Annotated[Component, In(registries.PREPROCESSING)] = Component("standardize")
    augmentation_level: Annotated[Component, In(registries.AUGMENTATIONS)] = Component("basic")
    num_workers: Annotated[int, Field(ge=0)] = 0

    @field_validator("preprocessing", mode="after")
    @classmethod
    def _can_be_built(cls, value: Component) -> Component:
        try:
            registries.PREPROCESSING.build(value)
        except ConfigError as error:
            raise ValueError("; ".join(error.problems)) from None
        return value

    @field_validator("augmentation_level", mode="before")
    @classmethod
    def _accept_compose(cls, value: Any) -> Any:
        if hasattr(value, "to_dict"):  # an albumentations Compose; its description goes into the config, not the object
            return Component("albumentations", {"transform": value.to_dict()})
        return value


class Config(Section):
    """Everything that makes a run; ``Config(**mapping)``, `Config.load` and `as_config` read it.

    Raises:
        ConfigError: with one sentence for each problem: unknown keys, unknown names, wrong options, wrong values.

    Example:
        >>> Config(training={"lr": 0.01}).training.lr
        0.01
    """

    SECTIONS: ClassVar[tuple[str, ...]] = ("system", "model", "training", "data")

    system: SystemConfig = SystemConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    data: DataConfig = DataConfig()

    def __init__(self, /, **sections: Any) -> None:
        try:
            super().__init__(**sections)
        except ValidationError as error:
            raise ConfigError(problem_sentences(error, type(self))) from None

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> "Config":
        """Read a YAML file and apply ``dotted.key=value`` overrides (the value is read as YAML).

        Raises:
            ConfigError: if the file is missing or no mapping, or for any problem of its contents.
        """
        content = parse_yaml(Path(path))
        for override in overrides:
            _apply_override(content, override)
        try:
            return as_config(content)
        except ConfigError as error:
            raise ConfigError(error.problems, source=str(path)) from None

    def dump(self) -> dict[str, Any]:
        """Return plain values, as YAML and JSON have them, from which ``Config(**...)`` makes an equal config."""
        return self.model_dump(mode="json")

    def save(self, path: str | Path) -> None:
        """Write `dump` as YAML."""
        write_yaml(self.dump(), Path(path))

    def replace(self, values: Mapping[str, Any]) -> "Config":
        """Return a config with some values changed, by dotted key.

        Example:
            >>> Config().replace({"training.lr": 0.1}).training.lr
            0.1
        """
        content = self.dump()
        for key, value in values.items():
            _set_dotted(content, key, value)
        return Config(**content)


def as_config(value: "Config | Mapping[str, Any] | str | Path") -> Config:
    """Return a `Config` from a config, a mapping of sections, the ``model`` section alone, or a YAML file.

    Raises:
        ConfigError: if ``value`` is none of these, or for any problem of the contents.
    """
    if isinstance(value, Config):
        return value
    if isinstance(value, str | Path):
        return Config.load(value)
    if not isinstance(value, Mapping):
        raise ConfigError([f"a config is a Config, a mapping or the path of a YAML file, got {type(value).__name__}"])
    sections = {str(key): item for key, item in value.items()}
    if not set(sections) & set(Config.SECTIONS) and set(sections) & set(ModelConfig.model_fields):
        return Config(model=sections)
    return Config(**sections)


def _apply_override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError([f"override '{override}': expected dotted.key=value, e.g. training.lr=0.01"])
    _set_dotted(content, key.strip(), parse_yaml(text))


def _set_dotted(content: dict[str, Any], key: str, value: Any) -> None:
    first, *rest = key.split(".")
    content[first] = _with_value(content.get(first), rest, value)


def _with_value(content: Any, path: Sequence[str], value: Any) -> Any:
    """Return a copy of ``content`` in which ``path`` leads to ``value``; a number in it counts entries of a list."""
    if not path:
        return value
    key, *rest = path
    if isinstance(content, list) and key.isdecimal() and int(key) < len(content):
        return [_with_value(item, rest, value) if place == int(key) else item for place, item in enumerate(content)]
    if isinstance(content, str):  # a bare component name that gets an option
        content = {"name": content}
    inner = dict(content) if isinstance(content, Mapping) else {}
    return {**inner, key: _with_value(inner.get(key), rest, value)}
