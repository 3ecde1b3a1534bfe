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
