"""What a segment is, in the coded words that 3D Slicer and DICOM use."""

from __future__ import annotations

from dataclasses import dataclass

from slicerio.segmentation import terminology_entry_from_string, terminology_entry_to_string

SEGMENT_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
REGION_CONTEXT = "Anatomic codes - DICOM master list"


@dataclass(frozen=True)
class Code:
    """A coded term: scheme ("SCT" for SNOMED CT), value and meaning."""

    scheme: str
    value: str
    meaning: str

    def as_list(self) -> list[str]:
        return [self.scheme, self.value, self.meaning]


@dataclass(frozen=True)
class Terminology:
    """Category and type of a segment, the modifier of the type, and the region of the body it lies in."""

    category: Code
    type: Code
    type_modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None
    context: str = SEGMENT_CONTEXT
    region_context: str = REGION_CONTEXT

    def to_slicer(self) -> str:
        """The value of 3D Slicer's ``TerminologyEntry`` tag."""
        optional = {
            "typeModifier": self.type_modifier,
            "anatomicRegion": self.region,
            "anatomicRegionModifier": self.region_modifier,
        }
        entry = {
            "contextName": self.context,
            "category": self.category.as_list(),
            "type": self.type.as_list(),
            "anatomicContextName": self.region_context,
        }
        entry.update({key: code.as_list() for key, code in optional.items() if code is not None})
        return terminology_entry_to_string(entry)

    @classmethod
    def from_slicer(cls, entry: str) -> Terminology | None:
        """Parse a ``TerminologyEntry`` tag; None where it is not one."""
        try:
            fields = terminology_entry_from_string(entry)
            codes = {key: Code(*value) for key, value in fields.items() if isinstance(value, list)}
            return cls(
                codes["category"],
                codes["type"],
                codes.get("typeModifier"),
                codes.get("anatomicRegion"),
                codes.get("anatomicRegionModifier"),
                fields["contextName"],
                fields.get("anatomicContextName", ""),
            )
        except (IndexError, KeyError, TypeError):
            return None


_ANATOMY = Code("SCT", "123037004", "Anatomical Structure")
_ALTERED = Code("SCT", "49755003", "Morphologically Altered Structure")
_TISSUE = Code("SCT", "85756007", "Tissue")
_LUNG = Code("SCT", "39607008", "Lung")
_LEFT = Code("SCT", "7771000", "Left")
_RIGHT = Code("SCT", "24028007", "Right")

TISSUE = Terminology(_TISSUE, _TISSUE)
"""What 3D Slicer gives a segment of which nothing is known."""
LUNG = Terminology(_ANATOMY, _LUNG)
LEFT_LUNG = Terminology(_ANATOMY, _LUNG, _LEFT)
RIGHT_LUNG = Terminology(_ANATOMY, _LUNG, _RIGHT)
TRACHEA = Terminology(_ANATOMY, Code("SCT", "44567001", "Trachea"))
LESION = Terminology(_ALTERED, Code("SCT", "52988006", "Lesion"))
MASS = Terminology(_ALTERED, Code("SCT", "4147007", "Mass"))


def lung_lesion(side: str = "") -> Terminology:
    """A lesion in the lung; ``side`` is "left", "right" or ""."""
    modifier = {"left": _LEFT, "right": _RIGHT}.get(side.lower())
    return Terminology(LESION.category, LESION.type, region=_LUNG, region_modifier=modifier)
