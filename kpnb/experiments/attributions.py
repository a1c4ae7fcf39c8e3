"""Explanations that the entropy is compared with (Table I), through captum.

What a method explains, `about`:
    "layer"    the score of a class, by the feature of a layer: one map per layer;
    "input"    the score of a class, by the input: one map, for all layers;
    "feature"  the feature of a layer as a whole, by the input, as the entropy does: one per layer.

When the feature of a layer is divided by c and the next layer's weights are multiplied by it
(`kpnb.metrics.rescaling`), a method's map is multiplied by a known power of c: a gradient by c,
a feature by 1/c, and gradient times feature by 1, with a factor per channel channel by channel.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import methodcaller

import torch
from captum import attr
from torch import Tensor, nn

from kpnb.errors import KpnbError, require
from kpnb.estimator.features import layer_module, output_at
from kpnb.estimator.units import GridUnits

INPUT = "input"  # in place of a layer, where a method has none
CHUNK = 16  # images in one call of captum; a path's steps are passed through the net as many rows
STEPS = 16  # of the path of integrated gradients and of conductance (captum's 50 take longer)
PATCHES = 8  # a side, of the patches that perturbation covers; ours

Compute = Callable[[nn.Module, Tensor, Tensor, str], Tensor]


@dataclass(frozen=True)
class Method:
    """One explanation: what it is called, its family in Table I, and how it is computed.

    compute: (net, images (n, 3, h, w), targets (n,), layer) -> map (n, rows, columns); signed where
    the method is. about: see the module.
    """

    title: str
    family: str
    about: str
    compute: Compute


def attributions(
    net: nn.Module, images: Tensor, targets: Tensor, methods: Sequence[str], layers: Sequence[str]
) -> dict[str, dict[str, Tensor]]:
    """Maps by method and layer, (n, rows, columns) float32 on the CPU; `net` is left as it was.

    layers: dotted names of modules; a method about the input has its one map under INPUT.
    targets: (n,) classes, whose score before softmax is explained.
    Raises KpnbError for an unknown method or layer, no images, or targets of another number.
    """
    for name in methods:
        require(name in METHODS, f"method {name!r} is unknown; use one of {', '.join(METHODS)}.")
    for layer in layers:
        layer_module(net, layer)
    if len(images) == 0 or targets.shape != images.shape[:1]:
        raise KpnbError(
            f"{len(images)} images have {len(targets)} targets; pass one target per image, and at "
            "least one image."
        )
    # Gradients are needed even where the caller has switched them off for good.
    with torch.inference_mode(False), torch.enable_grad():
        own = _own_copy(net)
        return {
            name: {
                layer: _in_chunks(METHODS[name].compute, own, images, targets, layer)
                for layer in ([INPUT] if METHODS[name].about == "input" else layers)
            }
            for name in methods
        }


def _own_copy(net: nn.Module) -> nn.Module:
    """A copy for captum's hooks: in eval mode, nothing in place, no gradient of parameters."""
    own = copy.deepcopy(net).eval().requires_grad_(False)
    for module in own.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return own


def _in_chunks(
    compute: Compute, net: nn.Module, images: Tensor, targets: Tensor, layer: str
) -> Tensor:
    parts = zip(images.split(CHUNK), targets.split(CHUNK), strict=True)
    with warnings.catch_warnings():
        # captum says at every call that it sets hooks.
        warnings.simplefilter("ignore", UserWarning)
        maps = [compute(net, x.clone().requires_grad_(), t.clone(), layer) for x, t in parts]
    return torch.cat([part.detach().float().cpu() for part in maps])


# About a layer: how channels become one map is part of the method.


def _gradient(net: nn.Module, x: Tensor, targets: Tensor, layer: str) -> Tensor:
    """Mean over channels of |d score / d feature|."""
    kept: list[Tensor] = []
    handle = layer_module(net, layer).register_forward_hook(lambda _, __, out: kept.append(out))
    try:
        score = net(x).gather(1, targets[:, None]).sum()
    finally:
        handle.remove()
    return torch.autograd.grad(score, kept[0])[0].abs().mean(1)


def _activation(net: nn.Module, x: Tensor, targets: Tensor, layer: str) -> Tensor:
    """Mean over channels of the feature: what a class activation map weights and sums."""
    return attr.LayerActivation(net, layer_module(net, layer)).attribute(x).mean(1)


def _captum(attribution: type, joined: Callable[[Tensor], Tensor], **options: object) -> Compute:
    """A method of captum about the score, of a layer or of INPUT; joined: channels to one map."""

    def compute(net: nn.Module, x: Tensor, targets: Tensor, layer: str) -> Tensor:
        explained = attribution(net, *([] if layer == INPUT else [layer_module(net, layer)]))
        steps = {"internal_batch_size": len(x)} if "n_steps" in options else {}
        return joined(explained.attribute(x, target=targets, **options, **steps))

    return compute


def _sizes(found: Tensor) -> Tensor:
    """Mean of absolute values over channels, for what are no contributions."""
    return found.abs().mean(1)


def _occlusion(net: nn.Module, x: Tensor, targets: Tensor, layer: str) -> Tensor:
    """Change of the score when a patch takes the data's mean color, at each of its pixels."""
    return attr.FeatureAblation(net).attribute(x, target=targets, feature_mask=_patches(x))[:, 0]


def _feature_gradient(net: nn.Module, x: Tensor, targets: Tensor, layer: str) -> Tensor:
    """Mean over colors of |d ||f|| / d input|."""

    def norm(inputs: Tensor) -> Tensor:
        return output_at(net, layer, lambda: net(inputs)).flatten(1).norm(dim=1)

    return attr.Saliency(norm).attribute(x).mean(1)


def _feature_occlusion(net: nn.Module, x: Tensor, targets: Tensor, layer: str) -> Tensor:
    """||f(x') - f(x)|| where x' has the data's mean color in one patch, at each of its pixels."""
    with torch.no_grad():
        before = output_at(net, layer, lambda: net(x)).flatten(1)

    def change(inputs: Tensor) -> Tensor:
        after = output_at(net, layer, lambda: net(inputs)).flatten(1)
        return (after - before).norm(dim=1)

    # Ablation gives the value at x, which is zero, minus that at x'.
    return -attr.FeatureAblation(change).attribute(x, feature_mask=_patches(x))[:, 0]


def _patches(x: Tensor) -> Tensor:
    """(1, 1, h, w) the number of each pixel's patch."""
    side = min(PATCHES, *x.shape[2:])
    return GridUnits(side).spread(torch.arange(side**2, device=x.device)[None], x)


GRADIENT, CAM, PERTURBATION = "gradient-based", "class activation", "perturbation-based"
_ADDED = methodcaller("sum", 1)  # contributions to the score
_CAM = _captum(attr.LayerGradCam, _ADDED, relu_attributions=True)  # has one channel
_TIMES = _captum(attr.LayerGradientXActivation, _ADDED)
_CONDUCTANCE = _captum(attr.LayerConductance, _ADDED, n_steps=STEPS)
_PATH = _captum(attr.IntegratedGradients, _ADDED, n_steps=STEPS)
_INPUT_TIMES = _captum(attr.InputXGradient, _ADDED)
_GUIDED = _captum(attr.GuidedBackprop, _sizes)
METHODS = {
    "gradient": Method("gradient", GRADIENT, "layer", _gradient),
    "activation": Method("activation", CAM, "layer", _activation),
    "grad_cam": Method("Grad-CAM", CAM, "layer", _CAM),
    "gradient_x_activation": Method("gradient x activation", GRADIENT, "layer", _TIMES),
    "conductance": Method("conductance", GRADIENT, "layer", _CONDUCTANCE),
    "feature_gradient": Method("gradient of the feature", GRADIENT, "feature", _feature_gradient),
    "feature_occlusion": Method(
        "occlusion of the feature", PERTURBATION, "feature", _feature_occlusion
    ),
    "saliency": Method("saliency", GRADIENT, "input", _captum(attr.Saliency, _sizes)),
    "input_x_gradient": Method("input x gradient", GRADIENT, "input", _INPUT_TIMES),
    "integrated_gradients": Method("integrated gradients", GRADIENT, "input", _PATH),
    "guided_backprop": Method("guided backpropagation", GRADIENT, "input", _GUIDED),
    "occlusion": Method("occlusion", PERTURBATION, "input", _occlusion),
}
