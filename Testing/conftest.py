"""Shared by all tests."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory):
    """Tests neither see nor fill the user's cache; the processes that they start do not either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAIENGINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        if "XAIENGINE_CONFINE" not in os.environ:  # a process for each model would take minutes
            patch.setenv("XAIENGINE_CONFINE", "never")
        yield
