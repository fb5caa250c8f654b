"""What each command of the command line does. The exit codes besides 0 are listed here."""

BUG = 1
"""A bug, or a difference that ``verify`` found."""
USER_ERROR = 2
"""Something that the user can fix."""
STOPPED = 130
"""Stopped by Ctrl-C."""
