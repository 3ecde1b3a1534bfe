"""Settings that several methods share; each is declared once. Light to import."""

from __future__ import annotations

from typing import Literal

from ..core.options import option
from .registry import MethodSettings


class PathSettings(MethodSettings):
    """Of integrals along a path from the baseline to the scan."""

    steps: int = option(
        0,
        "Steps",
        "Steps of integrated gradients; 0 takes as many as completeness needs.",
        ge=0,
        le=4096,
        advanced=True,
    )
    max_steps: int = option(
        0,
        "Maximum steps",
        "Steps of integrated gradients at most, where their number is automatic; 0 is 256, and 64 through windows.",
        ge=0,
        le=4096,
        advanced=True,
    )


class SampleSettings(MethodSettings):
    samples: int = option(
        32,
        "Samples",
        "Noisy copies or random baselines of SmoothGrad, VarGrad and GradientShap.",
        ge=2,
        le=4096,
        advanced=True,
    )


class NoiseSettings(SampleSettings):
    noise: float = option(
        0.1, "Noise", "SD of SmoothGrad's noise as a part of the image's range.", gt=0, le=2, advanced=True
    )


class BaselineSettings(MethodSettings):
    shap_baselines: int = option(
        8,
        "Baselines",
        "Baselines of GradientShap and DeepLiftShap: the chosen one, blurred ones.",
        ge=2,
        advanced=True,
    )


class GradientShapSettings(SampleSettings, BaselineSettings):
    """Of GradientShap."""


class LayerSettings(MethodSettings):
    layer_steps: int = option(
        32, "Layer steps", "Steps of conductance, influence and integrated gradients at layers.", ge=2, advanced=True
    )


class LayerSampleSettings(SampleSettings):
    """Of GradientShap at a layer."""


class OcclusionSettings(MethodSettings):
    occlusion_mm: float = option(
        0.0,
        "Block size",
        "Edge of the blocks that occlusion hides; 0 takes an eighth of the image, and 12 mm for segmentations.",
        unit="mm",
        ge=0,
        group="Occlusion",
    )
    occlusion_stride_mm: float = option(
        0.0,
        "Stride",
        "Distance between the blocks of occlusion; 0 takes their size.",
        unit="mm",
        ge=0,
        group="Occlusion",
    )
    coarse_to_fine: float = option(
        0.0,
        "Coarse to fine",
        "Part of the coarser blocks of occlusion that is refined (0.25 is a good one); 0 tries every fine block.",
        ge=0,
        le=1,
        group="Occlusion",
    )


class RegionSettings(MethodSettings):
    regions: int = option(
        64,
        "Number of supervoxels",
        "About as many supervoxels are made for ablation, Shapley values, KernelShap and LIME.",
        ge=2,
        le=5000,
        group="Regions",
    )


class CoalitionSettings(RegionSettings):
    coalitions: int = option(
        256, "Coalitions", "Samples of KernelShap and LIME.", ge=8, le=20000, advanced=True, group="Regions"
    )


class PermutationSettings(RegionSettings):
    permutations: int = option(8, "Permutations", "Orders of Shapley value sampling.", ge=2, advanced=True)


class ReferencePermutationSettings(RegionSettings):
    """Of Shapley values against healthy scans."""

    reference_permutations: int = option(
        16,
        "Permutations",
        "Orders of Shapley values against healthy scans; each pair of them uses the next reference scan.",
        ge=2,
        advanced=True,
        group="Regions",
    )


class ReferenceGradientSettings(MethodSettings):
    """Of expected gradients against healthy scans."""

    reference_steps: int = option(
        8,
        "Steps per reference",
        "Steps of expected gradients from each healthy reference scan to the explained one.",
        ge=1,
        le=512,
        advanced=True,
    )


class MaskSettings(MethodSettings):
    masks: int = option(400, "Masks", "Random masks of RISE.", ge=10, le=20000, advanced=True)


class BottleneckSettingsOptions(MethodSettings):
    schedule: Literal["converged", "full", "reference"] = option(
        "converged",
        "Schedule",
        "Steps of information bottlenecks; converged: until the map first rests (about 30; it may move on), full: "
        "until it has converged (about 100; for reference statistics of healthy scans), reference: the ten published.",
        advanced=True,
    )
    beta: float | None = option(
        None,
        "Beta",
        "Weight of the information term of bottlenecks; 10 if empty (30 for the inverse of a class).",
        gt=0,
        advanced=True,
    )
    regression_loss: Literal["keep", "label", "maximise"] = option(
        "keep", "Regression loss", "What bottlenecks keep of a regression model's value.", advanced=True
    )
    regression_label: float | None = option(
        None, "Regression label", "True value, for the regression loss 'label'.", advanced=True
    )


class GateSettings(BottleneckSettingsOptions):
    gate: Literal["energy", "quantile"] = option(
        "energy", "Gate", "What the deeper layers of the multi-layer map let through.", advanced=True
    )
    gate_part: float = option(
        0.9,
        "Gate part",
        "Share of the bits (energy), or the quantile, that a gate lets through.",
        gt=0,
        lt=1,
        advanced=True,
    )


class RelevanceSettings(MethodSettings):
    """Of layer-wise relevance propagation."""

    composite: Literal["epsilon", "gamma", "plus_flat", "alpha_beta_flat", "gamma_box"] = option(
        "gamma",
        "Rules",
        "Rules of relevance propagation: epsilon for dense layers, for convolutions the named one (plus, alpha_beta), "
        "flat or z-box for the first layer where named.",
        advanced=True,
    )
    lrp_gamma: float = option(
        0.25, "Gamma", "How much more positive weights count in the gamma rule.", ge=0, le=100, advanced=True
    )
    lrp_epsilon: float = option(
        1e-3,
        "Epsilon",
        "Of the epsilon rule, relative to a layer's mean output: larger values drop weak relevance.",
        gt=0,
        le=10,
        advanced=True,
    )
