"""Expected failures of a command, reported as one message without a traceback."""


class CommandError(Exception):
    """The command failed; the message says why and what to do."""


class InvalidFileError(CommandError):
    """A file or cluster object without a valid procedure."""
