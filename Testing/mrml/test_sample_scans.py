"""Scans that come with the extension are offered by Slicer's Sample Data module and load without network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer
from demo.counterfactual import write_case
from host import sample_data
from SlicerXAILib import SampleScans
from SlicerXAILib.EngineErrors import EngineError
from SlicerXAILib.SampleScans import sampleScans

ROOT = Path(__file__).parents[2]
MOST_BYTES = 2_500_000


@pytest.fixture
def sources(application, scene, monkeypatch):
    """What the Sample Data module is given when the application has started."""
    logic = sample_data.install(monkeypatch)
    module = application.load_scripted_module(ROOT / "SlicerXAI" / "SlicerXAI.py")
    assert logic.sources == {}
    slicer.app.complete_startup()
    yield logic.sources["SlicerXAI"]
    if module._logic is not None:
        module.logic().close()


def named(sources, text):
    return next(source for source in sources if source.button_text == text)


def test_every_scan_is_offered_with_a_name_and_a_picture(sources):
    assert {source.button_text for source in sources} == {"Chest CTA", "CTA of the aorta", "Chest X-ray"}
    for source in sources:
        assert Path(source.thumbnailFileName).read_bytes().startswith(b"\x89PNG")


def test_the_stand_in_refuses_what_slicer_refuses(monkeypatch):
    logic = sample_data.install(monkeypatch)
    with pytest.raises(TypeError, match="len"):
        logic.registerCustomSampleDataSource(category="a", sampleName="b", customDownloader=print)
    with pytest.raises(TypeError, match="sampleDescription"):
        logic.registerCustomSampleDataSource(sampleName="b", sampleDescription="c", uris=[], fileNames=[])
    logic.registerCustomSampleDataSource(sampleName="b", uris=[], fileNames=[], customDownloader=print)


def test_a_scan_loads_where_the_module_asks_for_it(sources):
    source = named(sources, "CTA of the aorta")
    scan, reference = source.customDownloader(source)
    assert scan.GetName() == "CTA of the aorta"
    assert scan.GetImageData().GetDimensions() == (86, 80, 56)
    assert scan.GetSpacing() == pytest.approx((1.5, 1.5, 1.5))
    assert reference.GetSegmentation().GetNumberOfSegments() == 1
    assert scan.GetStorageNode() is None


def test_the_xray_is_the_held_out_one_with_its_planted_consolidation(sources, tmp_path):
    source = named(sources, "Chest X-ray")
    image, planted = source.customDownloader(source)
    case = write_case(tmp_path, 1)
    expected = slicer.util.loadVolume(case["volume"])
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(image), slicer.util.arrayFromVolume(expected))
    region = slicer.util.arrayFromSegmentBinaryLabelmap(planted, planted.GetSegmentation().GetNthSegmentID(0), image)
    truth = slicer.util.loadSegmentation(case["region"])
    wanted = slicer.util.arrayFromSegmentBinaryLabelmap(truth, truth.GetSegmentation().GetNthSegmentID(0), image)
    assert region.any()
    np.testing.assert_array_equal(region, wanted)


def test_a_missing_file_is_named(scene, monkeypatch, tmp_path):
    monkeypatch.setattr(SampleScans, "FOLDER", tmp_path)
    with pytest.raises(EngineError, match="chest_cta.nrrd"):
        sampleScans()[0].load()


def test_the_scans_are_small_and_those_of_the_tests():
    folder = ROOT / "SlicerXAI" / "Resources" / "SampleData"
    assert sum(path.stat().st_size for path in folder.iterdir()) < MOST_BYTES
    for path in (*folder.glob("*cta*.nrrd"),):
        assert path.read_bytes() == (ROOT / "Testing" / "data" / path.name).read_bytes()
    licences = (folder / "README.md").read_text(encoding="utf-8")
    assert "Apache License" in licences and "CC BY-SA 4.0" in licences
    for path in folder.iterdir():
        assert path.suffix == ".md" or path.suffix == ".png" or f"`{path.name}`" in licences
