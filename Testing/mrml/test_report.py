"""The report: one page that needs nothing else, tells everything, and never lets a name act as markup."""

from __future__ import annotations

import base64
import json
import math
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
import slicer
from SlicerXAILib.EngineErrors import EngineError
from SlicerXAILib.Report import sectionOfFolder, writeReport
from SlicerXAILib.ReportCharts import Chart, Series, chartSvg, niceTicks
from SlicerXAILib.ReportPage import Section, TableText, pageText
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
        if data.strip() and self.open[-1] not in ("style",):
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


def test_a_result_in_the_scene_is_told_whole(a_scan, folder, tmp_path):
    loaded = loadResult(folder, a_scan, notes=["CT lies under a transform."])
    page = pageOf(writeReport(loaded.attribution, tmp_path / "report.html"))
    for words in (
        "Quantify lesions: CT",
        "CT lies under a transform.",
        "No reference statistics were found.",
        "Lesion volume",
        "8 mL",
        "CT-1",
        "mean hu",
        "-40.5",
        "Lesion 1",
        "Größte Läsion: 7.5 mL",
        "How this was made",
        "xaiengine 0.1.0",
        "For research, not for diagnosis",
    ):
        assert words in page.text
    assert page.sources == ["data:image/png;base64," + base64.b64encode(PNG).decode()]
    assert page.count("svg") == 1 and page.count("rect") == 2


def test_scene_and_folder_tell_the_same(a_scan, folder, tmp_path):
    loaded = loadResult(folder, a_scan)
    fromScene = pageOf(writeReport(loaded.table, tmp_path / "scene.html"))
    fromFolder = pageOf(writeReport(folder, tmp_path / "folder.html"))
    for page in (fromScene, fromFolder):
        assert page.count("img") == 1 and page.count("svg") == 1 and page.count("rect") == 2
        assert {"Lesion volume", "8 mL", "mean hu", "7.5"} <= set(page.words)


def test_several_nodes_of_one_result_are_told_once_and_several_results_one_after_another(a_scan, folder, tmp_path):
    first, second = loadResult(folder, a_scan), loadResult(folder, a_scan)
    page = pageOf(writeReport([first.attribution, first.table, second.lesions, folder], tmp_path / "all.html"))
    assert page.count("section") == 3


def test_a_page_needs_no_other_file_and_no_network(a_scan, folder, tmp_path):
    page = pageOf(writeReport(folder, tmp_path / "report.html"))
    assert all(source.startswith("data:") for source in page.sources)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.elements}


HOSTILE = '<script>alert("x")</script> & "quoted" \'single\''


def test_names_and_texts_are_never_markup(a_scan, folder, tmp_path):
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    for artifact in result["artifacts"]:
        artifact["name"] = artifact["description"] = HOSTILE
    result["warnings"] = [HOSTILE]
    result["values"] = {"severity": HOSTILE, HOSTILE: 1}
    result["provenance"]["model"] = {"name": HOSTILE, HOSTILE: HOSTILE}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (folder / "table.csv").write_text(f'lesion,volume_ml\n"{HOSTILE.replace(chr(34), chr(34) * 2)}",7\n', "utf-8")
    a_scan.SetName(HOSTILE)
    loaded = loadResult(folder, a_scan)
    for given in (folder, loaded.table):
        page = pageOf(writeReport(given, tmp_path / "report.html"))
        assert page.count("script") == 0
        assert page.text.count('<script>alert("x")</script>') > 5


def test_a_failed_job_is_told_with_its_remedy(tmp_path):
    error = {"kind": "input", "message": "The volume is empty.", "remedy": "Load another.", "details": "line 7"}
    result = {"status": "failed", "task": "explain-prediction", "artifacts": [], "error": error}
    (tmp_path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    page = pageOf(writeReport(tmp_path, tmp_path / "report.html"))
    assert {"The volume is empty.", "Load another.", "line 7"} <= set(page.words)


def test_the_verdict_stands_out_and_checks_are_marked():
    section = Section("Evaluate", verdict="The map holds.")
    section.tables = [TableText("Checks", ["check", "result"], [["tiles", "passed"], ["randomization", "failed"]])]
    page = Page(pageText([section], "Evaluate", "today"))
    classes = {attributes.get("class") for _, attributes in page.elements}
    assert {"verdict", "good", "bad"} <= classes


def test_columns_without_a_value_are_left_out():
    table = TableText("Methods", ["method", "total_bits", "sum"], [["iba", "", "2"], ["cam", "", ""]])
    page = Page(pageText([Section("Explain", tables=[table])], "Explain", "today"))
    assert {"method", "sum"} <= set(page.words) and "total bits" not in page.words
    assert page.count("td") == 4


def test_long_tables_are_cut_and_that_is_said():
    table = TableText("Units", ["unit"], [[str(number)] for number in range(1000)])
    page = Page(pageText([Section("Dissect", tables=[table])], "Dissect", "today"))
    assert "The first 200 of 1000 rows." in page.text
    assert page.count("tr") == 201


def test_what_is_no_result_is_refused(a_scan, tmp_path):
    for given, said in ((a_scan, "CT is no result"), (tmp_path, "holds no result"), ([], "nothing to report")):
        with pytest.raises(EngineError, match=said):
            writeReport(given, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(folder, tmp_path):
    with pytest.raises(EngineError, match="cannot be written"):
        writeReport(folder, tmp_path / "nowhere" / "report.html")


def test_a_missing_file_is_named(folder):
    (folder / "table.csv").unlink()
    with pytest.raises(EngineError, match="lacks its file table.csv"):
        sectionOfFolder(folder)


def shapes(chart, tag):
    root = ElementTree.fromstring(chartSvg(chart))
    return [item.attrib for item in root.iter() if item.tag.endswith("}" + tag)]


def test_a_line_rises_where_its_values_rise():
    line = shapes(Chart("c", [0.0, 1.0, 2.0], [Series("s", [0.0, 5.0, 10.0])]), "polyline")[0]
    points = [tuple(map(float, pair.split(","))) for pair in line["points"].split()]
    steps = [(b[0] - a[0], a[1] - b[1]) for a, b in zip(points, points[1:])]
    assert steps[0] == pytest.approx(steps[1], abs=0.11) and min(steps[0]) > 0


def test_bars_stand_on_zero_and_are_as_high_as_their_values():
    bars = shapes(Chart("c", ["a", "b"], [Series("s", [2.0, -4.0])], "bar"), "rect")
    up, down = ({name: float(bar[name]) for name in ("y", "height")} for bar in bars)
    assert down["height"] == pytest.approx(2 * up["height"], abs=0.21)
    assert up["y"] + up["height"] == pytest.approx(down["y"], abs=0.11)


def test_values_that_are_not_numbers_are_left_out():
    chart = Chart("c", [0.0, 1.0, 2.0], [Series("s", [1.0, math.nan, 2.0])])
    assert len(shapes(chart, "polyline")[0]["points"].split()) == 2
    assert "nothing to show" in chartSvg(Chart("c", [0.0], [Series("s", [math.nan])]))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 17), (1e-6, 3e-6), (5, 5), (0, 0), (1e6, 1.2e6)])
def test_ticks_are_round_and_cover_the_range(low, high):
    ticks = niceTicks(low, high)
    steps = {round(b - a, 10) for a, b in zip(ticks, ticks[1:])}
    assert ticks[0] <= low and ticks[-1] >= high and 3 <= len(ticks) <= 12
    assert len({f"{step:.3g}" for step in steps}) == 1
    assert f"{steps.pop():.0e}"[0] in "125"


def test_a_chart_of_the_scene_keeps_its_axes(a_scan, folder, tmp_path):
    loaded = loadResult(folder, a_scan)
    loaded.nodes["plot"].SetYAxisTitle("volume in mL")
    text = writeReport(loaded.plot, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "volume in mL" in text and ">lesion</text>" in text


def test_a_node_that_was_deleted_is_left_out(a_scan, folder, tmp_path):
    loaded = loadResult(folder, a_scan)
    slicer.mrmlScene.RemoveNode(loaded.table)
    page = pageOf(writeReport(loaded.lesions, tmp_path / "report.html"))
    assert "mean hu" not in page.text and "Lesion 1" in page.text
