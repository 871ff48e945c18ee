"""Makes Markdown tables of what run.sh has written: prints them, and writes them to OUT/report.md.

python benchmarks/gpu/report.py OUT
"""

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from llm_jepa.compute.devices import GIB, TERA, recognise_gpu

TIMED_OUT = (124, 137)
HEADINGS = {
    "step_cost": "Cost of a step",
    "features": "With checkpointing, with Liger",
    "compiled": "Compiled",
}
COLUMNS = (
    *("arm", "ratio (quartiles)", "to labelled", "counted floor", "s/step", "tokens/s"),
    *("FLOP utilisation", "peak memory, GiB", "planned, GiB"),
)


def main() -> None:
    """Read a directory of results, make the tables of those that are there."""
    directory = Path(sys.argv[1])
    planned = read(directory, "planned_memory") or {}
    sections = [environment(read(directory, "environment")), parts(directory / "parts.jsonl")]
    sections.append(tests(directory / "tests.xml"))
    for group, heading in HEADINGS.items():
        results = read(directory, group)
        if results is not None:
            sections += [f"## {heading}", *(scenario(result, planned.get(result["name"], {})) for result in results)]
    text = "\n\n".join(section for section in sections if section) + "\n"
    (directory / "report.md").write_text(text, encoding="utf-8")
    print(text)


def read(directory: Path, name: str) -> Any:
    """A JSON file's content; None if it is not there."""
    path = directory / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def markdown(header: tuple[str, ...], rows: list[list[str]]) -> str:
    """A table."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def environment(found: dict[str, Any] | None) -> str:
    """The machine in a line, the packages in another, and the errors of those that are missing."""
    if found is None:
        return ""
    gpu = found.get("gpu")
    machine = "no GPU" if gpu is None else f"{gpu['name']}, {gpu['memory_bytes'] / GIB:.0f} GiB, CUDA {gpu['cuda']}"
    packages = found["packages"]
    names = [f"{name} {one['version']}" for name, one in packages.items() if "version" in one]
    missing = [f"- `{name}` cannot be imported: {one['error']}" for name, one in packages.items() if "error" in one]
    commit = found.get("commit")
    checkout = "" if commit is None else f"; commit {commit['hash'][:7]}{' and changes' if commit['is_dirty'] else ''}"
    return "\n".join(
        ["## Environment", "", f"{machine}; Python {found['python']}{checkout}", "", ", ".join(names), *missing]
    )


def parts(path: Path) -> str:
    """What became of each part."""
    if not path.is_file():
        return ""
    rows = []
    for one in map(json.loads, filter(None, path.read_text().split("\n"))):
        status = one["status"]
        outcome = "ok" if status == 0 else "out of time" if status in TIMED_OUT else f"failed ({status})"
        rows.append([one["part"], outcome, f"{one['seconds']}"])
    return "## Parts\n\n" + markdown(("part", "", "seconds"), rows)


def tests(path: Path) -> str:
    """How many tests passed, and what those say that failed or were skipped."""
    if not path.is_file():
        return ""
    lines: list[str] = []
    cases = list(ElementTree.parse(path).iter("testcase"))
    counts = dict.fromkeys(("passed", "failure", "error", "skipped"), 0)
    for case in cases:
        found = next((child for child in case if child.tag in counts), None)
        counts["passed" if found is None else found.tag] += 1
        if found is not None:
            lines.append(f"- {case.get('name')}: {found.tag}, {first_line(found.get('message') or '')}")
    summary = ", ".join(f"{number} {name}" for name, number in counts.items())
    return "\n".join(["## Tests", "", summary, "", *lines])


def scenario(result: dict[str, Any], planned: dict[str, float]) -> str:
    """The tables of a scenario, or why there is none."""
    title = f"### {result['name']}\n\n"
    if "error" in result:
        return f"{title}Failed: {first_line(result['error'])}"
    report = result["report"]
    return title + "\n\n".join(table(one, report["hardware"]["gpu"], planned) for one in report["tables"])


def table(measured: dict[str, Any], gpu_name: str | None, planned: dict[str, float]) -> str:
    """One row for each arm; the arms that failed say why in a list below."""
    gpu = None if gpu_name is None else recognise_gpu(gpu_name)
    peak_tflops = None if gpu is None else gpu.peak_flops_per_second(is_half=True, has_tf32=False) / TERA
    rows = []
    for name, arm in measured["arms"].items():
        figures, peak_bytes = arm["summary"], arm["peak_memory_bytes"]
        low, high = figures["ratio_quartiles"]
        rows.append(
            [
                name,
                f"{figures['ratio']:.2f} ({low:.2f}-{high:.2f})",
                number(figures["ratio_to_labelled"], ".2f"),
                f"{figures['floor']:.2f}",
                f"{figures['step_seconds']:.3f}",
                f"{figures['tokens_per_second']:.0f}",
                number(None if peak_tflops is None else figures["tflops_per_second"] / peak_tflops, ".0%"),
                number(None if peak_bytes is None else peak_bytes / GIB, ".2f"),
                number(planned[name] / GIB if name in planned else None, ".2f"),
            ]
        )
    errors = [f"- {arm} failed: {first_line(error)}" for arm, error in measured["errors"].items()]
    return "\n".join([markdown(COLUMNS, rows), *([""] if errors else []), *errors])


def number(value: float | None, form: str) -> str:
    """A figure, or a dash in its place."""
    return "-" if value is None else format(value, form)


def first_line(message: str) -> str:
    """Of an error, as much as a list takes."""
    return (message.strip().splitlines() or [""])[0][:300]


if __name__ == "__main__":
    main()
