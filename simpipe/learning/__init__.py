"""Learning: backbones, the feature cache, samplers, losses and the trainer. Gets pixels, knows no path."""

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
    keras.config.disable_traceback_filtering()
