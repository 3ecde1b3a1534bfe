"""Units of maps in the words of what was explained: log-odds per voxel instead of change per voxel."""

from __future__ import annotations

_SCALES = (("logit", "log-odds"), ("log odds", "log-odds"), ("log-odds", "log-odds"), ("probability", "probability"))


def named_unit(unit: str, target: str) -> str:
    """A method's unit with the scale of its target (``logit of lesion``) in place of the word "change".

    >>> named_unit("change per voxel", "logit of lesion"), named_unit("bits/voxel", "logit of lesion")
    ('log-odds per voxel', 'bits/voxel')
    >>> named_unit("squared change per input unit", "probability of lesion")
    'squared probability per input unit'
    """
    scale = next((name for start, name in _SCALES if target.lower().startswith(start)), "")
    return unit.replace("change", scale) if scale else unit
