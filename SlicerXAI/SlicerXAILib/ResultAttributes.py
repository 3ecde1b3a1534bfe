"""Names under which results keep in the scene, and on the disk, what they are and how they were made."""

from __future__ import annotations

RESULT_NAME = "result.json"

# Attributes of every node of a result.
TASK = "XAI.Task"
ROLE = "XAI.Role"
UNITS = "XAI.Units"
PROVENANCE = "XAI.Provenance"
# Of maps: the voxel "i j k" of the largest size as it was loaded; empty for a map of zeros.
STRONGEST = "XAI.Strongest"
# Of the images of a series, and of the node that shows one of them.
SERIES_IMAGE = "XAI.SeriesImage"

# Node references of every node of a result: to the node that was explained, and to the record of the result.
INPUT_REFERENCE = "XAI.Input"
RECORD_REFERENCE = "XAI.Record"
