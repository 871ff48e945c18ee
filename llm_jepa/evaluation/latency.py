"""Measures how long a run takes for one request, in every way that it can answer, by turns.

Each way answers the same held-out rows, one at a time: plainly generated, drafted, looked up in the prompt, chosen by
embedding, by a shortlist, by likelihood.
"""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_jepa.compute.devices import processor_name
from llm_jepa.data.prompts import prompt_ids
from llm_jepa.evaluation.candidate_task import CandidateTask, task_of
from llm_jepa.evaluation.decoding_checks import has_own_source_view
from llm_jepa.evaluation.decoding_results import rank_of_gold, timed_scores
from llm_jepa.evaluation.decodings import Decoding
from llm_jepa.evaluation.generation_latency import GenerationLatency
from llm_jepa.evaluation.held_out_rows import HeldOutRow
from llm_jepa.evaluation.interleaving import interleave, latency_figures
from llm_jepa.evaluation.latency_report import FIRST_TOKEN, PLAIN, Hardware, LatencyReport
from llm_jepa.evaluation.peak_memory import PeakMemory
from llm_jepa.evaluation.run_decodings import RunDecodings
from llm_jepa.inference.draft_length import AdaptiveLength, DraftLength
from llm_jepa.inference.drafting import is_croppable
from llm_jepa.inference.packed_linear import packed_copy
from llm_jepa.inference.text_generation import GeneratedText, GenerationMethod, TextGenerator
from llm_jepa.models.adapters import without_adapter
from llm_jepa.models.latent_predictor import PredictorFacts, has_latent_predictor, has_views, read_facts
from llm_jepa.recipe import Recipe
from llm_jepa.runs.record import LIBRARIES, settings_of_run, toolkit_commit
from llm_jepa.settings.objectives import objective_names


@dataclass(frozen=True)
class LatencyOptions:
    """What is measured.

    Attributes:
        max_new_tokens: Limit of a generated text.
        labels: A file with a label per line, to choose from.
        shortlist: How many of the nearest candidates a likelihood is computed of.
        batch_size: Candidates per forward.
        draft_vocabulary: How many tokens are drafted from; the drafter's default if None.
        draft_lengths: Name of a way -> how many tokens it drafts.
    """

    max_new_tokens: int = 128
    labels: Path | None = None
    shortlist: int = 5
    batch_size: int = 16
    draft_vocabulary: int | None = None
    draft_lengths: Mapping[str, DraftLength] = field(default_factory=lambda: {"draft": AdaptiveLength()})


@dataclass(frozen=True)
class Answer:
    """One answer and what it took.

    Attributes:
        is_right: Whether the text is the gold, or the gold alone scores highest; None if nothing was answered.
        text: Of a way that generates.
        peak_memory_bytes: As `PeakMemory`, meanwhile.
    """

    seconds: float
    is_right: bool | None
    text: GeneratedText | None = None
    peak_memory_bytes: int = 0


Way = Callable[[int], Answer]
"""Answers the row of a number."""


class RunWays:
    """The ways in which a run can answer its held-out rows.

    Args:
        model: The tuned model, with its adapter if it has one.
        rows: The held-out rows.

    Attributes:
        ways: Name -> way, `plain` among them.
        task: What is chosen from; None if nothing is.
        notes: What cannot be measured, and why; a sentence each.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        rows: Sequence[HeldOutRow],
        options: LatencyOptions,
    ):
        self.recipe, self.model, self.tokenizer, self.rows, self.options = recipe, model, tokenizer, rows, options
        self.ways: dict[str, Way] = {}
        self.notes: list[str] = []
        self.task: CandidateTask | None = None
        directory = recipe.output_dir
        facts = read_facts(directory) if has_latent_predictor(directory) else None
        if facts is None:
            self.notes.append("The run has no latent predictor: nothing is drafted or ranked in latent space.")
        self._add_generated(facts)
        self._add_chosen(facts)

    def _add_generated(self, facts: PredictorFacts | None) -> None:
        limit = self.options.max_new_tokens
        self._add_generator(FIRST_TOKEN, "plain", 1)
        self._add_generator(PLAIN, "plain", limit)
        inner = without_adapter(self.model)
        if not is_croppable(inner):
            self.notes.append(f"The cache of a {inner.config.model_type} model cannot be cropped: nothing is drafted.")
            return
        self._add_generator("prompt_lookup", "prompt_lookup", limit)
        if facts is None:
            return
        if "next_latent" not in facts.objectives:
            self.notes.append("No drafted tokens: they need `jepa_objective: next_latent`.")
            return
        packed = packed_copy(self.model)
        for name, length in self.options.draft_lengths.items():
            self._add_generator(name, "draft", limit, self.options.draft_vocabulary, length, model=packed)

    def _add_generator(
        self, name: str, method: GenerationMethod, *limits: Any, model: PreTrainedModel | PeftModel | None = None
    ) -> None:
        model = self.model if model is None else model
        generator = TextGenerator.of_run(self.recipe.output_dir, model, self.tokenizer, method, *limits)
        prompts = [prompt_ids(self.tokenizer, row.prompt, row.template_kwargs) for row in self.rows]

        def answer(index: int) -> Answer:
            text = generator.generate(prompts[index])
            is_right = None if name == FIRST_TOKEN else text.text.strip() == self.rows[index].gold.strip()
            return Answer(text.seconds, is_right, text)

        self.ways[name] = _with_peak_memory(answer)

    def _add_chosen(self, facts: PredictorFacts | None) -> None:
        has_own_view = has_own_source_view(self.recipe.settings, self.recipe.output_dir)
        is_ranked = facts is not None and has_views(facts) and not has_own_view
        if facts is not None and not is_ranked:
            self.notes.append("No latent answers: they need `jepa_objective: pair`, and no `source_view_column`.")
        labels = self.options.labels
        if labels is None and self.recipe.training.task != "choice" and not is_ranked:
            return
        self.task = task_of(self.recipe, self.rows, labels)
        limits = self.options.batch_size, self.options.max_new_tokens, self.options.shortlist
        make = RunDecodings(self.recipe, self.model, self.tokenizer, *limits)
        for name in ("latent", "shortlist", "likelihood") if is_ranked else ("likelihood",):
            self.ways[name] = _with_peak_memory(_chosen_by(make(name, self.task)))


def _chosen_by(decoding: Decoding) -> Way:
    def answer(index: int) -> Answer:
        (score_R,), seconds = timed_scores(decoding, [index])
        return Answer(seconds, rank_of_gold(score_R, decoding.task.gold[index]) == 1)

    return answer


def _with_peak_memory(way: Way) -> Way:
    """A way whose answers say how much memory they took."""

    def answer(index: int) -> Answer:
        with PeakMemory() as memory:
            found = way(index)
        return replace(found, peak_memory_bytes=memory.peak_bytes)

    return answer


def measure_latency(run: RunWays, progress: Callable[[int], None] = lambda number: None) -> LatencyReport:
    """Let a run answer each of its rows in every way, by turns.

    Args:
        progress: Called after each row, with 1.
    """
    return latency_report(run, interleave(run.ways, range(len(run.rows)), progress=progress))


def latency_report(run: RunWays, answers: Mapping[str, Sequence[Answer]]) -> LatencyReport:
    """The report of a run whose ways have each answered all of its rows."""
    recipe, options = run.recipe, run.options
    # A model that a run was merged into has no objective of its own.
    objective = settings_of_run(recipe.output_dir).get("jepa_objective", recipe.training.jepa_objective)
    return LatencyReport(
        model=recipe.settings["model_name_or_path"],
        objectives=objective_names(objective),
        dataset=str(recipe.script.dataset_name),
        split=recipe.script.dataset_test_split,
        hardware=hardware_of(run.model.device),
        dtype=str(run.model.dtype).removeprefix("torch."),
        requests=len(run.rows),
        max_new_tokens=options.max_new_tokens,
        candidates=None if run.task is None or run.task.own is not None else len(run.task.candidates),
        peak_memory_bytes=max(answer.peak_memory_bytes for of_way in answers.values() for answer in of_way),
        versions={name: importlib.metadata.version(name) for name in LIBRARIES},
        commit=toolkit_commit(),
        ways={name: _figures(name, answers) for name in run.ways},
    )


def hardware_of(device: torch.device) -> Hardware:
    """The GPU, or the processor and the threads that torch uses."""
    if device.type == "cuda":
        return Hardware(torch.cuda.get_device_name(device), None)
    return Hardware(processor_name(), torch.get_num_threads())


def _figures(name: str, answers: Mapping[str, Sequence[Answer]]) -> dict[str, Any]:
    """The figures of one way as JSON takes them."""
    own, plain = answers[name], answers[PLAIN]
    figures = latency_figures([one.seconds for one in own], [one.seconds for one in plain])
    texts = [one.text for one in own if one.text is not None]
    if texts and name != FIRST_TOKEN:
        plain_texts = [one.text for one in plain if one.text is not None]
        figures |= GenerationLatency(texts, plain_texts).report()
    right = None if name == FIRST_TOKEN else sum(bool(one.is_right) for one in own)
    return figures | {"right": right, "peak_memory_bytes": max(one.peak_memory_bytes for one in own)}
