"""The methods that explain segmentations: names, kinds and what they need. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...core.errors import OptionError

Family = Literal["gradient", "modified-gradient", "perturbation", "regions", "cam", "layer", "bottleneck"]


@dataclass(frozen=True)
class Method:
    """``signed`` maps tell for and against; ``layered`` ones lie on a layer's grid; ``captum`` names the layer
    methods of :data:`xaiengine.attribution.layer.LAYER_METHODS`."""

    name: str
    title: str
    family: Family
    signed: bool = True
    captum: str = ""

    @property
    def layered(self) -> bool:
        return self.family in ("cam", "layer", "bottleneck")

    @property
    def differentiates(self) -> bool:
        return self.family not in ("perturbation", "regions") and self.name not in ("layer-activation",)


_ALL = (
    Method("saliency", "Gradient", "gradient"),
    Method("input-x-gradient", "Input × gradient", "gradient"),
    Method("integrated-gradients", "Integrated gradients", "gradient"),
    Method("smoothgrad", "SmoothGrad", "gradient"),
    Method("smoothgrad-squared", "SmoothGrad squared", "gradient", signed=False),
    Method("vargrad", "VarGrad", "gradient", signed=False),
    Method("gradient-shap", "GradientShap", "gradient"),
    Method("deeplift", "DeepLift", "modified-gradient"),
    Method("deeplift-shap", "DeepLiftShap", "modified-gradient"),
    Method("guided-backpropagation", "Guided backpropagation", "modified-gradient"),
    Method("deconvolution", "Deconvolution", "modified-gradient"),
    Method("occlusion", "Occlusion", "perturbation"),
    Method("rise", "RISE", "perturbation"),
    Method("feature-ablation", "Feature ablation", "regions"),
    Method("shapley-sampling", "Shapley value sampling", "regions"),
    Method("kernel-shap", "KernelShap", "regions"),
    Method("lime", "LIME", "regions"),
    Method("grad-cam", "Seg-Grad-CAM", "cam", signed=False),
    Method("grad-cam++", "Grad-CAM++", "cam", signed=False),
    Method("hires-cam", "HiResCAM", "cam"),
    Method("layer-cam", "LayerCAM", "cam", signed=False),
    Method("xgrad-cam", "XGrad-CAM", "cam"),
    Method("score-cam", "Score-CAM", "cam", signed=False),
    Method("layer-activation", "Layer activation", "layer", signed=False),
    Method("gradient-x-activation", "Gradient × activation", "layer"),
    Method("layer-conductance", "Layer conductance", "layer", captum="layer_conductance"),
    Method("internal-influence", "Internal influence", "layer", captum="internal_influence"),
    Method("layer-integrated-gradients", "Layer integrated gradients", "layer", captum="layer_integrated_gradients"),
    Method("layer-gradient-shap", "Layer GradientShap", "layer", captum="layer_gradient_shap"),
    Method("layer-deeplift", "Layer DeepLift", "layer", captum="layer_deep_lift"),
    Method("iba", "Information bottleneck", "bottleneck", signed=False),
    Method("inverse-iba", "Inverse information bottleneck", "bottleneck", signed=False),
)
METHODS = {method.name: method for method in _ALL}
MARKED = (
    "smoothgrad-squared",
    "vargrad",
    "rise",
    "feature-ablation",
    "shapley-sampling",
    "lime",
    "layer-cam",
    "guided-backpropagation",
    "deconvolution",
    "layer-activation",
)
"""Methods whose maps of an untrained network resemble the trained one's (rank correlation above 0.2 on planted cues),
or that show edges, or activation, whatever is asked."""
CAUTION = "Its map stays partly the same when the model's weights are random; do not rely on it alone."


def find_methods(names: list[str]) -> list[Method]:
    """The methods of these names, each once. Raises OptionError with near names for one that is not known."""
    import difflib

    found = []
    for name in names:
        key = name.strip().lower().replace("_", "-").replace(" ", "-")
        if key not in METHODS:
            near = difflib.get_close_matches(key, METHODS, 3, 0.4)
            raise OptionError(
                f"There is no method {name!r} for segmentations.",
                f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(METHODS)}.",
            )
        if METHODS[key] not in found:
            found.append(METHODS[key])
    if not found:
        raise OptionError("No method was named.", f"Name one or several of: {', '.join(METHODS)}.")
    return found
