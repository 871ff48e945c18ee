"""The pages of docs/: made from one source, linked, built as a site."""

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llm_jepa import JEPAConfig
from llm_jepa.compute.flops import ModelSize, StepCounts, step_flops
from llm_jepa.objectives.registry import new_objective
from llm_jepa.settings.objectives import OBJECTIVES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}


def script(name: str):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_what_the_script_draws():
    drawing = script("draw_row")
    assert drawing.PICTURE.read_text(encoding="utf-8") == drawing.draw()


@pytest.mark.parametrize(("page", "kind"), [("options", "text"), ("vl", "vision")])
def test_the_table_of_options_is_made_from_the_fields(page, kind):
    assert script("options_table").with_table(PAGES[page], kind) == PAGES[page]


def test_the_site_builds_strictly_and_fetches_nothing_from_elsewhere(tmp_path):
    """Strictly: a page outside the navigation, or a link or an anchor that leads nowhere, is an error."""
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [*tmp_path.rglob("*.html")]
    assert len(pages) > len(PAGES)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|img|iframe)[^>]*src="?(https?:|//)', text) == []
        assert re.findall(r'<link[^>]*rel="?(?:stylesheet|preconnect|icon)[^>]*href="?(?:https?:|//)', text) == []


@pytest.mark.parametrize("path", [ROOT / "README.md", *DOCS.glob("*.md")], ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path):
    """As GitHub shows them: paths from the page's folder, headings of the page they name."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        file, _, heading = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}, target


COUNTED = [
    ("alone", {}),
    ("prefix_sg", {"jepa_source_view": "prefix", "jepa_target": "stop_gradient"}),
    ("prefix_sg", {"jepa_source_view": "prefix", "jepa_target": "ema"}),
    ("prefix_sg", {"jepa_objective": "answer_code", "jepa_source_view": "prefix"}),
    ("sft", {"jepa_objective": "tube"}),
    ("sft", {"jepa_objective": "step"}),
    ("sft", {"jepa_objective": "next_latent"}),
    ("sft", {"jepa_objective": "next_latent", "detach_backbone": True, "latent_width": 2, "rollout_steps": 4}),
    ("sft", {"jepa_objective": "multi_token"}),
]
"""The rows of the page's table that have figures: the arm of step_cost with the same tokens, and the options."""


def test_the_costs_of_objectives_are_counted_on_the_committed_batches():
    """FLOPs over SFT's; codes have the tokens of `prefix` and no forward of the target."""
    shown = re.findall(r"^\|.*\| (\d\.\d\d) / (\d\.\d\d) \|", PAGES["objectives"], re.MULTILINE)
    for column, data in enumerate(("nl_rx_synth", "gsm8k")):
        results = ROOT / "benchmarks" / "results" / f"step_cost-cpu-{data}.json"
        table = json.loads(results.read_text())["tables"][0]
        shape = table["model_size"]
        matrices = shape["backbone_parameters"], shape["head_parameters"]
        size = ModelSize(*matrices, *matrices, width=576)

        def counts(arm: str, arms: dict = table["arms"]) -> list[StepCounts]:
            names = ("conversation_tokens", "tokens", "detached_tokens", "labelled_tokens")
            counted = [one for rounds in arms[arm]["rounds"] for one in rounds["counts"]]
            return [StepCounts(**{name: one[name] for name in names}) for one in counted]

        sft = sum(step_flops(count, size) for count in counts("sft"))
        floors = []
        for arm, options in COUNTED:
            objective = new_objective(JEPAConfig("unused", report_to="none", **options))
            steps = counts(arm)
            if options.get("jepa_objective") == "answer_code":
                # The committed batches do not tell the tokens of the target; the labels are about as many.
                targets = [{"uncomputed_target_tokens": count.labelled_tokens} for count in steps]
                steps = [replace(one, detached_tokens=0, **of) for one, of in zip(steps, targets, strict=True)]
            total = sum(step_flops(count, size) + objective.extra_flops(count, size) for count in steps)
            floors.append(f"{total / sft:.2f}")
        assert [row[column] for row in shown] == floors


def test_the_page_of_objectives_has_a_section_of_each():
    headings = " ".join(re.findall(r"^## (.*)$", PAGES["objectives"], re.MULTILINE))
    assert [name for name in OBJECTIVES if not re.search(rf"\b{name}\b", headings)] == []


def test_the_architecture_page_names_every_folder_of_the_package_and_no_other():
    section = PAGES["architecture"].partition("The folders of `llm_jepa/`")[2].partition("Beside the package")[0]
    first_cells = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    named = {name.rstrip("/") for cell in first_cells for name in re.findall(r"`(.*?)`", cell)}
    package = ROOT / "llm_jepa"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert named == folders | {path.name for path in package.glob("*.py")} - {"__init__.py"}
