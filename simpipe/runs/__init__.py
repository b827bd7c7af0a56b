"""A finished run in use."""

from simpipe.runs.run import Match, Neighbour, QueryResult, Run, open_run

__all__ = ["Match", "Neighbour", "QueryResult", "Run", "open_run"]
