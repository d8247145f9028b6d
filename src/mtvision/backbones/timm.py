"""Any timm model (Wightman 2019) with feature maps as a backbone, by its bare name.

The only module that knows timm, which is imported when one of its names is first asked for.
"""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mtvision.backbones.base import Backbone
from mtvision.errors import ConfigError
from mtvision.registries import BACKBONES
from mtvision.registry import Catalogue
from mtvision.types import FeatureInfo

_ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True, "strict_img_size": False}
"""What timm's transformers need to take images of any size; an architecture without an option refuses it by name."""
_USUAL_STRIDE: Final = 32

OutputStride: TypeAlias = Literal[8, 16, 32]


class SizeRule(NamedTuple):
    """Which image sizes a network takes: multiples of ``multiple`` (1: any).

    Attributes:
        multiple: in pixels, of height and width.
        pads: whether other sizes are padded with zeros at the bottom and right, and the features cropped; else refused.
        exact: whether only ``multiple`` itself is taken, no further multiple of it.
    """

    multiple: int
    pads: bool = True
    exact: bool = False


class TimmBackbone(Backbone):
    """A timm model as a backbone.

    Features have ``ceil(H / stride)`` rows, in some architectures (convnext, vgg) ``floor``; columns likewise.

    Args:
        name: of the timm model, with or without a tag of its weights (``"resnet18.a1_in1k"``).
        pretrained: whether to load timm's weights.
        drop_path_rate: probability of skipping the last residual block in training, linearly less for earlier ones
            (Huang et al. 2016, arXiv 1603.09382).
        output_stride: of the coarsest features: with 16 or 8 the last stages keep their resolution, by dilated
            convolutions instead of strides (Chen et al. 2017, arXiv 1706.05587), so that several features share the
            stride. ResNet-18 takes 1.7 and 5 times the work then. 32: the architecture as it is.

    Raises:
        ConfigError: if the architecture has no drop path and ``drop_path_rate`` is not 0, if there are no weights for
            ``pretrained``, if it has no feature maps, or if timm cannot dilate it and ``output_stride`` is not 32.

    Example:
        >>> backbone = TimmBackbone("resnet18")
        >>> [info.stride for info in backbone.feature_info]
        [2, 4, 8, 16, 32]
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = False,
        drop_path_rate: float = 0.0,
        output_stride: OutputStride = _USUAL_STRIDE,
    ) -> None:
        super().__init__()
        self.name = name
        self.net = _create(name, pretrained, drop_path_rate, output_stride)
        info: Any = self.net.feature_info
        self.feature_info = tuple(map(FeatureInfo, info.channels(), info.reduction()))
        self.channels_last = _is_channels_last(self.net)
        self.size_rule = _find_size_rule(name, self.net, max(info.reduction()))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map normalized images ``(N, 3, H, W)`` to features, NCHW and finest first.

        Raises:
            ConfigError: if the architecture takes only multiples of a size, and the images have another one.
        """
        features: list[Tensor] = self.net(self._fit(images))
        if self.channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]  # (N, H, W, K) to (N, K, H, W)
        if self.size_rule.multiple == 1:
            return features
        height, width = images.shape[-2:]
        return [
            feature[..., : -(-height // info.stride), : -(-width // info.stride)]
            for feature, info in zip(features, self.feature_info, strict=True)
        ]

    def _fit(self, images: Tensor) -> Tensor:
        multiple, pads, exact = self.size_rule
        if multiple == 1:
            return images
        height, width = images.shape[-2:]
        if pads:
            return F.pad(images, (0, -width % multiple, 0, -height % multiple))
        if height % multiple or width % multiple or (exact and (height, width) != (multiple, multiple)):
            wanted = f"of exactly {multiple} x {multiple}" if exact else f"whose sides are multiples of {multiple}"
            raise ConfigError([f"backbone '{self.name}' takes images {wanted} pixels, got {height} x {width}"])
        return images


def _create(name: str, pretrained: bool, drop_path_rate: float, output_stride: OutputStride) -> nn.Module:
    import timm

    if pretrained and not timm.is_model_pretrained(name):
        raise ConfigError([f"model.pretrained: timm has no weights for backbone '{name}'"])
    options: dict[str, Any] = {"drop_path_rate": drop_path_rate, **_ANY_SIZE}
    if output_stride == _USUAL_STRIDE:
        net = _create_with(name, pretrained, options)
    else:
        net = _create_dilated(name, pretrained, options, output_stride)
    if drop_path_rate > 0 and not any(getattr(module, "drop_prob", 0) for module in net.modules()):
        raise ConfigError([f"model.backbone.drop_path_rate: backbone '{name}' has no drop path; leave the option out"])
    return net


def _create_dilated(name: str, pretrained: bool, options: dict[str, Any], output_stride: OutputStride) -> nn.Module:
    """Create a network of another output stride; timm refuses by an unknown keyword or a bare assertion."""
    sentence = f"model.backbone.output_stride: backbone '{name}' cannot be dilated in timm; leave the option out"
    try:
        net = _create_with(name, pretrained, options, output_stride=output_stride)
    except (AssertionError, TypeError) as error:
        if isinstance(error, TypeError) and "'output_stride'" not in str(error):
            raise
        raise ConfigError([sentence]) from error
    info: Any = net.feature_info
    if max(info.reduction()) != output_stride:
        raise ConfigError([sentence])
    return net


def _create_with(name: str, pretrained: bool, optional: dict[str, Any], **required: Any) -> nn.Module:
    import timm

    while True:
        try:
            net: nn.Module = timm.create_model(name, pretrained=pretrained, features_only=True, **optional, **required)
            return net
        except TypeError as error:
            refused = [option for option in optional if f"'{option}'" in str(error)]
            if not refused:
                raise
            optional = {option: value for option, value in optional.items() if option not in refused}
        except (RuntimeError, NotImplementedError) as error:
            if "features_only" in str(error):
                raise ConfigError([f"backbone '{name}' has no feature maps in timm"]) from error
            raise


def _is_channels_last(net: nn.Module) -> bool:
    output_format = getattr(net, "output_fmt", None)
    return getattr(output_format, "value", output_format) == "NHWC"


def _find_size_rule(name: str, net: nn.Module, stride: int) -> SizeRule:
    """Try on the meta device, without computing anything, which sizes a network takes: timm does not tell."""
    if _takes(net, (2 * stride + 1, 3 * stride + 1), (3 * stride - 2, 4 * stride - 3)):
        return SizeRule(1)
    if _takes(net, (2 * stride, 3 * stride), (5 * stride, 4 * stride)):
        return SizeRule(stride)
    native = _native_size(name)
    exact = not _takes(net, (native, 2 * native))
    return SizeRule(native, pads=False, exact=exact)


def _takes(net: nn.Module, *sizes: tuple[int, int]) -> bool:
    state = {key: value.to("meta") for key, value in (*net.named_parameters(), *net.named_buffers())}
    training = net.training
    net.eval()
    try:
        with torch.no_grad():
            for size in sizes:
                torch.func.functional_call(net, state, torch.empty(1, 3, *size, device="meta"))
    except (AssertionError, RuntimeError, ValueError):  # timm's own ways of refusing a size
        return False
    finally:
        net.train(training)
    return True


def _native_size(name: str) -> int:
    import timm

    return int(timm.get_pretrained_cfg(name).input_size[-1])


def _find(name: str) -> Callable[..., nn.Module] | None:
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture) or (tag and name not in timm.list_pretrained(name)):
        return None

    def factory(
        pretrained: bool,
        *,
        drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        output_stride: OutputStride = _USUAL_STRIDE,
    ) -> nn.Module:
        """Any of timm's models with feature maps (Wightman 2019, PyTorch Image Models).

        Args:
            pretrained: whether to load timm's weights.
            drop_path_rate: probability of skipping the last residual block in training, linearly less for earlier ones
                (Huang et al. 2016, arXiv 1603.09382).
            output_stride: of the coarsest features: 16 or 8 dilate the last stages (Chen et al. 2017, arXiv
                1706.05587), which costs 1.7 and 5 times the work on ResNet-18; 32: the architecture as it is.
        """
        return TimmBackbone(name, pretrained=pretrained, drop_path_rate=drop_path_rate, output_stride=output_stride)

    return factory


def _names() -> Iterable[str]:
    import timm

    names: list[str] = timm.list_models()
    return names


BACKBONES.set_fallback(Catalogue(_find, _names))
