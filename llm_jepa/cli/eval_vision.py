"""Score a run of VL-JEPA on held-out rows: accuracy among candidates, retrieval both ways."""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from llm_jepa.cli.consoles import new_console
from llm_jepa.cli.progress import bars
from llm_jepa.cli.tables import INTERVAL_CAPTION, percent, rate_text, table_of
from llm_jepa.evaluation.results import scored_data, warn_of_replaced_scores, write_predictions
from llm_jepa.evaluation.vision import VisionResult, evaluate_model, load_subject
from llm_jepa.files.atomic import write_json
from llm_jepa.inference.candidates import read_answers
from llm_jepa.runs.record import SCORES_FILES
from llm_jepa.vision.recipe import VisionRecipe, parse_any_recipe


def run(args: argparse.Namespace, path: Path, overrides: list[str]) -> int:
    recipe = parse_any_recipe([str(path), *overrides])
    assert isinstance(recipe, VisionRecipe)
    labels = None if args.labels is None else read_answers(args.labels)
    directory = args.predictions or recipe.output_dir
    model, held_out = load_subject(recipe, labels, args.max_rows)
    data = _scored_data(recipe, labels, len(held_out.rows))
    warn_of_replaced_scores(["tuned"], directory, data)
    with bars(["rows"], len(held_out.rows)) as advance:
        result = evaluate_model(model, held_out, args.eval_batch_size, lambda number: advance("rows", number))
    write_predictions(result.predictions, directory / "predictions-tuned.jsonl")
    write_json(_content(result, data), directory / SCORES_FILES["tuned"])
    _show(new_console(highlight=False), result, "image" if recipe.training.sees_images else "question")
    print(f"predictions and scores: {directory}")
    return 0


def _scored_data(recipe: VisionRecipe, labels: Sequence[str] | None, num_rows: int) -> dict[str, Any]:
    """What a scores file says of the data; of `--labels` a digest, null without them."""
    digest = labels and hashlib.sha256(json.dumps([*labels]).encode()).hexdigest()
    return scored_data(recipe.source, num_rows) | {"labels": digest}


def _content(result: VisionResult, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "checkpoint": "tuned",
        **data,
        "date": datetime.now(UTC).date().isoformat(),
        "scores": {name: asdict(rate) | {"interval": rate.interval} for name, rate in result.scores.items()},
        "chance": result.chance,
        **({"image_to_answer": result.image_to_answer} if result.image_to_answer else {}),
        **({"answer_to_image": result.answer_to_image} if result.answer_to_image else {}),
    }


def _show(console: Console, result: VisionResult, given: str) -> None:
    """Print the scores; `given` is what retrieval is by, an image or, of a blind model, a question."""
    table = table_of(["score"], caption=INTERVAL_CAPTION)
    table.add_row("accuracy", rate_text(result.scores["accuracy"]))
    if "exact_match" in result.scores:
        table.add_row("generated text is the answer", rate_text(result.scores["exact_match"]))
    table.add_row("most frequent answer", rate_text(result.scores["most_frequent"]))
    table.add_row("chance", percent(result.chance))
    table.add_row("rows", str(len(result.predictions)))
    console.print(table)
    if not result.image_to_answer:
        return
    ways = {f"{given} to answer": result.image_to_answer, f"answer to {given}": result.answer_to_image}
    retrieval = table_of(("R@1", "R@5", "R@10", "MRR"), title="retrieval")
    for name, scores in ways.items():
        retrieval.add_row(name, *map(percent, scores.values()))
    console.print(retrieval)
