"""Writes a counterfactual as artifacts: sequence, difference, changed scan, tables, plot, pictures, verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...core.job import write_text_atomically
from ...core.output import disk_errors
from ...counterfactual.generator.realism import FAR_LATENT, identity
from ...counterfactual.series.difference import blend_mask
from ...counterfactual.series.frame_sequence import write_sequence
from ...counterfactual.series.series_metrics import SeriesFigures, frame_rows, series_figures, shows_flip, verdict
from ...counterfactual.series.span import span_note
from ...figures.animation import write_animation
from ...figures.film_strip import draw_film_strip
from ...io.volume import Volume
from ...io.volume_files import write_volume
from .explaining import Counterfactual, largest_gap

if TYPE_CHECKING:
    from ..task import Context
    from .options import ExplainCounterfactualOptions


def write_counterfactual(
    found: Counterfactual, options: ExplainCounterfactualOptions, context: Context, region: torch.Tensor | None
) -> dict[str, Any]:
    """Write every artifact; the returned values describe the result."""
    answer, series, unit = found.answer.answer, found.series, found.setting.unit
    shown = answer.shown(series.values)
    identities = _identities(found)
    distances = found.setting.geometry.distance(series.latents) / max(found.setting.domain.distance, 1e-6)
    number = int((series.shifts - found.chosen).abs().argmin())
    figures = series_figures(
        series,
        number,
        found.flip,
        _image_at(found, found.flip.shift) if found.flip else None,
        has_decision=answer.decision is not None,
        unit=unit,
        region=region,
        identity=None if identities is None else float(identities[number]),
        latent_distance=float(distances[number]),
    )
    bound = largest_gap(found, options.largest_gap)
    reached = found.wanted is None or found.wanted.reached
    through = options.sides == "both" and found.wanted is None
    note = span_note(series.shifts) if through else ""
    speaks, text = verdict(
        gap=found.gap,
        largest_gap=bound,
        figures=figures,
        wanted=options.wanted,
        reached=reached,
        distance_limit=FAR_LATENT,
        region_is_given=region is not None,
        flip_is_shown=shows_flip(series, answer.turning_point),
        notes=[note] if note else (),
    )
    if not speaks:
        context.warn(text.split(": ")[0] + ".")
    _write_series(found, context, shown)
    changed = _write_changed(found, options, context)
    rows = frame_rows(series, shown, distances, identities, unit)
    context.output.table("frames.csv", list(rows[0]), rows, "frames", "frames")
    _write_plot(found, context)
    values = {
        "explained_target": answer.name,
        "prediction": found.shown(found.own),
        "reconstructed_prediction": found.shown(float(found.inversion.reconstructed_values[0])),
        "gap": found.gap,
        "speaks": "yes" if speaks else "no",
        "flip_shift": figures.flip_shift,
        "flip_change": figures.flip_change,
        "counterfactual_prediction": changed,
        "spearman": figures.spearman,
        "domain_score": found.domain.score,
    }
    _write_figures(found, figures, values, bound, region is not None, context)
    _write_pictures(found, context, shown, values["prediction"])
    with disk_errors(context.output.folder):
        write_text_atomically(context.output.path("verdict.txt"), text + "\n")
    context.output.add("text", "verdict.txt", "verdict", "verdict")
    return {name: value for name, value in values.items() if value is not None}


def _identities(found: Counterfactual) -> torch.Tensor | None:
    if found.setting.space.encoder is None:
        return None
    direction = found.direction
    vector = direction.vector if direction is not None and direction.space == "latent" else None
    series = found.series
    return identity(found.setting.space, found.setting.geometry, series.reconstruction, series.frames, vector)


def _image_at(found: Counterfactual, shift: float) -> torch.Tensor:
    return found.path.images(torch.tensor([shift]))[0]


def _frame_name(found: Counterfactual, shown: float, shift: float) -> str:
    unit = f" {found.answer.answer.unit}" if found.answer.answer.unit else ""
    return f"{shown:.3g}{unit} ({shift:+.2f} SD)"


def _write_series(found: Counterfactual, context: Context, shown: torch.Tensor) -> None:
    series, frame = found.series, found.frame
    volumes = np.stack([frame.on_slice(image.cpu()).mean(0) for image in series.frames])
    names = [_frame_name(found, float(value), float(shift)) for value, shift in zip(shown, series.shifts)]
    write_sequence(context.output.path("series.seq.nrrd"), volumes.astype(np.float32), frame.slice_grid, names)
    low, high = frame.window
    context.output.add(
        "sequence",
        "series.seq.nrrd",
        "SYNTHETIC counterfactuals",
        "series",
        units=frame.scan.unit,
        description=f"Generated images (SYNTHETIC), one per prediction: {found.answer.answer.name}, shift in SDs.",
        display={"window": [low, high]},
    )


def _write_changed(found: Counterfactual, options: ExplainCounterfactualOptions, context: Context) -> float:
    """The difference volume and the changed copy of the scan; returns the shown answer to the changed slice."""
    frame, answer = found.frame, found.answer
    image = _image_at(found, found.chosen).cpu()
    difference = image - found.series.reconstruction.cpu()
    values = frame.on_slice(image)
    if options.detail == "masked":
        mask = frame.mask_on_slice(blend_mask(difference[None])[0])
        own = frame.own_values().astype(np.float32)
        values = own + mask * (values - own)
        changed = float(answer.answer.shown(answer.answer.value(answer.predictor.output_of_slice(values))))
    else:
        changed = float(answer.shown(image[None].to(found.setting.space.device)))
    signed = frame.in_scan(frame.difference_on_slice(difference))
    end = float(np.quantile(np.abs(signed[signed != 0]), 0.995)) if signed.any() else 1.0
    unit = frame.scan.unit
    name = f"SYNTHETIC change to {_frame_name(found, changed, found.chosen)}"
    write_volume(context.output.path("difference.nrrd"), Volume(signed, frame.scan.grid, name, unit))
    context.output.add(
        "volume",
        "difference.nrrd",
        name,
        "difference",
        units=unit,
        description="Changed image minus reconstruction: positive where it became brighter.",
        display={"colors": "diverging", "window": [-end, end], "opacity": 0.6, "background": "counterfactual"},
    )
    copy = frame.replaced(values)
    write_volume(context.output.path("counterfactual.nrrd"), copy)
    low, high = frame.window
    context.output.add(
        "volume",
        "counterfactual.nrrd",
        "SYNTHETIC counterfactual",
        "counterfactual",
        units=unit,
        description=f"SYNTHETIC: a copy of the scan; its {frame.plane} slice {frame.index} is the changed image.",
        display={"window": [low, high]},
    )
    return changed


def _write_plot(found: Counterfactual, context: Context) -> None:
    answer = found.answer.answer
    context.output.add(
        "plot",
        "frames.csv",
        "prediction against shift",
        "plot",
        display={
            "table": "frames",
            "x": "shift (SD)",
            "y": "prediction",
            "type": "line",
            "title": f"{answer.name} against shift",
            "x_title": "shift (SD)",
            "y_title": answer.name + (f" ({answer.unit})" if answer.unit else ""),
        },
    )


def _write_figures(
    found: Counterfactual,
    figures: SeriesFigures,
    values: dict[str, Any],
    bound: float,
    has_region: bool,
    context: Context,
) -> None:
    unit = found.frame.scan.unit or "scan's unit"
    inversion = found.inversion
    away = "the given region" if has_region else "the region that changed"
    lines = [
        ("prediction for the scan", values["prediction"], "", ""),
        ("prediction for the reconstruction", values["reconstructed_prediction"], "", ""),
        ("gap", values["gap"], "", f"at most {bound:.3g} for a valid reconstruction of this scan"),
        ("reconstruction L1", float(inversion.l1[0]) * found.setting.unit, unit, "mean absolute difference"),
        ("reconstruction SSIM", float(inversion.similarity[0]), "", ""),
        ("encoder's L1", float(inversion.encoded_l1[0]) * found.setting.unit, unit, "before the refinement"),
        ("domain score", found.domain.score, "", f"1 is typical, refused above {found.domain.limit:g}"),
        ("Spearman of shift and answer", figures.spearman, "", ""),
        ("flip shift", figures.flip_shift, "SD", "smallest shift that turns the answer over"),
        ("flip change", figures.flip_change, unit, "mean absolute change of the image there"),
        ("SSIM outside", figures.ssim_outside, "", f"counterfactual to reconstruction, outside {away}"),
        ("L1 outside", figures.l1_outside, unit, f"the same, outside {away}"),
        ("off-target share", figures.off_target, "", f"part of the change outside {away}"),
        ("region's part of the image", figures.region_part, "", away),
        ("identity", figures.identity, "", "1: re-encoded latents but for the direction are the same"),
        ("latent distance", figures.latent_distance, "", "of the counterfactual; 1 is typical"),
        ("prediction for the counterfactual", values["counterfactual_prediction"], "", ""),
    ]
    rows = [dict(zip(("figure", "value", "unit", "meaning"), line)) for line in lines]
    context.output.table("figures.csv", ("figure", "value", "unit", "meaning"), rows, "figures", "figures")


def _write_pictures(found: Counterfactual, context: Context, shown: torch.Tensor, own: float) -> None:
    answer = found.answer.answer
    place = "" if min(found.frame.scan.grid.shape) == 1 else f", {found.frame.plane} slice {found.frame.index}"
    draw_film_strip(
        context.output.path("film_strip.png"),
        found.image[0].cpu(),
        found.series,
        shown.cpu(),
        own,
        title=f"{found.frame.scan.name}{place}: {answer.name}",
        answer_name=answer.name,
        decision=answer.decision,
        unit=found.setting.unit,
        unit_name=found.frame.scan.unit,
    )
    context.output.add("image", "film_strip.png", "film strip", "film_strip")
    write_animation(
        context.output.path("animation.gif"), found.series, shown.cpu(), answer.name, decision=answer.decision
    )
    context.output.add("image", "animation.gif", "animation", "animation")
