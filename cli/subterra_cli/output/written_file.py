"""A file that a command writes: also standard output, which is - as for other programs."""

from pathlib import Path

import typer

from subterra_cli.errors import CommandError

STANDARD_OUTPUT = Path("-")


def write_file(file: Path, content: str | bytes, *, must_be_new: bool = False, option: str = "--output") -> None:
    """Writes the file, or standard output. Raises CommandError, with `must_be_new` also if the file exists. `option` named it."""
    data = content.encode() if isinstance(content, str) else content
    if file == STANDARD_OUTPUT:
        typer.echo(data, nl=False)
        return
    try:
        with file.open("xb" if must_be_new else "wb") as stream:
            stream.write(data)
    except FileExistsError:
        raise CommandError(f"{file} exists already; remove it, or write to another file with {option}") from None
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}; choose another with {option}") from None


def say_apart(file: Path | None, text: str) -> None:
    """Prints a line for people; on standard error where standard output has the file."""
    typer.echo(text, err=file == STANDARD_OUTPUT)
