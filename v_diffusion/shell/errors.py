"""Errors that end a program: the text of each is the whole message to the user, in one line."""


class ProgramError(Exception):
    """The family. A program that it reaches says its text and ends with its status."""

    status = 1


class UserError(ProgramError):
    """A mistake of the person at the shell: what is wrong and what to do."""

    status = 2


class NoDevice(UserError):
    """The device that the whole run is to draw on isn't there."""


class RunError(ProgramError):
    """A failure while running: what went wrong and what would help."""


class OutputClosed(ProgramError):
    """Something can't be written to stdout."""
