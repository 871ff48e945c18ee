"""The folder tree is the architecture: imports go downward only, and the leaves import nothing of the package."""

import ast
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PACKAGE = Path(__file__).parent.parent / "llm_jepa"
ORDER = [
    "cli",
    "experiments",
    "planning",
    "train",
    "preflight",
    "inspection",
    "evaluation",
    "recipe_schema",
    "vision",
    "inference",
    "trainer",
    "hub",
    "models",
    "training",
    "objectives",
    "layouts",
    "data",
    "runs",
    "recipe",
    "config",
    "options",
    "preparers",
    "entry",
    "files",
    "settings",
    "compute",
    "scoring",
]
"""Folders, and modules at the top, from the top down: each imports from what stands below it in this list alone."""
LEAVES = [
    "settings",
    "compute",
    "scoring",
    "files",
    "objectives/losses",
    "objectives/diagnostics",
    "objectives/own_parameters",
    "objectives/draws",
    "objectives/gathering",
    "layouts/masks",
    "data/cache_key",
    "data/spans",
    "data/turns",
    "data/validation",
    "experiments/significance",
    "planning/memory",
    "planning/estimate",
]
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return {module for module in found if module.split(".")[0] == "llm_jepa"}


def folder_of(module: str) -> str:
    """`llm_jepa.layouts.packed` -> `layouts`; the package itself, which exports `trainer`, -> `trainer`."""
    return [*module.split("."), "trainer"][1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_folder_imports_from_folders_below_it_alone(path):
    folder = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    below = {folder, *ORDER[ORDER.index(folder) + 1 :]}
    assert {folder_of(module) for module in imported_modules(path)} <= below


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_imports_nothing_of_the_package(leaf):
    place = f"llm_jepa.{leaf.replace('/', '.')}"
    paths = [PACKAGE / f"{leaf}.py"] if (PACKAGE / f"{leaf}.py").exists() else list((PACKAGE / leaf).rglob("*.py"))
    imported = {module for path in paths for module in imported_modules(path)}
    assert {module for module in imported if module != place and not module.startswith(f"{place}.")} == set()


def test_no_files_import_each_other():
    """Nor a chain of files its own beginning, an import for types alone included."""
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in MODULES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    graph = {name: imported_modules(path) & names.keys() for name, path in names.items()}
    assert len([*TopologicalSorter(graph).static_order()]) == len(names)


def test_every_folder_has_its_place_and_says_what_it_is_for():
    """Its `__init__.py` begins with a sentence, and the top holds ten modules at most."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    top = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert folders | top == set(ORDER)
    assert len(top) < 10
    for folder in folders:
        assert ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text(encoding="utf-8")))


DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml", "lm_eval": "lm-eval"}
"""Those whose modules have another name."""
UNDECLARED = {"vllm"}
"""It brings a torch of its own, so nobody gets it by an extra."""


def test_whatever_is_imported_is_a_declared_dependency():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [one for group in project["optional-dependencies"].values() for one in group]
    declared = {Requirement(one).name.replace("-", "_") for one in [*project["dependencies"], *extras]}
    imported = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            imported |= {name.split(".")[0] for name in names}
    others = imported - set(sys.stdlib_module_names) - {"llm_jepa"} - UNDECLARED
    assert {DISTRIBUTIONS.get(name, name).replace("-", "_") for name in others} <= declared
