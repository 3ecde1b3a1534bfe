"""Severity classes at and around their bounds."""

from __future__ import annotations

import pytest
from xaiengine.core.errors import OptionError
from xaiengine.lesions.severity import classify_severity


@pytest.mark.parametrize(
    ("percent", "label"),
    [
        (0.0, "CT-0"),
        (0.0999, "CT-0"),
        (0.1, "CT-1"),
        (25.0, "CT-1"),
        (25.0001, "CT-2"),
        (50.0, "CT-2"),
        (50.0001, "CT-3"),
        (75.0, "CT-3"),
        (75.0001, "CT-4"),
        (100.0, "CT-4"),
    ],
)
def test_a_burden_on_a_bound_belongs_to_the_lower_class(percent, label):
    assert classify_severity(percent).label == label


@pytest.mark.parametrize(
    ("percent", "lesion_ml", "label"), [(0.02, 1.0, "CT-1"), (0.02, 0.1, "CT-0"), (0.0, 9, "CT-0")]
)
def test_a_small_share_counts_when_the_volume_is_that_of_a_lesion(percent, lesion_ml, label):
    assert classify_severity(percent, lesion_ml).label == label


@pytest.mark.parametrize("percent", [-0.1, 100.1, float("nan")])
def test_a_burden_that_is_no_share_is_refused(percent):
    with pytest.raises(OptionError, match="0 to 100"):
        classify_severity(percent)
