"""The conversation on a terminal or through a pipe. Only what the two speakers say goes to standard output."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator

import typer

from subterra_cli.chat.chat_session import ChatSession, TooLongError
from subterra_cli.errors import CommandError
from subterra_core.drawing.graph_summary import clean

ENDINGS = ("exit", "quit")
HOW_TO_END = "An empty line, exit or Ctrl-D ends the conversation."
FAREWELL = "Goodbye. The agent keeps running."
NO_WORDS = "(an empty reply)"


def is_interactive() -> bool:
    """Whether a person types."""
    return sys.stdin.isatty()


def note(*lines: str) -> None:
    """Shows lines that are no part of the conversation."""
    for line in lines:
        typer.echo(clean(line), err=True)


def converse(session: ChatSession, lines: Iterable[str], *, greets: bool = True) -> None:
    """Shows the agent's greeting and its reply to each line. Raises CommandError when the conversation cannot go on."""
    if greets:
        _show(session.greet())
    for line in lines:
        try:
            _show(session.say(line))
        except TooLongError as error:
            note(f"{error} Your line was not sent: shorten it, or start a new conversation if this one is long already.")


def customer_lines(interactive: bool) -> Iterator[str]:
    """What the customer says, until an empty line, an ending word or the end of the input."""
    if interactive:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - cursor keys and history, and lines above the terminal's 4096 bytes
    while (line := _typed() if interactive else _piped()) and line.lower() not in ENDINGS:
        if not interactive:
            typer.echo(f"you: {line}")
        yield line


def asked(question: str) -> str | None:
    """What the person answers; `None` at the end of the input."""
    try:
        return _utf8(lambda: input(clean(question)))
    except EOFError:
        return None


def _typed() -> str:
    try:
        return _utf8(lambda: input("you: "))
    except EOFError:
        typer.echo()
        return ""


def _piped() -> str:
    return _utf8(sys.stdin.readline)


def _utf8(read: Callable[[], str]) -> str:
    """What is read. Raises CommandError for bytes that are no UTF-8, which Python hands through in some locales."""
    try:
        text = read().strip()
        text.encode()
    except UnicodeError:
        raise CommandError("standard input is not UTF-8 text; convert it, for example with iconv") from None
    return text


def _show(reply: str) -> None:
    typer.echo(f"agent: {clean(reply) if reply.strip() else NO_WORDS}")
