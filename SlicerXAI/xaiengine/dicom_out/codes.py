"""Coded terms of DICOM for what results are, with the codes of the standard (PS3.16) and UCUM units."""

from __future__ import annotations

from typing import Any

from ..io.terminology import Code, Terminology

SALIENCY = ("130404", "DCM", "Saliency")
VISUAL_EXPLANATION = ("130401", "DCM", "Visual explanation")
AI_FAMILY = ("123110", "DCM", "Artificial Intelligence")
MORPHOLOGY = ("49755003", "SCT", "Morphologically Altered Structure")
LESION = ("52988006", "SCT", "Lesion")
STRUCTURE = ("123037004", "SCT", "Anatomical Structure")
MEAN = ("373098007", "SCT", "Mean")
VOLUME = ("118565006", "SCT", "Volume")

# Of Body Part Examined (DICOM PS3.16, annex L), what is scanned most.
_BODY_PARTS = {
    "CHEST": ("43799004", "SCT", "Thoracic structure"),
    "THORAX": ("43799004", "SCT", "Thoracic structure"),
    "LUNG": ("39607008", "SCT", "Lung"),
    "HEAD": ("69536005", "SCT", "Head"),
    "BRAIN": ("12738006", "SCT", "Brain"),
    "NECK": ("45048000", "SCT", "Neck"),
    "ABDOMEN": ("818983003", "SCT", "Abdomen"),
    "PELVIS": ("816092008", "SCT", "Pelvis"),
    "HEART": ("80891009", "SCT", "Heart"),
    "BREAST": ("76752008", "SCT", "Breast"),
}
_WHOLE_BODY = ("38266002", "SCT", "Entire body")

_UCUM = {
    "bits": ("bit", "bits"),
    "HU": ("[hnsf'U]", "Hounsfield unit"),
    "mL": ("mL", "milliliter"),
    "": ("1", "no units"),
}


def concept(code: tuple[str, str, str]) -> Any:
    """A coded concept of highdicom."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value=code[0], scheme_designator=code[1], meaning=code[2][:64])


def unit_concept(unit: str) -> Any:
    """A UCUM unit; what UCUM has no word for is a number with the unit's name as its meaning."""
    from highdicom.sr import CodedConcept

    if unit in _UCUM:
        value, meaning = _UCUM[unit]
    elif unit.startswith("bits"):
        value, meaning = "bit{per voxel}", "bits per voxel"
    else:
        value, meaning = "1", unit
    return CodedConcept(value=value, scheme_designator="UCUM", meaning=meaning[:64])


def _of(code: Code) -> tuple[str, str, str]:
    return code.value, code.scheme, code.meaning


def property_codes(terminology: Terminology | None, name: str) -> tuple[Any, Any]:
    """Category and type of a segment: its own terminology, a lesion by its name, else an anatomical structure."""
    if terminology is not None:
        return concept(_of(terminology.category)), concept(_of(terminology.type))
    if "lesion" in name.lower():
        return concept(MORPHOLOGY), concept(LESION)
    return concept(STRUCTURE), concept(("91723000", "SCT", "Anatomical structure"))


def anatomic_region(terminology: Terminology | None) -> list[Any] | None:
    if terminology is None or terminology.region is None:
        return None
    return [concept(_of(terminology.region))]


def body_region(body_part: str) -> Any:
    """The coded region of a Body Part Examined; the entire body where it is not given, or another one."""
    return concept(_BODY_PARTS.get(str(body_part).strip().upper(), _WHOLE_BODY))
