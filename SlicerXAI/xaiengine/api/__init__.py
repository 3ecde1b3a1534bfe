"""The Python API: what ``import xaiengine as xai`` offers. Nothing here touches files but ``read_*`` and ``save``."""
