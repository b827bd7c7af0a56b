"""Learning: backbones, caches, samplers, losses and the trainer. Gets pixels or arrays, knows no path.

All of it works without a run directory, in a notebook. Vectors of any origin and their labels become an
embedding in which images of one label lie together:

>>> import numpy as np
>>> from simpipe.learning import head, inputs, load_framework, network, samplers, scoring, trainer
>>> load_framework()
>>> labels = np.repeat(np.arange(4), 30)
>>> vectors = np.random.default_rng(0).normal(size=(120, 16)).astype("float32")
>>> vectors[:, :2] += 3 * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])[labels]
>>> fit, val = (
...     scoring.Examples.of(inputs.Stored.plain_only(vectors[part::2]), labels[part::2]) for part in (0, 1)
... )
>>> model = network.head_only(16, head.HeadShape(embedding_size=8, hidden=0, dropout=0.0))
>>> head.standardise_on(model.head, vectors)
>>> plan = samplers.BatchPlan(
...     classes_per_batch=4, examples_per_class_per_batch=8, balance="sqrt", coverage=1.0,
...     min_batches=10, max_repeat=20, seed=0,
... )
>>> schedule = trainer.Schedule(loss="supcon", lr=0.05, epochs=10)
>>> trained = trainer.train_network(model, fit, val, plan, schedule)
>>> embeddings = np.empty((120, 8), "float32")
>>> head.embed_all(head.Embed(trained.network.head), vectors, embeddings)
>>> bool(trained.map_at_r > 0.9)
True

`losses.build` gives a loss by itself, `samplers.plan_epoch` the batches of an epoch, `augmentation.augment`
the views of images; `encoder.Encoder.open("runs/baseline/train")` is the encoder of a finished run, from
images to features (`extractor`) and on to embeddings (`embed`).
"""

import os


def load_framework() -> None:
    """Import TensorFlow and Keras without their start-up chatter. Every entrance to this room calls it."""
    from simpipe.progress import quiet_stderr

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with quiet_stderr():
        import keras
        import tensorflow as tf

        tf.constant(0)  # the device layer speaks at its first use
        # or a GPU rounds what it multiplies to 10 bits, in which small distances drown
        tf.config.experimental.enable_tensor_float_32_execution(False)
    keras.config.disable_traceback_filtering()
