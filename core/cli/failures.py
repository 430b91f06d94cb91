"""What a command tells when it does not succeed: one line, maybe a hint, an exit code."""

from __future__ import annotations

from isoneph.core.errors import (
    ConfigInvalid,
    IsonephError,
    PluginBroken,
    PluginDoubled,
    PluginMissing,
)

OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130
READER_GONE = 141

#: What the person at the keyboard sets right, in the configuration or by what they type.
_TO_BE_SET_RIGHT = (ConfigInvalid, PluginMissing, PluginBroken, PluginDoubled)


class CommandFailed(Exception):
    """A command that cannot do what it was asked for; ``hint`` says what may help."""

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class UsageError(CommandFailed):
    """A command line that makes no sense as it stands."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, exit_code=USAGE)


class Refused(CommandFailed):
    """The service's refusal; ``code`` is the problem's, as in the errors of the core."""

    def __init__(self, message: str, *, code: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


def failure_of(error: Exception) -> CommandFailed:
    """Any exception in the words of a command; what nobody foresaw points to ``--debug``."""
    if isinstance(error, CommandFailed):
        return error
    if isinstance(error, IsonephError):
        code = USAGE if isinstance(error, _TO_BE_SET_RIGHT) else FAILED
        return CommandFailed(error.message, exit_code=code)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return CommandFailed(f"{where}{error.strerror}")
    return CommandFailed(
        f"internal error: {type(error).__name__}: {error}",
        hint="--debug shows where it happened",
    )
