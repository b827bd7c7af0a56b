"""Every error a person can cause, each with its exit code: 2 usage, 4 upstream, 5 data, 6 lock, 7 disk,
128 + n for the signal n.

An error says what is wrong, where, and how to mend it. It is raised deep inside and handled at one
place, the edge of the command line; nothing in between catches it.
"""


class SimpipeError(Exception):
    """An expected failure.

    Attributes:
        message: what is wrong, and where.
        hint: how to mend it.
        location: the place for programs, such as `mine.yaml:12`.
    """

    exit_code = 1
    code = "stage_failed"

    def __init__(self, message: str, *, hint: str | None = None, location: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.location = location


class StageError(SimpipeError):
    """A stage could not do its work."""


class UsageError(SimpipeError):
    """A command line or a configuration that cannot be carried out."""

    exit_code = 2
    code = "usage"


class ConfigError(UsageError):
    """A configuration file or a `--set` with one or more faults; `message` lists them all."""

    code = "config"


class CheckError(SimpipeError):
    """A question that was answered with no, such as `status --check`."""

    exit_code = 3
    code = "check"


class UpstreamError(SimpipeError):
    """A stage that was asked for alone, while one before it is missing or stale."""

    exit_code = 4
    code = "upstream"


class DataError(SimpipeError):
    """The user's data cannot be used as they are."""

    exit_code = 5
    code = "data"


class DamagedError(DataError):
    """An artifact of a run that is not what its receipt says, or a receipt that cannot be read."""

    code = "damaged"


class NewerError(DamagedError):
    """A document that a newer simpipe wrote: whole, but not for this version to read or to replace."""

    code = "newer"


class LockedError(SimpipeError):
    """Another process works on the same run."""

    exit_code = 6
    code = "locked"


class DiskError(SimpipeError):
    """No space, no permission, or a broken file system."""

    exit_code = 7
    code = "disk"


class Stopped(SimpipeError):  # noqa: N818 - not a fault
    """The user or the system asked the process to stop, by a signal; what was done is kept."""

    code = "stopped"

    def __init__(self, message: str = "stopped", *, signal: int = 2, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signal
