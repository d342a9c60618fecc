"""Why a release cannot be made."""


class ReleaseError(Exception):
    """The message says what is wrong and what to do."""
