"""A convolutional backbone of three block groups, small enough to be trained in a test, and its images."""

import numpy as np

from simpipe.learning.backbones import Backbone
from simpipe.learning.backbones.weights import randomise

SIZE = 32
GROUPS = ("group1", "group2", "group3")


def build(name="tiny", weights="imagenet", input_size=None, seed=0):
    """As a builder of `backbones.BACKBONES`; its imagenet weights are random ones of another seed."""
    import keras

    size = input_size or SIZE
    images = keras.Input((size, size, 3), name="images")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(images)
    for group, filters, kernel in zip(GROUPS, (8, 12, 16), (3, 3, 1), strict=True):
        x = keras.layers.Conv2D(
            filters, kernel, kernel // 2 + 1, padding="same", use_bias=False, name=f"{group}_conv"
        )(x)
        x = keras.layers.BatchNormalization(name=f"{group}_bn")(x)
        x = keras.layers.ReLU(6.0, name=group)(x)
    model = keras.Model(images, x, name=name)
    known = weights != "none"
    weights_id = randomise(model, 77 if known else seed)
    if known:
        generator = np.random.default_rng(77)
        for group in GROUPS:
            norm = model.get_layer(f"{group}_bn")
            spread = [generator.uniform(0.5, 1.5, each.shape) for each in norm.get_weights()]
            norm.set_weights([spread[0], spread[1] - 1, spread[2] - 1, spread[3]])
        weights_id = f"known:{weights}"
    return Backbone(name, model, size, weights_id, known, GROUPS)


def pictures(count, seed=0, size=SIZE, classes=4):
    """uint8 (count, size, size, 3) and labels (count,): each class has a colour, on noise of its own."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    colours = np.random.default_rng(1000).integers(60, 196, (classes, 1, 1, 3))
    noise = generator.normal(0, 40, (count, size, size, 3))
    return np.clip(colours[labels] + noise, 0, 255).astype(np.uint8), labels.astype(np.int64)


def reader(images):
    """`features.Pixels` of an array."""
    return lambda rows: iter([images[row] for row in rows])


def weights_of(model):
    """The weights by path, as copies."""
    return {variable.path: variable.numpy().copy() for variable in model.variables}
