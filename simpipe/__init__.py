"""simpipe: from a folder of labelled images to a metric-learning baseline and an honest report."""

__version__ = "0.1.0"
