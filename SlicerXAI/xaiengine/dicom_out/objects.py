"""Makes the objects: Segmentation, Parametric Map (32-bit floats), and a TID 1500 report that points to both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from ..core.version import engine_version
from ..io.grid import Grid
from ..io.segmentation import Segmentation
from ..io.volume import Volume
from .codes import (
    AI_FAMILY,
    MEAN,
    SALIENCY,
    VISUAL_EXPLANATION,
    VOLUME,
    anatomic_region,
    body_region,
    concept,
    property_codes,
    unit_concept,
)
from .source_series import LPS, SourceSeries

MANUFACTURER = "SlicerXAI"


@dataclass(frozen=True)
class Maker:
    """What made a result: names go into the objects' algorithm identification. ``synthetic``: of generated images."""

    task: str
    model: str = ""
    digest: str = ""
    method: str = ""
    synthetic: bool = False

    @property
    def prefix(self) -> str:
        return "SYNTHETIC " if self.synthetic else ""

    def algorithm(self) -> Any:
        from highdicom import AlgorithmIdentificationSequence

        parameters = {"task": self.task, "model": self.model, "model digest": self.digest, "method": self.method}
        return AlgorithmIdentificationSequence(
            name=f"xaiengine {self.task}"[:64],
            family=concept(AI_FAMILY),
            version=engine_version(),
            source=MANUFACTURER,
            parameters={name: value for name, value in parameters.items() if value},
        )

    def equipment(self) -> dict[str, Any]:
        return {
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": (self.model or "xaiengine")[:64],
            "software_versions": engine_version(),
            "device_serial_number": (self.digest or "none")[:64],
        }


def _placed(grid: Grid) -> dict[str, Any]:
    """Where the frames lie: one for each index of the third axis, rows along the second, columns along the first."""
    from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence

    directions = LPS @ grid.directions
    positions = [LPS @ grid.index_to_ras((0, 0, index)) for index in range(grid.shape[2])]
    spacing = [_exact(value) for value in grid.spacing]
    return {
        "pixel_measures": PixelMeasuresSequence((spacing[1], spacing[0]), spacing[2], spacing[2]),
        "plane_orientation": PlaneOrientationSequence("PATIENT", [_exact(v) for v in directions[:, :2].T.ravel()]),
        "plane_positions": [PlanePositionSequence("PATIENT", [_exact(v) for v in place]) for place in positions],
    }


def _exact(value: float) -> float:
    return float(f"{value:.10g}")


def _frames(array: np.ndarray) -> np.ndarray:
    """(I, J, K) as frames (K, rows, columns)."""
    return np.ascontiguousarray(np.transpose(array, (2, 1, 0)))


def segmentation_object(segmentation: Segmentation, source: SourceSeries, maker: Maker, number: int) -> Any:
    """A binary DICOM SEG with a segment for each non-empty one; None where all are empty."""
    from highdicom.color import CIELabColor
    from highdicom.seg import Segmentation as SegmentationObject
    from highdicom.seg import SegmentDescription

    filled = [(item, segmentation.mask(item)) for item in segmentation.segments]
    filled = [(item, mask) for item, mask in filled if mask.any()]
    if not filled:
        return None
    descriptions = []
    for index, (item, _) in enumerate(filled, start=1):
        category, kind = property_codes(item.terminology, item.name)
        descriptions.append(
            SegmentDescription(
                index,
                f"{maker.prefix}{item.name}"[:64],
                category,
                kind,
                "AUTOMATIC",
                maker.algorithm(),
                tracking_uid=generate_uid(),
                tracking_id=item.name[:64] or f"segment {index}",
                anatomic_regions=anatomic_region(item.terminology),
                display_color=CIELabColor.from_rgb(*(int(round(255 * part)) for part in item.color[:3])),
            )
        )
    pixels = np.stack([_frames(mask) for _, mask in filled], axis=-1).astype(np.uint8)
    made = SegmentationObject(
        source.images,
        pixels,
        "BINARY",
        descriptions,
        generate_uid(),
        900 + number,
        generate_uid(),
        1,
        content_label="SEGMENTS",
        content_description=f"{maker.prefix}{segmentation.name}"[:64],
        **maker.equipment(),
        **_placed(segmentation.grid),
    )
    made.SeriesDescription = f"{maker.prefix}{segmentation.name or 'segments'}"[:64]
    made.ContentCreatorName = made.get("ContentCreatorName", "")  # may be empty, must be there
    return made


def map_object(volume: Volume, name: str, source: SourceSeries, maker: Maker, number: int) -> Any:
    """A Parametric Map with the map's values as they are; its quantity is Saliency."""
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping

    values = np.asarray(volume.array, np.float32)
    limits = float(np.nanmin(values)), float(np.nanmax(values))
    width = max(limits[1] - limits[0], 1e-6)
    mapping = RealWorldValueMapping(
        "SALIENCY",
        f"{maker.prefix}{name}"[:64],
        unit_concept(volume.unit),
        limits if limits[1] > limits[0] else (limits[0], limits[0] + 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=concept(SALIENCY),
    )
    made = ParametricMap(
        source.images,
        _frames(values),
        generate_uid(),
        900 + number,
        generate_uid(),
        1,
        contains_recognizable_visual_features=maker.synthetic,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[VOILUTTransformation(_exact(limits[0] + width / 2), _exact(width))],
        content_label="SALIENCY",
        content_description=f"{maker.prefix}{name}"[:64],
        **maker.equipment(),
        **_placed(volume.grid),
    )
    made.SeriesDescription = f"{maker.prefix}{name}"[:64]
    made.ContentCreatorName = made.get("ContentCreatorName", "")  # may be empty, must be there
    # Optional, but readers (dcmqi) rely on it.
    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = [body_region(source.images[0].get("BodyPartExamined", ""))]
    made.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
    _sort_frames(made)
    return made


def _sort_frames(made: Any) -> None:
    """Store the frames of a map in their order along the normal of the planes.

    Any order is allowed; some readers (dcmqi) take the first stored frame for the lowest.
    """
    shared = made.SharedFunctionalGroupsSequence[0]
    across = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    groups = list(made.PerFrameFunctionalGroupsSequence)
    places = [np.array(item.PlanePositionSequence[0].ImagePositionPatient, float) for item in groups]
    order = np.argsort([np.cross(*across) @ place for place in places], kind="stable")
    frames = np.frombuffer(made.FloatPixelData, np.float32).reshape(len(groups), -1)
    made.FloatPixelData = np.ascontiguousarray(frames[order]).tobytes()
    made.PerFrameFunctionalGroupsSequence = [groups[number] for number in order]
    for number, item in enumerate(made.PerFrameFunctionalGroupsSequence, start=1):
        item.FrameContentSequence[0].DimensionIndexValues = [number]


def report_object(
    segments: list[tuple[Any, Segmentation]], maps: list[tuple[Any, Volume]], source: SourceSeries, maker: Maker
) -> Any:
    """A Comprehensive 3D SR by TID 1500: volume and mean saliency of every segment, pointing to SEG and maps."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    observer = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=generate_uid(), name="xaiengine", manufacturer_name=MANUFACTURER, model_name=maker.model or "xaiengine"
        ),
    )
    algorithm = sr.AlgorithmIdentification(f"xaiengine {maker.task}"[:64], engine_version())
    groups = []
    for made, segmentation in segments:
        filled = [item for item in segmentation.segments if segmentation.mask(item).any()]
        for number, item in enumerate(filled, start=1):
            mask = segmentation.mask(item)
            volume_ml = float(mask.sum()) * segmentation.grid.voxel_volume_ml
            measured = [sr.Measurement(concept(VOLUME), volume_ml, unit_concept("mL"), algorithm_id=algorithm)]
            for map_made, volume in maps:
                inside = np.asarray(volume.array)[mask]
                mean = float(np.nanmean(inside)) if np.isfinite(inside).any() else 0.0
                measured.append(
                    sr.Measurement(
                        concept(SALIENCY),
                        mean,
                        unit_concept(volume.unit),
                        derivation=concept(MEAN),
                        algorithm_id=algorithm,
                        referenced_images=[
                            sr.SourceImageForMeasurement(map_made.SOPClassUID, map_made.SOPInstanceUID)
                        ],
                    )
                )
            category, kind = property_codes(item.terminology, item.name)
            groups.append(
                sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                    tracking_identifier=sr.TrackingIdentifier(
                        uid=made.SegmentSequence[number - 1].TrackingUID, identifier=item.name[:64] or str(number)
                    ),
                    referenced_segment=sr.ReferencedSegment(
                        sop_class_uid=made.SOPClassUID,
                        sop_instance_uid=made.SOPInstanceUID,
                        segment_number=number,
                        source_series=sr.SourceSeriesForSegmentation(source.images[0].SeriesInstanceUID),
                    ),
                    finding_category=category,
                    finding_type=kind,
                    measurements=measured,
                    algorithm_id=algorithm,
                )
            )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_person_context=None, observer_device_context=observer),
        procedure_reported=concept(VISUAL_EXPLANATION),
        imaging_measurements=groups,
    )
    evidence = [made for made, _ in segments] + [made for made, _ in maps] + list(source.images)
    report = sr.Comprehensive3DSR(
        evidence,
        content,
        generate_uid(),
        900,
        generate_uid(),
        1,
        manufacturer=MANUFACTURER,
        is_complete=True,
    )
    report.SeriesDescription = f"{maker.prefix}{maker.task} measurements"[:64]
    return report
