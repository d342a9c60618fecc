"""What a command may fail with: told in one message, without a traceback."""


class CommandError(Exception):
    """The command cannot do what was asked; the message says why and what to do."""


class InvalidFileError(CommandError):
    """A file, or an object of the cluster, that holds no sound procedure."""
