"""Which images make up each batch: a plan that is a pure function of the seed and the epoch.

A batch holds P classes of K images each (Hermans et al., arXiv:1703.07737, §2). How often a class is drawn
follows its mass, the images of a class come from a queue without replacement, and what meets in a batch is
drawn at random or, for a share of the batches, by what was confused. Only indices are held.

>>> import numpy as np
>>> labels = np.repeat([0, 1, 2], 4)
>>> plan = BatchPlan(2, 2, "sqrt", coverage=1.0, min_batches=1, max_repeat=10, seed=0)
>>> [len(set(labels[batch.rows])) for batch in plan_epoch(labels, plan, epoch=0)]
[2, 2, 2]
"""

from simpipe.learning.samplers.describe import describe_epoch
from simpipe.learning.samplers.epoch import DRAWS, Batch, plan_epoch, view_of
from simpipe.learning.samplers.groups import groups_per_class
from simpipe.learning.samplers.plan import BatchPlan
from simpipe.learning.samplers.subset import select

__all__ = [
    "DRAWS",
    "Batch",
    "BatchPlan",
    "describe_epoch",
    "groups_per_class",
    "plan_epoch",
    "select",
    "view_of",
]
