"""The version of prepared rows is that of the sources and libraries that determine them."""

import ast
import shutil

import pytest

from llm_jepa.data.cache_key import PACKAGE, PREPARATION_VERSION, preparing_sources, sources_digest

NOT_IN_ROWS = {
    "config", "files.hub_errors", "files.paths", "files.pieces", "files.text_lines", "runs.record", "settings.checks",
    "settings.objectives", "settings.schema",
}  # fmt: skip
"""Imports whose code does not enter a row: options are arguments, files are read and recorded before there are rows,
and what an objective needs chooses between functions, which the key holds."""


@pytest.fixture
def copied(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "llm_jepa", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "llm_jepa"


def test_a_changed_source_or_library_changes_the_version(copied):
    def digest(**versions: str) -> str:
        return sources_digest(preparing_sources(copied), versions)

    original = digest(trl="1")
    assert original == sources_digest(preparing_sources(), {"trl": "1"})
    assert digest(trl="2") != original
    for name in ("data/spans.py", "settings/view_fields.py"):
        source = (copied / name).read_text()
        (copied / name).write_text(source + "# changed\n")
        assert digest(trl="1") != original
        (copied / name).write_text(source)
    (copied / "trainer.py").write_text("")
    assert digest(trl="1") == original
    (copied / "data" / "spans.py").rename(copied / "data" / "spans_2.py")
    assert digest(trl="1") != original


def test_the_version_covers_all_that_the_preparing_modules_import():
    """Of the package, at run time."""
    covered = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in preparing_sources()}
    imported = set()
    for path in preparing_sources():
        body = ast.parse(path.read_text(encoding="utf-8"))
        typing_only = {
            inner
            for node in ast.walk(body)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
        }
        imported |= {
            node.module
            for node in ast.walk(body)
            if isinstance(node, ast.ImportFrom) and node.module and node not in typing_only
        }
    own = {module for module in imported if module.startswith("llm_jepa.")}
    assert own - covered == {f"llm_jepa.{name}" for name in NOT_IN_ROWS}
    assert len(PREPARATION_VERSION) == 16
