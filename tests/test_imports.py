"""The folder tree is the architecture: imports go downward only, and the leaves import nothing of the package."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "llm_jepa"
LAYERS = [
    {"cli"},
    {"comparison", "report", "embedding_figures"},
    {"experiment", "cell", "arm_cost", "figures", "probe", "subject"},
    {"merging"},
    {"evaluation", "inspection", "planning", "data_profile"},
    {"vllm_generation", "prepared_recipe"},
    {"arms"},
    {"train", "prediction_log", "likelihood", "schedule"},
    {"generation", "loading", "preparers"},
    {"trainer", "interruption"},
    {"publishing_trainer", "resumable"},
    {"hub"},
    {"model_card"},
    {"sources"},
    {"publication"},
    {"adapters"},
    {"run_record"},
    {"recipe", "vllm_lora"},
    {"preparation", "view_forward", "metrics", "layout_choice", "random_weights"},
    {"mask_probe", "collator", "predictor", "modeling", "refusals", "view_pairs"},
    {"layouts", "varlen_reference", "rows"},
    {"masks", "views"},
    {"checkpoints"},
    {"config", "entry", "throughput"},
    {
        "spans",
        "view_fields",
        "mapping_proposal",
        "draws",
        "losses",
        "scoring",
        "diagnostics",
        "statistics",
        "flops",
        "gathering",
        "trainable_weights",
        "text_lines",
        "fetched_files",
        "devices",
        "whole_files",
        "hub_errors",
        "owners_card",
    },
    {"turns"},
]
LEAVES = {
    "losses",
    "scoring",
    "diagnostics",
    "masks",
    "predictor",
    "flops",
    "spans",
    "draws",
    "statistics",
    "view_fields",
    "devices",
    "turns",
}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def unit_of(module: str) -> str:
    """`llm_jepa.layouts.packed` -> `layouts`: a module of the package, or a folder of it."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported_units(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules = [node.module]
        found |= {unit_of(module) for module in modules if module.split(".")[0] == "llm_jepa"}
    return found


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_from_layers_below_it_alone(path):
    unit = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert unit in LEVEL, f"{unit} has no layer yet: give it one in LAYERS"
    upward = {other for other in imported_units(path) - {unit} if LEVEL[other] <= LEVEL[unit]}
    assert upward == set()


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_a_leaf_imports_nothing_of_the_package(leaf):
    paths = [PACKAGE / f"{leaf}.py"] if (PACKAGE / f"{leaf}.py").exists() else list((PACKAGE / leaf).glob("*.py"))
    assert {unit for path in paths for unit in imported_units(path)} <= {leaf}
