"""The examples in the docstrings of the learning room do what they say."""

import doctest
import importlib
import pkgutil

import pytest

import simpipe.learning

MODULES = [
    "simpipe.learning",
    *(module.name for module in pkgutil.walk_packages(simpipe.learning.__path__, "simpipe.learning.")),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples_of_the_loop_and_of_a_loss() -> None:
    finder = doctest.DocTestFinder()
    for name in ("simpipe.learning", "simpipe.learning.losses"):
        assert any(found.examples for found in finder.find(importlib.import_module(name))), name
