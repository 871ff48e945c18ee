"""Answer queries with the nearest of an index of answers, or questions on a picture, one forward of the model each."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import datasets
import torch
import transformers

from llm_jepa.cli.inference_arguments import ANSWERS_PER_QUERY
from llm_jepa.cli.progress import bars
from llm_jepa.inference.answer_checks import check_same_answers
from llm_jepa.inference.answer_index import AnswerIndex, Hit
from llm_jepa.inference.candidates import answers_of_column, read_answers, read_texts
from llm_jepa.inference.encoder import LatentEncoder
from llm_jepa.inference.index_files import has_index
from llm_jepa.models.local_files import is_vision_model
from llm_jepa.vision.model import VLJEPAModel


def run(args: argparse.Namespace) -> int:
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    queries = read_texts(args.queries, "query") if args.queries is not None else []
    queries += [] if args.query is None else [args.query]
    if is_vision_model(args.run):
        return _answer_picture(args, queries)
    is_new = not has_index(args.index)
    answers = _answers(args)
    if answers and not is_new:
        check_same_answers(args.index, answers, args.answers)
    encoder = LatentEncoder.from_run(args.run)
    index = _built(encoder, answers, args.index) if is_new else _changed(args, encoder)
    if not queries:
        print(f"{len(index):,} answers: {args.index}")
    top = args.top or ANSWERS_PER_QUERY
    for query, hits in zip(queries, index.ask(encoder, queries, top), strict=True):
        print(_json(query, hits) if args.json else _lines(query, hits))
    return 0


def _answer_picture(args: argparse.Namespace, queries: Sequence[str]) -> int:
    """Answer each query, or the picture alone if there are none: the nearest candidates, or decoded text."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    model = VLJEPAModel.from_pretrained(args.run).eval().to(device)
    num_rows = len(queries) or 1
    images = None
    if args.image is not None:
        images = [args.image[0] if len(args.image) == 1 else args.image] * num_rows
    shown = queries or [", ".join(map(str, args.image))]
    if args.candidates is not None:
        candidates, top = [read_answers(args.candidates)] * num_rows, args.top or ANSWERS_PER_QUERY
        for query, hits in zip(shown, model.rank(images, queries or None, candidates), strict=True):
            print(_json(query, hits[:top]) if args.json else _lines(query, hits[:top]))
        return 0
    for query, text in zip(shown, model.decode(model.predict(images, queries or None)), strict=True):
        print(json.dumps({"query": query, "text": text}, ensure_ascii=False) if args.json else f"{query}\n  {text}")
    return 0


def _answers(args: argparse.Namespace) -> list[str]:
    """The answers that are given; none if an index is there and they are not given again."""
    if args.answers is None:
        return []
    if args.answers_column is None:
        return read_answers(Path(args.answers))
    return answers_of_column(args.answers, args.answers_column, args.answers_split or "train")


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
