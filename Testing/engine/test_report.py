"""The report: one page that needs nothing else, tells everything in words, and never lets a name act as markup."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import nibabel
import numpy as np
import pytest
from support.results import LESION, OTHER, PEAK, changed, example_result
from support.scans import GRIDS
from xaiengine.__main__ import main
from xaiengine.core.errors import InputError
from xaiengine.core.job import Artifact, ErrorReport
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume
from xaiengine.report.charts import Chart, Curve, chart_svg, nice_ticks
from xaiengine.report.making import LARGEST_PAGE, write_report
from xaiengine.report.model_card import markdown_html, model_card
from xaiengine.report.result_files import read_result_folder
from xaiengine.report.viewer import display_grid, make_scene, read_shown
from xaiengine.report.wording import cell_text, column_text, words_of

VOID = {"meta", "img", "br", "link", "input", "hr"}
SVG_VOID = {"line", "path", "rect", "circle", "polyline"}
HOSTILE = "<script>alert('x')</script> & \"quoted\" </script><b>"


class Page(HTMLParser):
    """Checks that elements close in order; collects texts, sources and elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.words, self.sources, self.elements = [], [], [], []
        self.scripts: list[str] = []
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
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif data.strip() and self.open and self.open[-1] != "style":
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return "\n".join(self.words)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture(scope="module")
def a_result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("result")
    example_result(folder)
    return folder


@pytest.fixture
def folder(a_result, tmp_path):
    return Path(shutil.copytree(a_result, tmp_path / "result"))


def page_of(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_the_answer_comes_first_in_words(folder, capsys):
    assert main(["report", str(folder)]) == 0
    page = page_of(folder / "report.html")
    answer = "2 lesions of 2.7 mL in all, 1.2 % of the lungs."
    assert answer in page.words
    assert page.words.index(answer) < page.words.index("Can this be trusted?") < page.words.index("In numbers")
    assert "Typical reach of the network (root mean square)" in page.words and "33 mm" in page.words
    assert "Receptive rms mm" not in page.text
    assert {"mean (HU)", "20", "left lung", "How this was made", "Seed", "12 s"} <= set(page.words)
    assert "1 of 9 explained slices did not end in a lesion." in page.text
    assert page.count("svg") == 1
    assert page.count("details") == 1  # twenty slices, but not two lesions
    assert "report.html" in capsys.readouterr().err


def test_a_grade_of_covid_is_not_given_to_other_diseases(folder):
    result = read_result_folder(folder).result
    changed(result, folder, values={**result.values, "severity": "CT-1"})
    assert "CT-1" not in page_of(write_report(folder, with_scan=False)).text
    changed(result, folder, values={**result.values, "severity": "COVID-19 CT extent, CT-1 of 0-4"})
    assert page_of(write_report(folder, with_scan=False)).text.count("COVID-19 CT extent, CT-1 of 0-4") == 2


def test_a_page_asks_nothing_of_the_network(folder):
    page = page_of(write_report(folder))
    assert page.sources and all(source.startswith("data:") for source in page.sources)
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "http" not in policy
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.elements}


def scene_of(path: Path) -> dict:
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="scene">(.*?)</script>', text, re.S).group(1))


def nifti(text: str) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


@pytest.mark.parametrize("grid_name", ["axial", "sagittal_stored", "oblique", "anisotropic"])
def test_planes_hold_scan_map_and_segments_where_they_are_in_the_patient(grid_name, tmp_path):
    example_result(tmp_path, grid_name)
    scene = scene_of(write_report(tmp_path))
    heat = nifti(scene["maps"][0]["nifti"])
    values = heat.get_fdata()
    peak = nibabel.affines.apply_affine(heat.affine, np.unravel_index(values.argmax(), values.shape))
    reach = max(GRIDS[grid_name].spacing)
    assert np.abs(peak - LESION.center).max() < reach
    assert np.abs(np.array(scene["start"]) - LESION.center).max() < reach
    assert values.max() == pytest.approx(PEAK, rel=0.2) and heat.get_data_dtype() == np.uint8
    gray = nifti(scene["scan"]["nifti"])
    at = np.rint(nibabel.affines.apply_affine(np.linalg.inv(gray.affine), LESION.center)).astype(int)
    assert gray.get_fdata()[tuple(at)] == pytest.approx(LESION.value, abs=70)
    assert gray.header["intent_code"] == 0
    labels = nifti(scene["segments"]["nifti"])
    assert scene["segments"]["names"] == ["Lesion 1", "Lesion 2"]  # not the lungs, which are hidden
    for number, ball in enumerate((LESION, OTHER), start=1):
        voxels = np.argwhere(labels.get_fdata() == number)
        place = nibabel.affines.apply_affine(labels.affine, voxels.mean(0))
        assert np.abs(place - ball.center).max() < 0.7 * reach + 0.5


def test_rows_of_lesions_lead_to_their_places(folder):
    page = page_of(write_report(folder))
    places = [a["data-ras"] for tag, a in page.elements if "data-ras" in a]
    assert [[float(value) for value in place.split(",")] for place in places] == [
        pytest.approx(LESION.center),
        pytest.approx(OTHER.center),
    ]


def test_without_the_scan_no_voxel_of_it_is_in_the_page(folder):
    with_scan = write_report(folder, folder / "with.html").stat().st_size
    path = write_report(folder, folder / "without.html", with_scan=False)
    page = page_of(path)
    assert "scene" not in {a.get("id") for _, a in page.elements} and "planes" not in {
        a.get("id") for _, a in page.elements
    }
    assert page.count("img") == 1 and path.stat().st_size < with_scan - 2_000_000
    assert not [a for tag, a in page.elements if tag == "button"]


def test_a_scan_that_moved_is_found_beside_the_result_or_said(folder, tmp_path):
    result = read_result_folder(folder).result
    gone = result.provenance | {"job": {"inputs": {"volume": r"D:\scans\scan.nrrd"}}}
    changed(result, folder, provenance=gone)
    assert "planes" in {a.get("id") for _, a in page_of(write_report(folder)).elements}
    (folder / "scan.nrrd").rename(tmp_path / "moved.nrrd")
    page = page_of(write_report(folder))
    assert "planes" not in {a.get("id") for _, a in page.elements} and "no interactive planes" in page.text
    page = page_of(write_report(folder, scan=tmp_path / "moved.nrrd"))
    assert "planes" in {a.get("id") for _, a in page.elements}
    with pytest.raises(InputError, match="does not exist"):
        write_report(folder, scan=tmp_path / "nowhere.nrrd")


def test_where_the_explanation_is_stable_is_said(folder):
    result = read_result_folder(folder).result
    (folder / "regions.csv").write_text(
        "method,segment,part of |map| (%),stable part (%)\n"
        "IBA,aorta,60,91.2\nIBA,liver,30,12\nIBA,spleen,0.4,0\nIBA,lung,9,50\nCAM,heart,99,3\n",
        encoding="utf-8",
    )
    regions = Artifact(kind="table", file="regions.csv", name="regions", role="regions")
    values = {
        **result.values,
        "stable_percent": 64.3,
        "uncertainty_runs": 5,
        "uncertainty_source": "flips of the scan",
    }
    changed(result, folder, artifacts=[*result.artifacts, regions], values=values)
    page = page_of(write_report(folder, with_scan=False))
    assert "64 % of the map is stable over 5 runs (flips of the scan)." in page.text
    assert "The explanation is stable in aorta (91 %); not stable in liver (12 %)." in page.text
    assert "heart" not in next(line for line in page.words if "stable over" in line)


def test_names_and_texts_are_never_markup(folder):
    result = read_result_folder(folder).result
    artifacts = [item.model_copy(update={"name": HOSTILE, "description": HOSTILE}) for item in result.artifacts]
    provenance = result.provenance | {"scan": {"name": HOSTILE}, HOSTILE: HOSTILE}
    provenance["model"] = {"name": HOSTILE, "digest": HOSTILE}
    changed(
        result,
        folder,
        warnings=[HOSTILE],
        values={"lesion_count": 1, HOSTILE: HOSTILE},
        artifacts=artifacts,
        provenance=provenance,
    )
    quoted = HOSTILE.replace('"', '""')
    (folder / "lesions.csv").write_text(f'lesion,"{quoted}"\n"{quoted}",7\n', encoding="utf-8")
    path = write_report(folder)
    page = page_of(path)
    # what the page's own scripts are: for print, the scene, the viewer, and what drives it
    assert page.count("script") == 4 and page.count("b") == 0
    assert page.text.count("alert('x')") > 8
    assert scene_of(path)["maps"][0]["name"] == HOSTILE


def test_a_failed_job_is_told_with_its_remedy(folder):
    result = read_result_folder(folder).result
    error = ErrorReport(kind="input", message="The volume is empty.", remedy="Load another.", details="line 7")
    changed(result, folder, status="failed", error=error, artifacts=[], values={})
    page = page_of(write_report(folder))
    assert {"Load another.", "line 7"} <= set(page.words) and "The volume is empty." in page.text


def test_files_that_are_gone_are_said_and_the_rest_is_told(folder):
    (folder / "attribution.nrrd").unlink()
    (folder / "slices.csv").unlink()
    page = page_of(write_report(folder))
    assert page.text.count("is not in the folder any more") == 2
    assert "left lung" in page.words


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "holds no result"),
        ("{", "cannot be read as JSON"),
        ("[]", "is not a result"),
        ('{"name": "x"}', "is not a result"),
        ('{"status": "finished", "task": "t", "artifacts": [{"kind": "table", "file": "../x.csv", "name": "x", '
         '"role": "x"}]}', "outside its folder"),
    ],
)  # fmt: skip
def test_folders_of_others_are_refused(content, words, tmp_path):
    if content is not None:
        (tmp_path / "result.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_result_of_another_version_is_read(folder):
    path = folder / "result.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["new_field"] = 1
    content["artifacts"][0]["checksum"] = "x"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert "left lung" in page_of(write_report(folder)).words


def test_checks_are_lights_with_what_each_means(folder):
    result = read_result_folder(folder).result
    (folder / "checks.csv").write_text(
        "check,value,threshold,result,meaning\n"
        "insertion-deletion,0.4321,> 0.1,passed,Hiding what is marked lowers the prediction.\n"
        "randomization,0.9,< 0.5,failed,The map changes with the weights.\n",
        encoding="utf-8",
    )
    checks = Artifact(kind="table", file="checks.csv", name="checks", role="checks")
    changed(result, folder, artifacts=[*result.artifacts, checks])
    page = page_of(write_report(folder))
    lights = [a.get("class") for tag, a in page.elements if tag == "li" and a.get("title")]
    assert lights == ["good", "bad", "caution"]
    assert "Hiding what is marked lowers the prediction." in page.words
    assert "passed (0.43, passes > 0.1)" in page.text


def test_large_scans_are_made_coarser_for_the_page_and_it_is_said(tmp_path):
    grid = Grid.from_directions((300, 300, 200), (0.7, 0.7, 1.0))
    boxed = np.array([[0, 0, 0], [299, 299, 199]])
    coarse = display_grid(grid, boxed, 100_000)
    assert coarse.voxel_count <= 100_000
    assert coarse.corners().min(0) == pytest.approx(grid.corners().min(0), abs=max(coarse.spacing))
    assert coarse.corners().max(0) == pytest.approx(grid.corners().max(0), abs=max(coarse.spacing))
    example_result(tmp_path)
    shown = read_shown(read_result_folder(tmp_path), tmp_path / "scan.nrrd")
    assert "resampled" in " ".join(make_scene(shown, 5_000).notes)
    assert "resampled" not in " ".join(make_scene(shown).notes)


def test_a_page_stays_below_its_limit(tmp_path, monkeypatch):
    example_result(tmp_path)
    noise = np.random.default_rng(0).normal(0, 300, (50, 40, 32)).astype(np.int16)
    write_volume(tmp_path / "scan.nrrd", Volume(noise, GRIDS["axial"], "noise", "HU"))
    full = write_report(tmp_path).stat().st_size
    assert full < LARGEST_PAGE
    monkeypatch.setattr("xaiengine.report.making.LARGEST_PAGE", full - 20_000)
    monkeypatch.setattr("xaiengine.report.making.MOST_VOXELS", 64_000)
    assert write_report(tmp_path).stat().st_size < full - 20_000


def test_the_model_card_is_read_from_its_files_and_never_as_markup(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "docs").mkdir()
    metadata = {"intended_use": "Research", "data_source": {"name": HOSTILE}, "network_data_format": {}}
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    (tmp_path / "configs" / "explanation.json").write_text(json.dumps({"notes": ["Three scans."]}), encoding="utf-8")
    (tmp_path / "docs" / "README.md").write_text(f"# Card\n\nTrained on **{HOSTILE}**.\n\n- one\n- two\n", "utf-8")
    card = model_card({"model": {"name": "m", "source": str(tmp_path)}})
    assert ("Intended use", "Research") in card.rows and card.notes == ("Three scans.",)
    assert "<script" not in card.card and "<strong>" in card.card and card.card.count("<li>") == 2
    assert model_card({}) is None and model_card({"model": {"name": "m", "source": ""}}).is_empty
    assert model_card({"model": {"name": "m", "source": str(tmp_path / "gone")}}).is_empty


def test_markdown_of_any_shape_is_well_formed():
    for text in ("", "a ** b ` c", "|a|b|\n|--|--|\n|1|2|\n\ntext", "* x\n  more\n\n# y\nz", "- \n-", "|"):
        Page(f"<div>{markdown_html(text)}</div>")


def test_numbers_of_tables_are_for_people():
    assert cell_text("187348.7", "total (bits)") == "187349" and cell_text("0.0456789") == "0.046"
    assert cell_text("12", "lesion") == "12" and cell_text("-56.0244", "centroid R (mm)") == "-56.0"
    assert cell_text("nan") == "" and cell_text("left lung") == "left lung"
    assert column_text("mean_hu") == "mean (HU)" and column_text("volume (mL)") == "volume (mL)"
    assert words_of("lung_ml", {}).title == "Lung" and words_of("lung_ml", {}).unit == "mL"


@pytest.mark.parametrize("kind", ["line", "scatter", "bar"])
def test_charts_are_well_formed_and_show_every_number(kind):
    chart = Chart("T <&>", [1.0, 2.0, 3.0], [Curve("a", [1, math.nan, 3]), Curve("<b>", [-1, 0, 2])], kind, "x", "y")
    root = ElementTree.fromstring(chart_svg(chart))
    marks = [item for item in root.iter() if item.tag.endswith(("circle", "polyline", "rect"))]
    assert len(marks) == {"line": 4, "scatter": 7, "bar": 7}[kind]  # two of them of the legend
    assert "nothing to show" in chart_svg(Chart("T", [], []))


def test_ticks_are_round_and_cover_the_range():
    for low, high in ((0, 1), (-3.2, 7.9), (0.0012, 0.0019), (5, 5)):
        ticks = nice_ticks(low, high)
        assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 12
