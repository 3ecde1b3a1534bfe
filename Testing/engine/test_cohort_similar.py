"""Nearest cases: against a plain search, with features that do not vary, and files that are no index."""

import numpy as np
import pytest
from xaiengine.cohorts.similar import SimilarityIndex, profile_distance
from xaiengine.core.errors import InputError


def index_of(features):
    names = tuple(f"c{number}" for number in range(len(features)))
    return SimilarityIndex(names, names, np.asarray(features, np.float32), "layer", "digest")


def test_the_nearest_are_those_of_a_plain_search():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(50, 8)) * np.array([1, 1, 1, 1, 100, 100, 0.01, 0.01])
    asked = features[7] + 0.05 * features.std(0)
    scaled = (features - features.mean(0)) / features.std(0)
    own = (asked - features.mean(0)) / features.std(0)
    distance = [np.sqrt(np.mean((row - own) ** 2)) for row in scaled]
    expected = np.argsort(distance)[:5]
    found = index_of(features).nearest(asked, 5)
    assert [name for name, _ in found] == [f"c{number}" for number in expected]
    assert found[0][0] == "c7" and found[0][1] == pytest.approx(0.05, rel=1e-3)
    assert index_of(features).nearest(asked, 5, ["c7"])[0][0] == f"c{expected[1]}"


def test_features_that_do_not_vary_say_nothing():
    features = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]])
    assert index_of(features).nearest(np.array([0.9, 77.0]), 1)[0][0] == "c1"


def test_an_index_survives_its_file_and_other_files_are_refused(tmp_path):
    index = index_of(np.arange(6.0).reshape(3, 2))
    index.save(tmp_path / "similar.safetensors")
    again = SimilarityIndex.load(tmp_path / "similar.safetensors")
    assert again.cases == index.cases and np.array_equal(again.features, index.features) and again.layer == "layer"
    (tmp_path / "other").write_text("no")
    with pytest.raises(InputError):
        SimilarityIndex.load(tmp_path / "other")


def test_profiles_are_compared_by_the_share_that_would_have_to_move():
    assert profile_distance({"lung": 100.0}, {"heart": 100.0}) == 1.0
    assert profile_distance({"lung": 60.0, "heart": 40.0}, {"lung": 40.0, "heart": 60.0}) == pytest.approx(0.2)
    assert profile_distance({}, {"lung": 1.0}) is None
