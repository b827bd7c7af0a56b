"""What holds for all tests.

Hypothesis tries the same examples in every run and in any time, so that main does not fail by chance. `make
faults` looks further: it sets HYPOTHESIS_PROFILE=explore, and each run tries other examples.

Files with slow tests come first, so that no worker ends with one while the other has nothing left to do.
"""

import os

import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Projectors and predictors of the same layers, as narrow as a small problem needs."""
    from simpipe.learning.unlabelled import networks

    for table in (networks.PROJECTORS, networks.PREDICTORS):
        for name, shape in table.items():
            small = shape._replace(hidden=(64,) * len(shape.hidden), out=min(shape.out, 64))
            monkeypatch.setitem(table, name, small)
