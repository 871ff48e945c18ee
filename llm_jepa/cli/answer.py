"""Answer queries with the nearest of an index of answers, one forward of the model each."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import datasets
import transformers

from llm_jepa.cli.progress import bars
from llm_jepa.inference.answer_index import AnswerIndex, Hit
from llm_jepa.inference.candidates import answers_of_column, read_answers, read_texts
from llm_jepa.inference.encoder import LatentEncoder
from llm_jepa.inference.index_files import has_index


def run(args: argparse.Namespace) -> int:
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    queries = read_texts(args.queries, "query") if args.queries is not None else []
    queries += [] if args.query is None else [args.query]
    is_new = not has_index(args.index)
    answers = _answers(args) if is_new else []
    encoder = LatentEncoder.from_run(args.run)
    index = _built(encoder, answers, args.index) if is_new else _changed(args, encoder)
    if not queries:
        print(f"{len(index):,} answers: {args.index}")
    for query, hits in zip(queries, index.ask(encoder, queries, args.top), strict=True):
        print(_json(query, hits) if args.json else _lines(query, hits))
    return 0


def _answers(args: argparse.Namespace) -> list[str]:
    if args.answers_column is None:
        return read_answers(Path(args.answers))
    return answers_of_column(args.answers, args.answers_column, args.answers_split)


def _built(encoder: LatentEncoder, answers: Sequence[str], directory: Path) -> AnswerIndex:
    with bars(["answers"], len(answers)) as advance:
        index = AnswerIndex.build(encoder, answers, progress=lambda number: advance("answers", number))
    index.save(directory)
    return index


def _changed(args: argparse.Namespace, encoder: LatentEncoder) -> AnswerIndex:
    """The index that is there, with the answers of `--add` and without those of `--delete`; saved if any are given."""
    index = AnswerIndex.load(args.index)
    if args.add is not None:
        added = read_answers(args.add)
        with bars(["answers"], len(added)) as advance:
            index = index.add(encoder, added, lambda number: advance("answers", number))
    if args.delete is not None:
        index = index.delete(read_answers(args.delete))
    if args.add is not None or args.delete is not None:
        index.save(args.index)
    return index


def _json(query: str, hits: Sequence[Hit]) -> str:
    return json.dumps({"query": query, "answers": [asdict(hit) for hit in hits]}, ensure_ascii=False)


def _lines(query: str, hits: Sequence[Hit]) -> str:
    """The query, and below it each answer with its cosine."""
    return "\n".join([query, *(f"  {hit.score:.4f}  {hit.answer}{_tie(hit)}" for hit in hits)])


def _tie(hit: Hit) -> str:
    return f"  (one of {hit.num_equal + 1} with this score)" if hit.num_equal else ""
