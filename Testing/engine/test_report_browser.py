"""The report in a real browser: it loads, its planes react, nothing leaves the page and nothing is complained of."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from PIL import Image
from support.browser import find_browser, open_browser
from support.results import LESION, OTHER, example_result
from xaiengine.report.making import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine (Debian: apt install chromium)"),
]
READY = "document.getElementById('planes').dataset.ready"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    example_result(folder)
    write_report(folder)
    moved = folder / "a report.html"  # a file like any other, away from its result
    shutil.move(folder / "report.html", moved)
    with open_browser() as browser:
        browser.open(moved)
        browser.wait_for(READY)
        yield browser


def pixels(page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.picture("#planes-canvas"))).convert("RGB")).astype(int)


def warm(image: np.ndarray) -> int:
    """Pixels of the map's hot colors, which neither scan, crosshair nor outlines have."""
    return int(np.count_nonzero((image[..., 0] - image[..., 2] > 70) & (image[..., 0] > 130)))


def set_slider(page, name: str, value: float) -> None:
    page.run(
        f"(() => {{ const e = document.getElementById('{name}'); e.value = {value};"
        "e.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_planes_show_scan_and_map(page):
    image = pixels(page)
    assert warm(image) > 200
    assert len(np.unique(image[..., 1])) > 50
    where = page.run("document.getElementById('planes-where').textContent")
    assert where.startswith("L 2") and "bits/voxel" in where and "Lesion 1" in where


def test_sliders_change_what_is_seen(page):
    full = warm(pixels(page))
    maximum = float(page.run("document.getElementById('threshold').max"))
    set_slider(page, "threshold", 0.9 * maximum)
    assert warm(pixels(page)) < 0.5 * full
    set_slider(page, "threshold", 8)
    assert warm(pixels(page)) == pytest.approx(full, rel=0.1)
    set_slider(page, "opacity", 0)
    assert warm(pixels(page)) < 0.1 * full
    set_slider(page, "opacity", 0.6)


def test_a_click_on_a_row_moves_the_crosshair_there(page):
    before = pixels(page)
    page.click(f'[data-ras^="{OTHER.center[0]:.4f}"]')
    place = page.run("document.getElementById('planes').dataset.at").split(",")
    assert [float(value) for value in place] == pytest.approx(OTHER.center)
    where = page.run("document.getElementById('planes-where').textContent")
    assert where.startswith(f"R {OTHER.center[0]:.0f}"[:4]) and "Lesion 2" in where
    assert np.count_nonzero(np.abs(pixels(page) - before).sum(-1) > 40) > 500
    page.click(f'[data-ras^="{LESION.center[0]:.4f}"]')
    assert "Lesion 1" in page.run("document.getElementById('planes-where').textContent")


def test_the_patients_right_is_on_the_left(page):
    """The map lies in the left lung: in the axial plane, the first third, it is right of the middle."""
    set_slider(page, "opacity", 1)
    image = pixels(page)
    size = page.run("JSON.parse(document.getElementById('scene').textContent).size")
    axial = image[:, : int(image.shape[1] * size[0] / (2 * size[0] + size[1]))]
    hot = (axial[..., 0] - axial[..., 2] > 70) & (axial[..., 0] > 130)
    assert hot.sum() > 100 and np.nonzero(hot)[1].mean() > 0.55 * axial.shape[1]
    set_slider(page, "opacity", 0.6)


def test_outlines_can_be_hidden(page):
    shown = pixels(page)
    page.click("#outlines")
    hidden = pixels(page)
    assert np.count_nonzero(np.abs(shown - hidden).sum(-1) > 60) > 20
    page.click("#outlines")


def test_paper_shows_what_is_folded(page):
    assert not page.run("document.querySelector('details').open")
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    assert page.run("document.querySelector('details').open")
    page.run("window.dispatchEvent(new Event('afterprint'))")
    assert page.printed().startswith(b"%PDF")


def test_nothing_left_the_page_and_nothing_was_complained_of(page):
    page.run("1")
    asked = [address for address in page.requests if not address.startswith(("data:", "blob:"))]
    assert len(asked) == 1 and asked[0].startswith("file:")
    assert page.errors == []
