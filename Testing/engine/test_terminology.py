"""Coded words for segments, in the form that 3D Slicer keeps in its files."""

from __future__ import annotations

from xaiengine.io.terminology import Code, Terminology, lung_lesion


def test_terminology_comes_back_as_it_was():
    term = Terminology(
        Code("SCT", "49755003", "Morphologically Altered Structure"),
        Code("SCT", "4147007", "Mass"),
        region=Code("SCT", "39607008", "Lung"),
        region_modifier=Code("SCT", "7771000", "Left"),
    )
    entry = term.to_slicer()
    assert entry == (
        "Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^49755003^Morphologically Altered Structure~SCT^4147007^Mass~^^"
        "~Anatomic codes - DICOM master list~SCT^39607008^Lung~SCT^7771000^Left"
    )
    assert Terminology.from_slicer(entry) == term
    assert Terminology.from_slicer("not a terminology") is None


def test_a_lesion_lies_in_the_lung_of_its_side():
    assert lung_lesion("left").region_modifier.meaning == "Left"
    assert lung_lesion("right").region_modifier.meaning == "Right"
    assert lung_lesion().region_modifier is None
    assert lung_lesion().region.value == "39607008"
