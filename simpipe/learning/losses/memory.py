"""The cross-batch memory: embeddings of earlier batches as further positives and negatives."""

from typing import Any


class Memory:
    """The newest `size` embeddings of earlier batches (Wang et al., XBM, arXiv:1912.06798).

    A queue of a fixed shape, newest first, so that a compiled training step is traced once. No gradient
    goes into it. It helps where an encoder moves slowly and there are many images.

    Attributes:
        embeddings: variable (size, dim), float32.
        labels: variable (size,), int64.
        count: variable, a scalar: how many slots, from the first, are filled.
    """

    def __init__(self, size: int, dim: int) -> None:
        import keras

        def zeros(shape: tuple[int, ...], dtype: str) -> Any:
            return keras.Variable("zeros", shape, dtype, trainable=False, autocast=False)

        self.size = size
        self.dim = dim
        self.embeddings = zeros((size, dim), "float32")
        self.labels = zeros((size,), "int64")
        self.count = zeros((), "int64")

    @property
    def variables(self) -> list[Any]:
        return [self.embeddings, self.labels, self.count]

    def recall(self, labels: Any) -> tuple[Any, Any, Any]:
        """What is stored (size, dim), and masks (n, size): is it of an anchor's label, or of another one.

        An empty slot is neither.
        """
        from keras import ops

        filled = ops.arange(self.size, dtype="int64")[None, :] < self.count
        same = ops.equal(labels[:, None], self.labels[None, :])
        stored = ops.stop_gradient(ops.convert_to_tensor(self.embeddings))
        return stored, ops.logical_and(same, filled), ops.logical_and(ops.logical_not(same), filled)

    def remember(self, embeddings: Any, labels: Any) -> None:
        """Put a batch, (n, dim) and (n,), in front of the queue; the oldest go."""
        from keras import ops

        rows = ops.concatenate([ops.stop_gradient(embeddings), self.embeddings])[: self.size]
        codes = ops.concatenate([labels, self.labels])[: self.size]
        added = ops.cast(ops.shape(labels)[0], "int64")
        self.embeddings.assign(ops.reshape(rows, (self.size, self.dim)))
        self.labels.assign(ops.reshape(codes, (self.size,)))
        self.count.assign(ops.minimum(self.count + added, self.size))
