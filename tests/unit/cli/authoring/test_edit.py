"""`subterra edit` shows the file as it was saved last: findings, graph and conversations, and tells open pages of each save."""

import http.client
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.errors import CommandError
from subterra_cli.files.lint_files import check_paths
from subterra_cli.main import app
from subterra_cli.output.preview.follow_saves import SaveWatch, Stamps, follow_saves
from subterra_cli.output.preview.preview_page import PreviewPage, preview_page
from subterra_cli.output.preview.preview_sample import write_sample
from subterra_cli.output.preview.preview_server import PreviewServer
from subterra_cli.output.preview.preview_state import Preview, after_save
from subterra_core.procedure.graph import Graph
from subterra_testkit.procedures import agent, branch, end, procedure, user
from subterra_testkit.repository import ROOT

EVIL = """<script>alert("x")</script><img src=x onerror=alert(1)>"""
TEA = procedure(
    agent("hello", "ask", examples=["Hello, tea or coffee?"]),
    user("ask", branch("tea", "Tea, please."), branch("coffee", "Coffee, please.")),
    end("tea", examples=["Here is your tea."]),
    end("coffee", examples=["Here is your coffee."]),
)


class EndedError(Exception):
    """Raised by a test's `pause` when it has seen what it wants."""


def save(file: Path, spec: ProcedureSpec, name: str = "tea") -> str:
    file.write_text(
        yaml.safe_dump(
            {"apiVersion": "subterra.dev/v1alpha1", "kind": "Procedure", "metadata": {"name": name}, "spec": spec.dump()}
        )
    )
    return str(file)


def preview_of(file: str, before: Preview | None = None) -> Preview:
    return after_save(before, file, check_paths([file]))


def shown(page: PreviewPage) -> str:
    """The words on a page, the picture's included."""
    found: list[str] = []

    class Parser(HTMLParser):
        def handle_data(self, data: str) -> None:
            if self.lasttag not in ("style", "script"):
                found.append(data)

    Parser().feed(page.text)
    return " ".join(" ".join(found).split())


def follow(file: str, *steps: Callable[[], object]) -> list[Preview]:
    """The previews that were published, while each of `steps` was done once the one before had settled."""
    published, waiting, looks = list[Preview](), list(steps), 0

    def pause() -> None:
        nonlocal looks
        looks += 1
        if looks % 4:
            return
        if not waiting:
            raise EndedError
        waiting.pop(0)()

    with pytest.raises(EndedError):
        follow_saves(file, published.append, pause)
    return published


@pytest.fixture
def server() -> Iterator[PreviewServer]:
    running = PreviewServer(0)
    yield running
    running.close()


def get(server: PreviewServer, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def test_an_open_page_hears_of_a_save_and_finds_the_new_page(tmp_path: Path, server: PreviewServer) -> None:
    file = save(tmp_path / "tea.yaml", TEA)
    server.publish(preview_page(preview_of(file)))
    saves = get(server, "/saves")
    first = saves.readline().decode().split()[1]
    assert f'data-version="{first}"' in get(server, "/").read().decode()
    save(tmp_path / "tea.yaml", TEA.model_copy(update={"system_prompt": "You sell tea."}), name="shop")
    server.publish(preview_page(preview_of(file)))
    assert saves.readline() == b"\n"
    second = saves.readline().decode().split()[1]
    assert second != first
    text = get(server, "/").read().decode()
    assert f'data-version="{second}"' in text
    assert "shop: 4 nodes" in text


def test_a_page_that_shows_the_same_has_the_same_version(tmp_path: Path) -> None:
    file = save(tmp_path / "tea.yaml", TEA)
    first = preview_of(file)
    assert preview_page(first).version == preview_page(preview_of(file)).version


def test_a_save_is_shown_at_once_and_again_with_its_conversations(tmp_path: Path) -> None:
    place = tmp_path / "tea.yaml"
    save(place, TEA)
    published = follow(str(place), lambda: place.write_text(place.read_text().replace("tea or coffee?", "what may I bring?")))
    assert [preview.sample is not None for preview in published] == [False, True, False, True]
    assert "agent · hello Hello, tea or coffee?" in shown(preview_page(published[1]))
    assert "agent · hello Hello, what may I bring?" in shown(preview_page(published[3]))


def test_a_save_that_changes_a_comment_alone_keeps_the_conversations(tmp_path: Path) -> None:
    place = tmp_path / "tea.yaml"
    published = follow(save(place, TEA), lambda: place.write_text(place.read_text() + "# more\n"))
    assert [preview.sample is not None for preview in published] == [False, True, True]


def test_a_broken_file_keeps_the_last_graph_and_conversations_and_says_the_line(tmp_path: Path) -> None:
    place = tmp_path / "tea.yaml"
    file = save(place, TEA)
    good = preview_of(file)
    good = good.with_sample(write_sample(Graph(TEA)))
    place.write_text(place.read_text() + "  broken: [\n")
    broken = preview_of(file, good)
    said = shown(preview_page(broken))
    assert (broken.is_current, broken.awaits_sample, broken.procedure, broken.sample) == (False, False, good.procedure, good.sample)
    assert f"line {len(place.read_text().splitlines()) + 1}: error" in said
    assert "Graph and conversations below are those of the last save without errors." in said
    assert "Here is your tea." in said
    save(place, TEA)
    assert preview_page(preview_of(file, broken)).version == preview_page(good).version


def test_all_findings_are_listed_with_their_lines_and_lead_to_their_node(tmp_path: Path) -> None:
    place = tmp_path / "tea.yaml"
    good = preview_of(save(place, TEA))
    place.write_text(place.read_text().replace("to: tea", "to: te").replace("to: ask", "to: asks"))
    lines = [number for number, line in enumerate(place.read_text().splitlines(), 1) if re.search("to: (te|asks)$", line)]
    page = preview_page(preview_of(str(place), good))
    assert all(f"line {line}: error" in shown(page) for line in lines)
    assert re.search(r'data-node="ask"[^>]*>edge ask → te<', page.text)
    assert re.search(r'data-node="hello"[^>]*>edge hello → asks<', page.text)


def test_a_saved_file_of_a_called_procedure_is_followed_too(tmp_path: Path) -> None:
    for name in ("procedure", "identity-check"):
        shutil.copy(ROOT / f"examples/bank/{name}.yaml", tmp_path)
    called = tmp_path / "identity-check.yaml"

    def misspell() -> None:
        called.write_text(called.read_text().replace("role: customer", "role: custmer", 1))

    def correct() -> None:
        called.write_text(called.read_text().replace("role: custmer", "role: customer"))

    published = follow(str(tmp_path / "procedure.yaml"), misspell, correct)
    assert [preview.count("error") for preview in published] == [0, 0, 1, 0]
    assert "identity-check.yaml:" in shown(preview_page(published[2]))
    assert published[3].sample == published[1].sample


def test_a_half_written_file_is_not_read() -> None:
    looks: Iterator[Stamps] = iter([{"a": (1, 5)}, {"a": (1, 5)}, {"a": (2, 1)}, {"a": (2, 9)}, {"a": (2, 9)}, {"a": (2, 9)}])
    watch = SaveWatch(lambda: next(looks))
    assert [watch.saved() for _ in range(5)] == [False, False, False, True, False]


def test_the_conversations_are_those_of_subterra_sample(tmp_path: Path) -> None:
    file = str(ROOT / "examples/orders/procedure.yaml")
    sampled = CliRunner().invoke(app, ["sample", file, "-n", "3"]).stdout
    preview = preview_of(file)
    assert preview.procedure is not None
    for conversation in write_sample(Graph(preview.procedure.spec)).conversations:
        assert f"{conversation.heading}\n  {conversation.facts[0]}\n" in sampled
        assert all(turn.text in sampled for turn in conversation.turns if turn.kind in ("agent", "customer"))
        assert [turn.kind for turn in conversation.turns].count("call") == conversation.facts[0].count("look_up")


def test_without_words_for_the_scripted_teacher_the_page_says_which_node_lacks_them(tmp_path: Path) -> None:
    silent = procedure(agent("hello", "ask"), user("ask", branch("tea", "Tea.")), end("tea"))
    preview = preview_of(save(tmp_path / "tea.yaml", silent))
    assert preview.procedure is not None
    said = shown(preview_page(preview.with_sample(write_sample(Graph(preview.procedure.spec)))))
    assert "The scripted teacher cannot write them: node hello has no examples" in said


def test_what_the_author_wrote_is_text_and_nothing_else(tmp_path: Path) -> None:
    evil = procedure(
        agent("hello", "ask", prompt=EVIL, examples=[EVIL]), user("ask", branch("tea", EVIL)), end("tea", examples=[EVIL])
    )
    preview = preview_of(save(tmp_path / "tea.yaml", evil))
    text = preview_page(preview.with_sample(write_sample(Graph(evil)))).text
    assert text.count("<script") == 1
    assert "<img" not in text
    assert EVIL in shown(PreviewPage("", text))


def test_the_page_asks_no_other_server_for_anything(tmp_path: Path) -> None:
    text = preview_page(preview_of(save(tmp_path / "tea.yaml", TEA))).text
    assert "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" in text
    assert not any(
        word in text.replace("http://www.w3.org/2000/svg", "") for word in ("http:", "https:", "src=", "@import", "url(")
    )
    assert "prefers-color-scheme: dark" in text


def test_a_file_without_a_procedure_says_so(tmp_path: Path) -> None:
    place = tmp_path / "agent.yaml"
    shutil.copy(ROOT / "examples/orders/agent.yaml", place)
    said = shown(preview_page(preview_of(str(place))))
    assert "no Procedure in this file" in said
    assert "The graph and conversations appear once the file has a Procedure without errors." in said


def test_a_web_page_elsewhere_cannot_read_the_preview(tmp_path: Path, server: PreviewServer) -> None:
    server.publish(preview_page(preview_of(save(tmp_path / "tea.yaml", TEA))))
    assert get(server, "/").status == 200
    assert get(server, "/", Host="evil.example").status == 403
    assert get(server, "/saves", Host=f"evil.example:{server.port}").status == 403


def test_a_port_in_use_is_named_with_the_fix(tmp_path: Path, server: PreviewServer) -> None:
    file = save(tmp_path / "tea.yaml", TEA)
    result = CliRunner().invoke(app, ["edit", file, "--no-open", "--port", str(server.port)])
    assert result.exit_code == 2
    assert result.stderr == (
        f"port {server.port} of 127.0.0.1 is in use; pass another one with --port, or --port 0 for any free one\n"
    )
    with pytest.raises(CommandError, match="is in use"):
        PreviewServer(server.port)


def test_a_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["edit", str(tmp_path / "lost.yaml"), "--no-open"])
    assert result.exit_code == 2
    assert "lost.yaml is not a file; pass a procedure's YAML file, or write one with `subterra init`" in result.stderr


def test_ctrl_c_ends_it_without_a_trace(tmp_path: Path) -> None:
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from subterra_cli.main import app; app()"
    words = [sys.executable, "-c", program, "edit", save(tmp_path / "tea.yaml", TEA), "--no-open", "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        port = int(re.findall(r":(\d+)/", said)[0])
        saves = http_page(port, "/saves")
        while b"<article" not in http_page(port).read():  # a signal at the very end of the writing would be lost
            saves.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert (process.returncode, rest) == (0, "")


def http_page(port: int, path: str = "/") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    return connection.getresponse()
