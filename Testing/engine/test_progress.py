"""Fractions and time left by a clock that the test turns."""

import io

import pytest
from xaiengine.core.console import ConsoleProgress, duration
from xaiengine.core.errors import CancelledError
from xaiengine.core.progress import Progress, RepeatedProgress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def events():
    return []


def test_time_left_extrapolates_the_stage_and_adds_the_later_ones(clock, events):
    progress = Progress(events.append, interval=0, clock=clock)
    progress.plan([("read", 1), ("explain", 8), ("write", 1)])
    progress.stage("read", 1)
    clock.now += 10
    progress.advance()
    progress.stage("explain", 4)
    clock.now += 20
    progress.advance()
    last = events[-1]
    # a quarter of 80 % after the 10 % of reading, in 30 s; 60 s more for this stage, 10 % at 100 s for writing
    assert last.fraction == pytest.approx(0.3)
    assert last.stage_fraction == pytest.approx(0.25)
    assert last.seconds == pytest.approx(30)
    assert last.seconds_left == pytest.approx(60 + 10)


def test_the_fraction_never_falls_and_ends_at_one(clock, events):
    progress = Progress(events.append, interval=0, clock=clock)
    progress.plan([("a", 3), ("b", 1)])
    for stage in ("a", "b"):
        progress.stage(stage, 5)
        for _ in range(5):
            clock.now += 1
            progress.advance()
    progress.finish()
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert events[-1].seconds_left == 0.0


def test_nothing_is_promised_before_anything_is_known(clock, events):
    progress = Progress(events.append, interval=0, clock=clock)
    progress.plan([("a", 1)])
    progress.stage("a", 100)
    assert events[-1].seconds_left is None


def test_reports_are_not_made_more_often_than_the_interval(clock, events):
    progress = Progress(events.append, interval=1.0, clock=clock)
    progress.plan([("a", 1)])
    progress.stage("a", 1000)
    for _ in range(100):
        clock.now += 0.01
        progress.advance()
    assert len(events) <= 3


def test_a_log_file_gets_one_line_for_each_tenth(clock):
    stream = io.StringIO()
    progress = Progress(ConsoleProgress(stream), interval=0, clock=clock)
    progress.plan([("explain", 1)])
    progress.stage("explain", 100)
    for _ in range(100):
        clock.now += 1
        progress.advance()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 11
    assert "explain" in lines[5] and "left" in lines[5]


@pytest.mark.parametrize(("seconds", "text"), [(3.2, "3 s"), (200, "3 min"), (7500, "2 h 5 min"), (-1, "0 s")])
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_repeated_work_within_a_stage_never_runs_backwards():
    seen = []
    outer = Progress(lambda event: seen.append((event.done, event.total)), interval=0.0)
    outer.plan([("Checks", 1.0)])
    outer.stage("Checks", 40)
    repeated = RepeatedProgress(outer, 4)
    for _ in range(4):
        repeated.repeat()
        repeated.stage("Map", 5)
        for _ in range(5):
            repeated.advance()
    shares = [done / total for done, total in seen if total]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0 and 0.5 in shares


def test_repeated_work_is_cancelled_by_the_outer_progress():
    asked = []
    repeated = RepeatedProgress(Progress(cancelled=lambda: bool(asked)), 2)
    repeated.stage("Map", 5)
    repeated.advance()
    asked.append(True)
    with pytest.raises(CancelledError):
        repeated.advance()
