"""Directions in a generator's latents along which the explained model's answer changes, and the ways to find them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from ...core.errors import OptionError
from ...core.progress import Progress
from ..series.attributes import active_subspace, attributes, sliced_inverse_regression
from ..series.paths import CounterfactualPath, LatentPath, RefinedPath, StylePath
from .gradient import answer_gradients, averaged_gradient_direction, require_gradients
from .linear import covariance_direction, logistic_direction, ridge_direction
from .style import StyleSpread, channel_effects, style_channels, style_directions
from .weights import most_related, weight_directions

if TYPE_CHECKING:
    from ..explained_images import ImageAnswer
    from ..generator.latent_geometry import LatentGeometry
    from ..generator.latent_sample import LatentSample
    from ..generator.latent_space import LatentSpace

Method = Literal["covariance", "logistic", "ridge", "gradient", "style", "weights"]

METHODS: dict[str, str] = {
    "covariance": "Covariance of latents and prediction",
    "logistic": "Logistic regression",
    "ridge": "Ridge regression",
    "gradient": "Averaged gradient",
    "style": "Style channels (AttFind)",
    "weights": "Style weights (EigenFind)",
}
WEIGHT_CANDIDATES = 32


@dataclass(frozen=True, eq=False)
class Direction:
    """One direction: ``vector`` is a shift of one standard deviation.

    ``space``: latent (D,), or style (K,) with the number of channels of each layer in ``sizes``. ``slope`` is
    the change of the moved answer per SD that the surrogate expects. ``figures`` say how it does on held-out
    latents.
    """

    name: str
    method: str
    space: Literal["latent", "style"]
    vector: torch.Tensor
    slope: float
    intercept: float = 0.0
    sizes: tuple[int, ...] = ()
    leading: int = 0
    figures: dict[str, Any] = field(default_factory=dict)

    def path(self, space: LatentSpace, start: torch.Tensor, refined: tuple | None = None) -> CounterfactualPath:
        """The way of one image's latent (D,) along this direction; ``refined`` is its W+ and code, if it has them."""
        vector = self.vector.to(start)
        if self.space == "style":
            return StylePath(space, start, vector, self.sizes)
        return LatentPath(space, start, vector) if refined is None else RefinedPath(space, start, vector, *refined)

    def with_figures(self, figures: dict[str, Any]) -> Direction:
        return replace(self, figures=figures)


@dataclass(frozen=True)
class FinderSettings:
    """What is searched for: ``count`` directions that move the ``leading`` latents only (0: all), and how hard.

    Where a generator has a spatial code, the code says where a finding lies. A direction that serves all images
    moves the style latents alone: along the code it would add the mean finding in its mean place.
    """

    count: int = 1
    leading: int = 0
    gradients: int = 200
    style_images: int = 4
    channels: int = 5


def resolved(method: str, is_class: bool) -> str:
    """The method that ``auto`` stands for: logistic regression for classes, covariance for values."""
    if method != "auto":
        return method
    return "logistic" if is_class else "covariance"


def find(
    method: str,
    space: LatentSpace,
    answer: ImageAnswer,
    geometry: LatentGeometry,
    sample: LatentSample,
    settings: FinderSettings = FinderSettings(),
    progress: Progress | None = None,
) -> list[Direction]:
    """``settings.count`` directions by one method from a sample of latents and answers, the first the
    strongest.

    Raises:
        OptionError: an unknown method.
        ModelError: the method needs gradients that are not to be had.
    """
    if method not in METHODS:
        raise OptionError(f"The method {method!r} is not known.", f"Use {', '.join(METHODS)}.")
    if method == "style":
        return _by_style(space, answer, sample, settings, progress)
    leading = settings.leading or space.dimension
    part = geometry.moving(leading)
    latents = sample.latents[:, :leading]
    vectors = _latent_vectors(method, space, answer, part, sample, settings, progress)
    centered, values = sample.centered()
    found = []
    for number, vector in enumerate(vectors):
        scores = part.score(vector, part.mean + centered[:, :leading])
        _, slope = surrogate(scores, values)
        intercept = float((sample.values - slope * part.score(vector, latents)).mean())
        if number == 0 and slope < 0:  # an averaged gradient may run against the trend
            vector, slope = -vector, -slope
        whole = torch.zeros(space.dimension, device=vector.device)
        whole[:leading] = vector
        name = _name(method, number)
        found.append(Direction(name, method, "latent", whole, slope, intercept, leading=leading))
    return found


def extra_passes(method: str, space: LatentSpace, settings: FinderSettings = FinderSettings()) -> int:
    """Images that a method asks the model for beside the sample (gradients count twice)."""
    if method == "gradient":
        return 2 * settings.gradients
    if method == "style":
        return 2 * settings.style_images * style_channels(space)
    return 0


def surrogate(scores: torch.Tensor, values: torch.Tensor) -> tuple[float, float]:
    """Intercept and slope of the least-squares line from scores (n,) to answers (n,)."""
    centered = scores - scores.mean()
    slope = float((centered @ (values - values.mean())) / centered.square().sum().clamp_min(1e-12))
    return float(values.mean()) - slope * float(scores.mean()), slope


def _latent_vectors(
    method: str,
    space: LatentSpace,
    answer: ImageAnswer,
    geometry: LatentGeometry,
    sample: LatentSample,
    settings: FinderSettings,
    progress: Progress | None,
) -> torch.Tensor:
    leading, count = geometry.dimension, settings.count
    centered, values = sample.centered()
    centered = centered[:, :leading]
    if method == "weights":
        candidates = weight_directions(space, WEIGHT_CANDIDATES)[:, :leading]
        chosen = most_related(geometry, candidates, geometry.mean + centered, values, len(candidates))
        return attributes(geometry, chosen[0], chosen[1:], count)
    if method == "gradient":
        require_gradients(answer, "The averaged gradient")
        gradients, _ = answer_gradients(space, answer, sample.latents[: settings.gradients], progress)
        gradients = gradients[:, :leading]
        first = averaged_gradient_direction(geometry, gradients)
        further = active_subspace(geometry, gradients, count + 1) if count > 1 else first[:0]
    else:
        if method == "logistic":
            first = logistic_direction(geometry, centered, _upper_side(answer, sample))
        else:
            finder = {"covariance": covariance_direction, "ridge": ridge_direction}[method]
            first = finder(geometry, centered, values)
        further = sliced_inverse_regression(centered, values, count + 1) if count > 1 else first[:0]
    return attributes(geometry, first, further, count)


def _upper_side(answer: ImageAnswer, sample: LatentSample) -> torch.Tensor:
    """Which samples (n,) bool are above the decision; of a pair, which one is higher."""
    if sample.paired:
        return sample.centered()[1] > 0
    turning = answer.answer.turning_point
    above = sample.values > (turning if turning is not None else sample.values.median())
    if bool(above.any()) and not bool(above.all()):
        return above
    return sample.values > sample.values.median()  # all images on one side: the halves are compared


def _by_style(
    space: LatentSpace, answer: ImageAnswer, sample: LatentSample, settings: FinderSettings, progress: Progress | None
) -> list[Direction]:
    styles = StyleSpread.of(space, sample.latents[:500])
    # images on either side of the middle, so that a channel can show what it does both ways
    order = sample.values.argsort()
    chosen = order[torch.linspace(0.1 * len(order), 0.9 * len(order) - 1, settings.style_images).long()]
    effects = channel_effects(space, answer, sample.latents[chosen], styles, progress)
    vectors = style_directions(effects, styles.spread, settings.channels, settings.count)
    rise = (effects[1] - effects[0]) / 4 * (vectors.abs() / styles.spread.clamp_min(1e-12)) * vectors.sign()
    return [
        Direction(_name("style", number), "style", "style", vector, float(change), 0.0, styles.sizes)
        for number, (vector, change) in enumerate(zip(vectors, rise.sum(1)))
    ]


def _name(method: str, number: int) -> str:
    return METHODS[method] if number == 0 else f"{METHODS[method]}, attribute {number + 1}"
