"""The page that people open: one HTML file with the verdict, the map, the mistakes and the evidence."""

from simpipe.reporting.content import Content
from simpipe.reporting.page import render
from simpipe.reporting.projection import project

__all__ = ["Content", "project", "render"]
