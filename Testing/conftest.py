"""Shared by all tests."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory):
    """Tests neither see nor fill the user's cache; the processes that they start do not either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAIENGINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
