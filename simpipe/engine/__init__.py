"""Idempotent stages in a run directory. Knows nothing of images, and imports no stage: it is given them."""
