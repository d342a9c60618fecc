"""Rules about the tree itself."""

from subterra_testkit.repository import ROOT


def test_operator_is_a_folder_and_never_a_package() -> None:
    """A package of that name would shadow the standard library's ``operator``."""
    assert not (ROOT / "operator/__init__.py").exists()


def test_no_module_grows_beyond_400_lines() -> None:
    folders = ("api", "core", "operator", "jobs", "cli", "cluster", "demo")
    long = {
        str(file.relative_to(ROOT))
        for folder in folders
        for file in (ROOT / folder).rglob("*.py")
        if len(file.read_text().splitlines()) > 400
    }
    assert long == set()
