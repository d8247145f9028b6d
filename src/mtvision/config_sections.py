"""The four sections of the config: what can be said in each, and its defaults."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)

from mtvision import registries
from mtvision.config_contradictions import contradictions
from mtvision.config_errors import error_details
from mtvision.config_fields import ImageSize, In, InSum, LenientPath, Scales
from mtvision.errors import ConfigError
from mtvision.registry import Component

Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        defer_build=True,  # when the first config is made, not when mtvision is imported
    )


class SystemConfig(Section):
    """Where and how long a run goes."""

    epochs: Count = Field(default=60, description="passes over the training set")
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, mps, cuda or cuda:N"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        default=42, description="of weights, order, augmentation and dropout"
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="fp16 needs a GPU; box maths stays in float32"
    )
    channels_last: bool | None = Field(
        default=None, description="weights and images in the memory format NHWC; null: on a CUDA device"
    )
    compile: bool = Field(
        default=False, description="compile the network, and what detection losses are made of, with torch.compile"
    )
    sharding: Literal["none", "full"] = Field(
        default="none",
        description="full: of several processes each holds a share of weights, gradients and optimizer state (FSDP2)",
    )
    deterministic: bool = Field(default=False, description="only deterministic algorithms of torch")
    run_dir: LenientPath | None = Field(default=None, description="folder of the run; null: runs/<date and time>")
    checkpoint_steps: Count | None = Field(
        default=None, description="optimizer steps between checkpoints; null: only after each epoch"
    )
    trackers: list[str] | None = Field(
        default=None, description="names of accelerate's trackers; null: tensorboard where it is installed"
    )
    progress: Literal["auto", "quiet", "json"] = Field(
        default="auto", description="auto: a bar on a terminal and a line an epoch; json: a JSON line an epoch"
    )


class NumClasses(Section):
    """Number of classes a task, null: the data set's; ``seg`` counts the background, ``det`` does not."""

    seg: Annotated[int, Field(ge=2, le=255)] | None = None
    det: Count | None = None


class DetectionsConfig(Section):
    """What becomes a detection; null: as the detection head's own recipe says."""

    score_threshold: Share | None = Field(
        default=None, description="what scores below it before suppression is no detection"
    )
    nms: Annotated[Component, In(registries.SUPPRESSIONS)] = Field(
        default=Component("class_wise"), description="which of several detections of one object stay"
    )
    nms_threshold: Share | None = Field(default=None, description="IoU above which a detection suppresses a worse one")
    max_detections: Count = Field(default=100, description="kept at most, by image")
    candidates: Count = Field(default=1000, description="best detections of a level that enter the suppression")


class ModelConfig(Section):
    """The network. Either head may be null: then that task is left out."""

    backbone: Annotated[Component, In(registries.BACKBONES)] = Field(
        default=Component("resnet18"), description="any timm model with feature maps by its name, such as resnet18"
    )
    segmentation_head: Annotated[Component, In(registries.SEGMENTATION_HEADS)] | None = Field(
        default=Component("fcn"), description="of the task seg; null leaves it out"
    )
    detection_head: Annotated[Component, In(registries.DETECTION_HEADS)] | None = Field(
        default=Component("fpn"), description="of the task det; null leaves it out"
    )
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
    detections: DetectionsConfig = Field(default_factory=DetectionsConfig)
    activation: Annotated[Component, In(registries.ACTIVATIONS)] | None = Field(
        default=Component("relu"), description="replaced across backbone and heads; null keeps the backbone's own"
    )
    init_scheme: Annotated[Component, In(registries.INITIALIZERS)] = Field(
        default=Component("xavier"), description="fills the weights that are not pretrained"
    )
    init_backbone: bool | None = Field(default=None, description="null: exactly when the backbone is not pretrained")
    zero_init_residual: bool = Field(default=False, description="start every residual block as the identity")
    norm: Annotated[Component, In(registries.NORMS)] | None = Field(
        default=None, description="takes the place of every batch norm; null keeps them"
    )
    dropout_rate: Fraction = Field(default=0.3, description="in the heads")
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
        details = contradictions(values) if isinstance(values, Mapping) else []
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


class TrainingConfig(Section):
    """The optimization."""

    lr: Positive = Field(default=0.002, description="base learning rate")
    lr_schedule: Annotated[Component, In(registries.SCHEDULES)] = Field(
        default=Component("cosine"), description="how the learning rate changes after the warm-up"
    )
    warmup_epochs: NonNegative = Field(default=1.0, description="linear warm-up from 0, in epochs")
    lr_batch_size_reference: Count | None = Field(
        default=None, description="lr is meant for this many images a step and scales with them; null: lr as it is"
    )
    backbone_lr_factor: Positive = Field(default=1.0, description="learning rate of the backbone, in multiples of lr")
    freeze_backbone_epochs: Annotated[int, Field(ge=0)] = Field(
        default=0, description="epochs at the beginning in which the backbone stays as it is"
    )
    optimizer: Annotated[Component, In(registries.OPTIMIZERS)] = Field(
        default=Component("adamw"), description="of torch, or any of timm's by name"
    )
    batch_size: Count | Literal["auto"] = Field(
        default=32, description="images in a batch, of all processes together; auto: as many as fit a CUDA device"
    )
    accumulate: Count = Field(default=1, description="batches an optimizer step")
    weight_decay: NonNegative = Field(default=0.0, description="of parameters with two dimensions or more")
    decay_norms_and_biases: bool = Field(default=False, description="whether weight_decay acts on those too")
    ema_decay: Fraction | None = Field(
        default=None, description="score and keep an exponential moving average of the weights, with this decay"
    )
    clip_norm: Positive | None = Field(default=10.0, description="largest norm of the gradient; null: no limit")
    loss_weights: dict[str, NonNegative] = Field(default={"seg": 1.0, "det": 1.0}, description="of the tasks")
    seg_loss: Annotated[Component, InSum(registries.SEGMENTATION_LOSSES)] = Field(
        default=Component("cross_entropy"), description="or a list of several with weights, which are added"
    )
    det_loss: Annotated[Component, In(registries.BOX_LOSSES)] = Field(
        default=Component("ciou"), description="of the boxes' coordinates"
    )
    det_class_loss: Annotated[Component, In(registries.CLASSIFICATION_LOSSES)] = Field(
        default=Component("focal"), description="of the boxes' classes"
    )
    det_assigner: Annotated[Component, In(registries.ASSIGNERS)] | None = Field(
        default=None, description="which point learns which object; null: the one that the detection head names"
    )
    auxiliary_weight: NonNegative = Field(default=0.4, description="of each auxiliary head's loss")
    balancer: Annotated[Component, In(registries.BALANCERS)] = Field(
        default=Component("fixed"), description="weighs the tasks beside loss_weights, e.g. uncertainty or pcgrad"
    )
    monitor: str = Field(
        default="score", description="metric that tells the best epoch; score: mean of the tasks' main metrics"
    )
    patience: Count | None = Field(
        default=None, description="stop after so many epochs without a better one; null: never"
    )
    keep_best: Count = Field(default=1, description="checkpoints of the best epochs that are kept")
    max_skipped_steps: Count = Field(
        default=10, description="steps skipped in a row, because the loss was not finite, that end the run"
    )


class DataConfig(Section):
    """The images and what is done to them before the network."""

    dataset: Annotated[Component, In(registries.DATASETS)] = Field(
        default=Component("voc"), description="what reads the folder dataset_root"
    )
    dataset_root: LenientPath = Field(default=Path("./data/VOC2012"), description="folder of the data set")
    exclude: LenientPath | None = Field(
        default=None, description="list of ids of images to leave out, as mtv.data.check writes it"
    )
    on_error: Literal["raise", "skip"] = Field(
        default="raise", description="skip: an image that cannot be read is left out and named, in training replaced"
    )
    image_size: ImageSize = (256, 256)
    multi_scale: Scales | None = Field(
        default=None, description="[smallest, largest]: each batch of training is image_size times a factor from there"
    )
    preprocessing: Annotated[Component, In(registries.PREPROCESSING)] = Field(
        default=Component("standardize"), description="mean and standard deviation that images are normalized with"
    )
    augmentation_level: Annotated[Component, In(registries.AUGMENTATIONS)] = Field(
        default=Component("basic"), description="how the images of training are changed"
    )
    mixes: list[Annotated[Component, In(registries.MIXES)]] = Field(
        default=[], description="several images put together to one: mosaic, mixup, copy_paste"
    )
    calm_epochs: Annotated[int, Field(ge=0)] = Field(
        default=0, description="epochs at the end without mixes, and with basic in place of a stronger augmentation"
    )
    sampler: Annotated[Component, In(registries.SAMPLERS)] = Field(
        default=Component("uniform"), description="which images an epoch of training has"
    )
    cache: bool | LenientPath = Field(
        default=False,
        description="keep decoded and resized training images on disk; a path: the folder to keep them in",
    )
    num_workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        default="auto", description="processes that load images; auto: none for the CPU, the free cores for CUDA"
    )

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
