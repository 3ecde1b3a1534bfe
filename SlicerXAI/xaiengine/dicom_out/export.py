"""Exports a result folder: reads its maps and segments, checks that they lie on the series, writes the objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.atomic import written_whole
from ..core.errors import InputError, ResourceError, XAIError
from ..io.formats.dicom_files import is_dicom
from ..io.segmentation_files import read_segmentation
from ..io.volume import Volume
from ..io.volume_files import read_volume
from ..report.result_files import ResultFolder, read_result_folder
from .objects import Maker, map_object, report_object, segmentation_object
from .source_series import SourceSeries, check_same_place, made_source, read_source

FOLDER = "dicom"


def export_result(
    folder: Path | str,
    output: Path | str | None = None,
    *,
    source: Path | str | None = None,
    series_uid: str = "",
    synthetic: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Write a result as DICOM and return the files: segments as SEG, maps as Parametric Map, measurements as SR.

    ``source`` is the series that was explained; by default the one that the job read. For a scan that is no DICOM, a
    new study is made for an unnamed patient, which ``say`` reports.

    Raises:
        InputError: no finished result, nothing to export, or a series with other voxels (with the difference in mm).
        ResourceError: the package highdicom is missing.
    """
    need_highdicom()
    found = read_result_folder(folder)
    if found.result.status != "finished":
        raise InputError(f"The job of {found.folder} did not finish: there is nothing to export.", "Run it again.")
    generated = found.result.task == "explain-counterfactual"
    if generated and not synthetic:
        raise InputError(
            "The result holds generated images; they could be taken for the patient's.",
            "Export them with --synthetic, which marks every object SYNTHETIC, or do not export them.",
        )
    series = _source(found, source, series_uid, say)
    maker = _maker(found, generated)
    segments, maps = _objects(found, series, maker)
    if not segments and not maps:
        raise InputError(f"{found.folder} holds no map and no segment.", "Choose another result.")
    made = [*(item for item, _ in segments), *(item for item, _ in maps)]
    if segments:
        made.append(report_object(segments, maps, series, maker))
    target = Path(output) if output is not None else found.folder / FOLDER
    names = {"SEG": "segments", "SR": "measurements"}
    written = []
    for number, item in enumerate(made, start=1):
        path = target / f"{number:02d}_{names.get(item.Modality, 'map')}.dcm"
        with written_whole(path) as temporary:
            item.save_as(temporary, enforce_file_format=True)
        written.append(path)
    return written


def need_highdicom() -> None:
    """Raises ResourceError with the command that installs the package, where it is missing."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise ResourceError(
            "Writing DICOM needs the package highdicom, which is not installed.",
            'Install it: python -m pip install "slicerxai[dicom]"',
        ) from error


def _source(found: ResultFolder, given: Path | str | None, uid: str, say: Callable[[str], None]) -> SourceSeries:
    if given is not None:
        return read_source(given, uid)
    path = found.scan_path()
    if path is None:
        raise InputError("The scan is not where the job read it.", "Name the series that was explained with --source.")
    if path.is_dir() or is_dicom(path):
        return read_source(path, uid)
    say(
        f"{path.name} is no DICOM: the objects belong to a new study of an unnamed patient. Name the series that it "
        "was made from with --source to have them beside it."
    )
    return made_source(read_volume(path))


def _maker(found: ResultFolder, synthetic: bool) -> Maker:
    provenance = found.result.provenance
    model = provenance.get("model")
    known: dict[str, Any] = model if isinstance(model, dict) else {}
    methods = provenance.get("methods") or (provenance.get("settings") or {}).get("method") or ""
    names = methods if isinstance(methods, str) else ", ".join(map(str, methods))
    return Maker(
        found.result.task, str(known.get("name", "")), str(known.get("digest", "")), names, synthetic=synthetic
    )


def _objects(
    found: ResultFolder, series: SourceSeries, maker: Maker
) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Volume]]]:
    segments, maps = [], []
    for number, item in enumerate(found.result.artifacts, start=1):
        if item.file in found.missing:
            raise InputError(f"The result lacks its file {item.file}.", "Run the job again.")
        path = found.path(item)
        try:
            if item.kind == "segmentation":
                segmentation = read_segmentation(path)
                check_same_place(segmentation.grid, series, item.name)
                made = segmentation_object(segmentation, series, maker, number)
                if made is not None:
                    segments.append((made, segmentation))
            elif item.kind == "volume" and item.display.get("colors"):
                volume = read_volume(path)
                check_same_place(volume.grid, series, item.name)
                volume = Volume(volume.array, volume.grid, item.name, item.units)
                maps.append((map_object(volume, item.name, series, maker, number), volume))
        except XAIError:
            raise
        except (ValueError, TypeError, AttributeError) as error:  # what highdicom finds wrong with a source
            raise InputError(
                f"{item.name} cannot be written as DICOM for this series: {error}.",
                "Check the series with dciodvfy, or export without --source for a new study.",
            ) from error
    return segments, maps
