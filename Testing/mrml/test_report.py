"""The report of results in the scene: the engine's page, about nodes as they are now."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import slicer
from host.scan_geometries import IJK_TO_RAS
from SlicerXAILib.EngineErrors import EngineError
from SlicerXAILib.Report import writeReport
from SlicerXAILib.ResultLoader import loadResult

# One white pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg=="
)
VOID = {"meta", "img", "br", "link", "input", "hr"}
SVG_VOID = {"line", "path", "rect", "circle", "polyline"}


class Page(HTMLParser):
    """Checks that elements close in order; collects text, pictures, links and cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.words, self.sources, self.elements = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_startendtag(self, tag, attributes):
        assert tag in SVG_VOID | VOID
        self.elements.append((tag, dict(attributes)))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] not in ("style", "script"):
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return "\n".join(self.words)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture
def folder(result_folder):
    (result_folder / "picture.png").write_bytes(PNG)
    return result_folder


def pageOf(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_a_result_in_the_scene_is_reported_whole(a_scan, folder, tmp_path):
    loaded = loadResult(folder, a_scan, notes=["CT lies under a transform."])
    page = pageOf(writeReport(loaded.attribution, tmp_path / "report.html"))
    for words in (
        "Quantify lesions: CT",
        "CT lies under a transform.",
        "No reference statistics were found.",
        "Lesion volume",
        "8.0 mL",
        "mean (HU)",
        "-40",
        "Größte Läsion: 7.5 mL",
        "How this was made",
        "xaiengine 0.1.0",
        "For research, not for diagnosis",
    ):
        assert words in page.text
    assert "CT-1" not in page.text, "the model asks for no grade"
    assert "data:image/png;base64," + base64.b64encode(PNG).decode() in page.sources
    assert "planes-canvas" in {attributes.get("id") for _, attributes in page.elements}
    assert not [item for item in tmp_path.iterdir() if item.name not in ("report.html", "result")]


def test_the_planes_show_map_and_segments_as_they_are_now(a_scan, folder, tmp_path):
    loaded = loadResult(folder, a_scan)
    loaded.nodes["lesions"].GetSegmentation().GetNthSegment(0).SetName("Corrected")
    voxels = slicer.util.arrayFromVolume(loaded.attribution)
    voxels *= 10
    slicer.util.arrayFromVolumeModified(loaded.attribution)
    text = writeReport(loaded.attribution, tmp_path / "report.html").read_text(encoding="utf-8")
    scene = json.loads(re.search(r'<script type="application/json" id="scene">(.*?)</script>', text, re.S).group(1))
    assert scene["segments"]["names"] == ["Corrected"] and scene["maps"][0]["unit"] == "bits/voxel"
    strongest = np.array(IJK_TO_RAS["oblique"] @ [5, 7, 8, 1.0])[:3]  # where the example is brightest
    assert scene["start"] == pytest.approx(strongest, abs=1e-3)


def test_scene_and_folder_are_reported_alike(a_scan, folder, tmp_path):
    loaded = loadResult(folder, a_scan)
    fromScene = pageOf(writeReport(loaded.table, tmp_path / "scene.html"))
    fromFolder = pageOf(writeReport(folder, tmp_path / "folder.html"))
    for page in (fromScene, fromFolder):
        assert page.count("img") == 1 and page.count("svg") == 1 and page.count("rect") == 2
        assert {"Lesion volume", "8.0 mL", "mean (HU)", "7.5"} <= set(page.words)


def test_several_nodes_of_one_result_are_reported_once_and_several_results_one_after_another(a_scan, folder, tmp_path):
    first, second = loadResult(folder, a_scan), loadResult(folder, a_scan)
    page = pageOf(writeReport([first.attribution, first.table, second.lesions, folder], tmp_path / "all.html"))
    assert page.count("section") == 3


HOSTILE = '<script>alert("x")</script> & "quoted" \'single\''


def test_names_and_texts_are_never_markup(a_scan, folder, tmp_path):
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    for artifact in result["artifacts"]:
        artifact["name"] = artifact["description"] = HOSTILE
    result["warnings"] = [HOSTILE]
    result["values"] = {HOSTILE: 1}
    result["provenance"]["model"] = {"name": HOSTILE, HOSTILE: HOSTILE}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (folder / "table.csv").write_text(f'lesion,volume_ml\n"{HOSTILE.replace(chr(34), chr(34) * 2)}",7\n', "utf-8")
    a_scan.SetName(HOSTILE)
    loaded = loadResult(folder, a_scan)
    for given, scripts in ((folder, 1), (loaded.table, 4)):  # the folder's scan is unknown: no planes
        page = pageOf(writeReport(given, tmp_path / "report.html"))
        assert page.count("script") == scripts
        assert page.text.count('<script>alert("x")</script>') > 5


def test_a_failed_job_is_reported_with_its_remedy(tmp_path):
    error = {"kind": "input", "message": "The volume is empty.", "remedy": "Load another.", "details": "line 7"}
    result = {"status": "failed", "task": "explain-prediction", "artifacts": [], "error": error}
    (tmp_path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    page = pageOf(writeReport(tmp_path, tmp_path / "report.html"))
    assert {"Load another.", "line 7"} <= set(page.words) and "The volume is empty." in page.text


def test_what_is_no_result_is_refused(a_scan, tmp_path):
    for given, said in ((a_scan, "CT is no result"), (tmp_path, "holds no result"), ([], "nothing to report")):
        with pytest.raises(EngineError, match=said):
            writeReport(given, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(EngineError, match="report.html|taken") as error:
        writeReport(folder, tmp_path / "taken" / "report.html")
    assert error.value.remedy


def test_a_chart_of_the_scene_keeps_its_axes(a_scan, folder, tmp_path):
    loaded = loadResult(folder, a_scan)
    loaded.nodes["plot"].SetYAxisTitle("volume in mL")
    text = writeReport(loaded.plot, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "volume in mL" in text and ">lesion</text>" in text


def test_a_node_that_was_deleted_is_left_out(a_scan, folder, tmp_path):
    loaded = loadResult(folder, a_scan)
    slicer.mrmlScene.RemoveNode(loaded.table)
    slicer.mrmlScene.RemoveNode(a_scan)
    page = pageOf(writeReport(loaded.lesions, tmp_path / "report.html"))
    assert "mean (HU)" not in page.text and "no interactive planes" in page.text
