"""The head learns before the backbone does, on the very features that the run has cached."""

import numpy as np
from test_views import backbone, room  # noqa: F401

from simpipe.config import Config, override
from simpipe.learning.head import HeadShape, standardise_on
from simpipe.learning.network import build_network
from simpipe.learning.samplers import BatchPlan
from simpipe.learning.scoring import Examples
from simpipe.stages.train import _train_head
from simpipe.stages.views import prepare, scratch_features


def separation(embeddings, labels):
    """Mean similarity within labels less that between them."""
    similarity = embeddings @ embeddings.T
    same = labels[:, None] == labels[None, :]
    return similarity[same].mean() - similarity[~same].mean()


def flat(model):
    return np.concatenate([np.ravel(weight) for weight in model.get_weights()])


def test_the_head_learns_and_the_backbone_stays(room, backbone):  # noqa: F811
    images = room.images("partial", 1, unfreeze=2)
    prepared = prepare(room.ctx, images)
    network = build_network(backbone, images.tuning, HeadShape(8, 0, 0.0), 0)
    features = scratch_features(room.ctx, prepared.features, images.ids(images.fit), images.dim)
    standardise_on(network.head, features)
    labels = room.samples.label_id
    fit = Examples.of(prepared.fit, labels[images.fit], np.arange(len(images.fit)))
    val = Examples.of(prepared.val, labels[images.val], np.arange(len(images.val)))
    body = flat(network.body)
    before = separation(network.head(features).numpy(), fit.labels)
    room.ctx.config = override(Config(), ["train.trainable=partial", "train.head_epochs=10", "train.lr=0.02"])

    plan = BatchPlan(3, 2, "sqrt", 1.0, 10, 10, 0)
    _train_head(room.ctx, network, images, prepared, fit, val, plan)

    after = network.head(features).numpy()
    assert separation(after, fit.labels) > before + 0.3
    np.testing.assert_array_equal(body, flat(network.body))
    # the head that learnt is the one of the network: what it reads of plain images are the same features
    plain = network.model(prepared.fit.plain(np.arange(len(images.fit))).astype("f4"), training=False)
    np.testing.assert_allclose(plain, after, atol=1e-2)
