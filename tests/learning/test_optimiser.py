"""The fused update is Keras' AdamW."""

import numpy as np
import pytest

from simpipe.learning import load_framework


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_steps_as_keras_does(decay):
    load_framework()
    import keras
    import tensorflow as tf

    from simpipe.learning.optimiser import adamw

    generator = np.random.default_rng(0)
    shapes = [(7, 5), (5,), ()]
    starts = [generator.normal(size=shape).astype("f4") for shape in shapes]
    rate = keras.optimizers.schedules.CosineDecay(0.0, 8, warmup_target=0.05, warmup_steps=3)
    ours, theirs = adamw(rate, decay), keras.optimizers.AdamW(rate, weight_decay=decay)
    variables = {which: [keras.Variable(start) for start in starts] for which in (ours, theirs)}

    @tf.function
    def step(optimizer, gradients):
        optimizer.apply(gradients, variables[optimizer])

    for which in (ours, theirs):
        which.build(variables[which])
    for _ in range(12):
        gradients = [tf.constant(generator.normal(size=shape), "float32") for shape in shapes]
        for which in (ours, theirs):
            step(which, gradients)
    for mine, other in zip(variables[ours], variables[theirs], strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=2e-5, atol=1e-6)
    assert len(ours.variables) == len(theirs.variables)
    for mine, other in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-4, atol=1e-7)
