"""The two errors that end a command: bad input (exit status 2) and a claim that failed (1)."""

__all__ = ["ClaimError", "InputError"]


class InputError(Exception):
    """Bad input; the message is one line that names the layer, file or option and the fix."""


class ClaimError(Exception):
    """The command ran and what it had to show does not hold."""
