"""What holds for all tests.

Hypothesis tries the same examples in every run and in any time, so that main does not fail by chance. `make
faults` looks further: it sets HYPOTHESIS_PROFILE=explore, and each run tries other examples.

Files with slow tests come first, so that no worker ends with one while the other has nothing left to do.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    # the workers and their commands share the cores: threads of one matrix product would spin for each other
    os.environ.setdefault(name, "1")

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


@pytest.fixture(scope="module")
def one_graph() -> Iterator[None]:
    """Trainings of one kind and one schedule use the graph of the first: it takes most of the time.

    Each has a network and a state of its own, which go into the variables of that graph before a step and out
    of them after it. What the first has learnt is to be read before the next one trains.
    """
    import numpy as np
    import tensorflow as tf

    from simpipe.learning import trainer

    make, made = trainer._training_step, {}

    def copy(source: list[Any], target: list[Any]) -> None:
        for old, new in zip(target, source, strict=True):
            value = tf.raw_ops.ReadVariableOp(resource=new.value.handle, dtype=new.value.dtype)
            tf.raw_ops.AssignVariableOp(resource=old.value.handle, value=value)

    def step_of(network: Any, objective: Any, optimizers: Any, schedule: Any, *rest: Any) -> Any:
        own = [*network.model.variables, *objective.proxies, *objective.trained_with_head, *objective.kept]
        own += [variable for optimizer, _ in optimizers for variable in optimizer.variables]
        same = replace(schedule, seed=0, patience=0)
        scale = network.head.get_layer("standardise")  # a constant of the graph
        constants = [np.ravel(each) for each in (scale.mean, scale.variance)]
        key = repr((same, rest, [each.shape for each in own], constants))
        if key not in made:
            made[key] = own, make(network, objective, optimizers, schedule, *rest)
        first, step = made[key]

        def copied(*batches: Any) -> Any:
            copy(own, first)
            told = step(*batches)
            copy(first, own)
            return told

        return copied

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_training_step", step_of)
        yield
