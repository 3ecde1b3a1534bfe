"""A cancel is answered during calls that report no progress, and the search of the lungs ends soon after."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support.scans import GRIDS, thorax
from xaiengine.app.run import run_job
from xaiengine.core.cancellation import interruptibly
from xaiengine.core.errors import CancelledError, InputError
from xaiengine.core.job import Job
from xaiengine.core.progress import Progress
from xaiengine.lesions import regions
from xaiengine.lesions.lungs.lungs import segment_lungs
from xaiengine.tasks.quantify_lesions import report

CHEST = Path(__file__).resolve().parents[1] / "data" / "chest_cta.nrrd"
PATIENCE_SECONDS = 60.0


class Blocked:
    """A function that says when it was entered, and does not return before the test has ended."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()

    def __call__(self, *_arguments, **_more):
        self.entered.set()
        assert self.released.wait(PATIENCE_SECONDS), "no one answered the cancel"
        raise InputError("The call went on to its end.", "")


@pytest.fixture
def blocked():
    function = Blocked()
    yield function
    function.released.set()


def refuse_once(entered: threading.Event):
    def check() -> None:
        if entered.is_set():
            raise CancelledError()

    return check


def test_what_the_function_returns_or_raises_comes_back():
    assert interruptibly(lambda: None, lambda a, b: a - b, 5, b=2) == 3

    def fail():
        raise InputError("This is no scan.", "Give another.")

    with pytest.raises(InputError, match="no scan"):
        interruptibly(lambda: None, fail)


def test_nothing_is_begun_after_a_cancel(blocked):
    entered = threading.Event()
    entered.set()
    with pytest.raises(CancelledError):
        interruptibly(refuse_once(entered), blocked)
    assert not blocked.entered.is_set()


def test_a_cancel_is_answered_while_the_function_goes_on(blocked):
    with pytest.raises(CancelledError):
        interruptibly(refuse_once(blocked.entered), blocked)
    assert not blocked.released.is_set()


@pytest.mark.parametrize(("place", "name"), [(report, "read_volume"), (regions, "segment_lungs")])
def test_lesions_are_given_up_while_the_scan_is_read_or_its_lungs_are_sought(
    tmp_path, monkeypatch, blocked, place, name
):
    monkeypatch.setattr(place, name, blocked)
    job = Job(task="quantify-lesions", inputs={"volume": str(CHEST)}, output=str(tmp_path / "result"))
    assert run_job(job, Progress(cancelled=blocked.entered.is_set)).status == "cancelled"
    assert [path.name for path in (tmp_path / "result").iterdir()] == ["result.json"]


def test_the_search_of_the_lungs_looks_between_its_steps():
    """Otherwise it would go on for as long as before, only unseen."""
    grid = GRIDS["cropped"]
    scan = thorax(grid).array
    looks = []
    segment_lungs(scan, grid, lambda: looks.append(True))
    assert len(looks) >= 4
    for last in range(1, len(looks) + 1):
        left = iter(range(last))

        def check(left=left) -> None:
            if next(left, None) is None:
                raise CancelledError()

        if last < len(looks):
            with pytest.raises(CancelledError):
                segment_lungs(scan, grid, check)
