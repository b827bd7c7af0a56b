"""AdamW whose update of a variable is two operations instead of fifteen."""

from typing import Any


def adamw(learning_rate: Any, weight_decay: float) -> Any:
    """Keras AdamW (arXiv:1711.05101), its formula and its state, updated by a kernel of TensorFlow.

    The weights of a head are small and its steps many: fifteen passes over them cost a quarter of a step,
    and Keras works out the learning rate anew for the decay of each variable.
    """
    import keras
    import tensorflow as tf

    class AdamW(keras.optimizers.Adam):  # type: ignore[misc, name-defined, unused-ignore]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            place = self._get_variable_index(variable)
            done = tf.cast(self.iterations.value + 1, variable.dtype)
            rate = tf.cast(learning_rate, variable.dtype)
            if weight_decay:
                variable.assign(variable * (1.0 - rate * weight_decay))
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self._momentums[place].value.handle,
                v=self._velocities[place].value.handle,
                beta1_power=tf.pow(tf.constant(self.beta_1, variable.dtype), done),
                beta2_power=tf.pow(tf.constant(self.beta_2, variable.dtype), done),
                lr=rate,
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=tf.cast(gradient, variable.dtype),
            )

    return AdamW(learning_rate)
