"""A small task for tests of how tasks are called: it marks the brightest voxel of a volume."""

from __future__ import annotations

import os
import sys
import threading
from typing import Literal

import numpy as np
from xaiengine.core.errors import InputError
from xaiengine.core.options import TaskOptions, given, option
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume_files import read_volume, write_volume
from xaiengine.tasks import TASKS
from xaiengine.tasks.task import Context, Outcome, OutputSpec, Task, ValueSpec

NAME = "mark-brightest"


class MarkBrightestOptions(TaskOptions):
    volume: str = given("volume", "Scan", "Any volume.")
    mask: str = given("segmentation", "Mask", "Where to look.", required=False, default="")
    bits: float = option(2.0, "Bits", "What the marked voxel gets.", unit="bits", ge=-10, le=10)
    limit: float | None = option(None, "Limit", "Brightest value that is allowed.")
    behavior: Literal["work", "hang", "fail", "chatter"] = option("work", "Behavior", "What to do.")
    twice: bool = option(False, "Twice", "Double the bits.")
    names: list[str] = option(["one"], "Names", "Words for the table.")


class MarkBrightest(Task):
    name = NAME
    title = "Mark brightest"
    description = "Marks the brightest voxel."
    Options = MarkBrightestOptions
    outputs = (
        OutputSpec("attribution", "volume", "Map", "The bits."),
        OutputSpec("lesions", "segmentation", "Mark", "The voxel."),
        OutputSpec("table", "table", "Table", "The words."),
        OutputSpec("picture", "image", "Picture", "Never made.", optional=True),
    )
    values = (
        ValueSpec("peak", "Peak", "Brightest value."),
        ValueSpec("count", "Count", "Marked voxels.", "integer"),
        ValueSpec("words", "Words", "The names.", "string"),
    )
    needs_model = False

    def run(self, options: MarkBrightestOptions, context: Context) -> Outcome:
        context.progress.plan([("Reading", 1), ("Marking", 3)])
        context.progress.stage("Reading", 1)
        volume = read_volume(options.volume)
        peak = float(volume.array.max())
        if options.behavior == "fail" or (options.limit is not None and peak > options.limit):
            raise InputError(f"The peak {peak:g} is too bright.", "Choose a darker volume.")
        if options.behavior == "chatter":
            print("a library warns", file=sys.stderr)
            os.write(2, b"and so does its C++ part\n")
        context.progress.stage("Marking", 2)
        context.progress.advance()
        if options.behavior == "hang":
            threading.Event().wait()
        self._write(options, context, volume)
        words = " ".join(options.names)
        return Outcome(values={"peak": peak, "count": 1, "words": words})

    def _write(self, options: MarkBrightestOptions, context: Context, volume) -> None:
        output = context.output
        mark = volume.array == volume.array.max()
        bits = np.where(mark, options.bits * (2 if options.twice else 1), 0).astype(np.float32)
        write_volume(output.path("map.nrrd"), volume.with_array(bits))
        output.add("volume", "map.nrrd", "map", "attribution")
        segmentation = Segmentation.from_masks([Mask("Mark", mark)], volume.grid)
        write_segmentation(output.path("mark.seg.nrrd"), segmentation)
        output.add("segmentation", "mark.seg.nrrd", "mark", "lesions")
        output.table("words.csv", ["word"], [{"word": word} for word in options.names], "words", "table")


def register() -> None:
    """Make the task one that the engine finds by its name."""
    sys.modules["xaiengine.tasks.mark_brightest"] = sys.modules[__name__]
    TASKS[NAME] = "mark_brightest:MarkBrightest"
