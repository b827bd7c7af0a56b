"""The pipeline: seven stages, in their order. Each file declares what it reads and writes, then does it."""

from simpipe.engine.stage import Stage
from simpipe.stages.calibrate import calibrate
from simpipe.stages.evaluate import evaluate
from simpipe.stages.index import index
from simpipe.stages.ingest import ingest
from simpipe.stages.report import report
from simpipe.stages.sampler import sampler
from simpipe.stages.train import train

PIPELINE: tuple[Stage, ...] = (ingest, sampler, train, index, calibrate, evaluate, report)
"""What `simpipe run` chains."""

STAGE_NAMES: tuple[str, ...] = tuple(stage.name for stage in PIPELINE)
