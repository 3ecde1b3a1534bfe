"""The task explain-counterfactual: read, check the domain, invert, walk along the direction, measure, write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ...core.errors import InputError, OptionError
from ...counterfactual.directions.directions import Direction
from ...counterfactual.expected_work import SAMPLES_OF_SPREAD
from ...counterfactual.explained_images import ImageAnswer, image_predictor
from ...counterfactual.generator.inversion import Inversion, invert
from ...counterfactual.generator.latent_sample import draw_sample
from ...counterfactual.generator.realism import DomainScore, check_domain, domain_score
from ...counterfactual.generator_context import Setting
from ...counterfactual.scalar_output import choose_answer
from ...counterfactual.series.paths import CounterfactualPath, GradientPath
from ...counterfactual.series.series import Along, Place, Series, make_series, place_of, smallest_flip
from ...counterfactual.series.slice_replacement import SliceFrame
from ...counterfactual.series.span import counterfactual_end, span_of, spread_shifts, usual_shifts
from ...io.segmentation_files import read_segmentation
from ...io.volume import Volume, check_volume
from ...io.volume_files import read_volume
from ...models.explained_model import ExplainedModel
from ..counterfactual_cost import estimate_counterfactual
from ..find_directions.finding import known_directions, new_directions, weak_points

if TYPE_CHECKING:
    from ..task import Context
    from .options import ExplainCounterfactualOptions

LARGEST_GAP = 0.1
"""Of probabilities."""
LARGEST_GAP_SPREADS = 0.25
"""Of a regression's values, in SDs over the generator's images."""
PREDICTION_TOLERANCE = 0.005
"""To which a wanted probability is reached."""
PLAN = (("Preparing", 0.05), ("Rebuilding the image", 0.5), ("Changing the image", 0.3), ("Writing", 0.15))


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """Everything that was found for one slice. Moved answers unless they are called shown."""

    setting: Setting
    frame: SliceFrame
    image: torch.Tensor
    answer: ImageAnswer
    direction: Direction | None
    path: CounterfactualPath
    domain: DomainScore
    inversion: Inversion
    own: float
    spread: float
    flip: Place | None
    wanted: Place | None
    series: Series
    chosen: float
    """The shift of the counterfactual that is written into the scan."""

    def shown(self, value: float) -> float:
        return float(self.answer.answer.shown(torch.tensor(value)))

    @property
    def gap(self) -> float:
        """Between the shown answers to scan and reconstruction."""
        return abs(self.shown(self.own) - self.shown(float(self.inversion.reconstructed_values[0])))


def read_scan(path: str, setting: Setting, series: str = "") -> Volume:
    """The image or scan to be explained, with the generator's channels.

    Raises:
        InputError: it cannot be read, is in color where the generator is gray (or the other way), or is empty.
    """
    color = setting.space.settings.channels > 1
    scan = read_volume(path, allow_channels=color, series_uid=series)
    if scan.channels != setting.space.settings.channels:
        raise InputError(
            f"{scan.name} has {scan.channels} channels, the generator {setting.name} makes images of "
            f"{setting.space.settings.channels}.",
            "Choose an image of the generator's kind.",
        )
    for channel in scan.channels_first():
        check_volume(scan.with_array(channel), allow_2d=True)
    return scan


def explain(
    setting: Setting, model: ExplainedModel, scan: Volume, options: ExplainCounterfactualOptions, context: Context
) -> Counterfactual:
    """The counterfactual series of one slice of a scan."""
    frame = setting.frame(scan, _slice_index(options.slice, setting, model, scan, options))
    device = setting.space.device
    image = frame.image()[None].to(device)
    predictor = image_predictor(model, frame, torch.cat([image, setting.examples()]))
    for note in predictor.notes:
        context.warn(note)
    domain = domain_score(setting.space, setting.geometry, image, setting.domain, options.domain_limit)
    check_domain(domain, scan.name, setting.name)
    output = predictor.own_output()
    answer = ImageAnswer(predictor, choose_answer(model, output, options.target, options.against, options.decision))
    if options.wanted is not None:
        answer.answer.check_wanted(options.wanted)
    own = float(answer.answer.value(output))
    known = known_directions(setting, model, answer, options, context.seed)
    missing = known is None and options.method != "local"
    estimate_counterfactual(setting, answer, scan.grid.voxel_count, options, context, missing)
    if missing:
        known = new_directions(setting, model, answer, options, context)
    spread = known.values_spread if known else _spread(setting, answer)
    context.progress.plan(PLAN)
    context.progress.stage("Rebuilding the image", options.steps)
    values = torch.tensor([own], device=device)
    inversion = invert(
        setting.space,
        answer,
        setting.geometry,
        image,
        steps=options.steps,
        refine=options.refine,
        values_spread=spread,
        values=values,
        score_latents=setting.score_latents(model, answer.answer, values),
        on_step=context.progress.advance,
    )
    context.progress.stage("Changing the image")
    direction = known.chosen(options.direction) if known else None
    for text in weak_points(direction) if direction else ():
        context.warn(text)
    path = _path(setting, answer, direction, inversion, options)
    values_range = known.values_range if known else None
    return _series(
        setting, frame, image, answer, direction, path, domain, inversion, own, spread, values_range, options
    )


def _series(
    setting: Setting,
    frame: SliceFrame,
    image: torch.Tensor,
    answer: ImageAnswer,
    direction: Direction | None,
    path: CounterfactualPath,
    domain: DomainScore,
    inversion: Inversion,
    own: float,
    spread: float,
    values_range: tuple[float, float] | None,
    options: ExplainCounterfactualOptions,
) -> Counterfactual:
    along = Along(path, answer, options.reach)
    start, turning = along(0.0), answer.answer.turning_point
    usual = usual_shifts(start, direction.slope, values_range) if direction else usual_shifts(start, 0.0, None)
    flip = None if turning is None else smallest_flip(along, turning)
    wanted = None
    if options.wanted is not None:
        searched = float(answer.answer.moved(torch.tensor(options.wanted)))
        guess = None if direction is None or not direction.slope else (searched - start) / direction.slope
        wanted = place_of(along, searched, _tolerance(options.wanted, answer, spread), guess)
        chosen = wanted.shift
        shifts = spread_shifts(options.frames, min(0.0, chosen), max(0.0, chosen))
    else:
        low, high = span_of(options.sides, flip, along, usual)
        chosen = counterfactual_end(flip, along, low, high)
        shifts = spread_shifts(options.frames, low, high)
    series = make_series(path, answer, shifts)
    return Counterfactual(
        setting, frame, image, answer, direction, path, domain, inversion, own, spread, flip, wanted, series, chosen
    )


def largest_gap(found: Counterfactual, option: float | None) -> float:
    """The bound of the gap, in the shown answer's unit."""
    if option is not None:
        return option
    return LARGEST_GAP if found.answer.answer.is_class else LARGEST_GAP_SPREADS * found.spread


def _tolerance(wanted: float, answer: ImageAnswer, spread: float) -> float:
    """On the moved scale: half a percent of probability, or a hundredth SD of a regression's values."""
    if not answer.answer.is_class:
        return 0.01 * spread
    return PREDICTION_TOLERANCE / max(wanted * (1 - wanted), 0.01)


def _path(
    setting: Setting,
    answer: ImageAnswer,
    direction: Direction | None,
    inversion: Inversion,
    options: ExplainCounterfactualOptions,
) -> CounterfactualPath:
    start = inversion.latents[0]
    if direction is not None:
        return direction.path(setting.space, start, inversion.refined_of(0))
    if inversion.refined is not None:
        raise OptionError(
            "The gradient path of one image starts from flat latents, but W+ was refined.", "Set refine to latent."
        )
    leading = setting.moving(options.subspace)
    return GradientPath(setting.space, start, answer, setting.geometry, options.reach, leading)


def _spread(setting: Setting, answer: ImageAnswer) -> float:
    return draw_sample(setting.space, answer, SAMPLES_OF_SPREAD, seed=0).spread


def _slice_index(
    wanted: str, setting: Setting, model: ExplainedModel, scan: Volume, options: ExplainCounterfactualOptions
) -> int | None:
    """The number of the slice that an option names; None for the middle one."""
    if wanted == "middle" or not wanted:
        return None
    if wanted.lstrip("-").isdigit():
        return int(wanted)
    if wanted != "highest":
        raise OptionError(f"The slice {wanted!r} is not known.", "Use a slice number, middle or highest.")
    values = []
    for index in range(scan.grid.shape[setting.frame(scan, None).axis]):
        frame = setting.frame(scan, index)
        predictor = image_predictor(model, frame, frame.image()[None])
        output = predictor.own_output()
        answer = choose_answer(model, output, options.target, options.against, options.decision)
        values.append(float(answer.value(output)))
    return max(range(len(values)), key=values.__getitem__)


def region_mask(path: str, frame: SliceFrame) -> torch.Tensor | None:
    """The given region on the generator's image (I, J) bool."""
    if not path:
        return None
    segmentation = read_segmentation(path)
    mask = frame.mask_image(segmentation.union(), segmentation.grid)
    if not bool(mask.any()):
        raise OptionError(
            f"The region does not touch the {frame.plane} slice {frame.index}.", "Choose another region or slice."
        )
    return mask
