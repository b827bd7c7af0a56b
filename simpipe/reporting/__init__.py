"""The page that people open: one HTML file with the verdict, the map, the mistakes and the evidence."""

from simpipe.reporting.content import Content, Layout
from simpipe.reporting.page import render
from simpipe.reporting.projection import project

__all__ = ["Content", "Layout", "project", "render"]
