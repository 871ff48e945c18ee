"""`Drafter`: the same text with fewer forwards. The latent dynamics of `next_latent` draft, the model verifies.

Each forward of the model verifies the tokens that were drafted for it and gives one token more (speculative decoding,
arXiv 2211.17192). Drafting goes on from the hidden state of the last verified position, computed by that forward.
Legend: S positions, D the model's width.
"""

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.candidate_generator import CandidateGenerator

from llm_jepa.inference.draft_counts import DraftCounts
from llm_jepa.inference.draft_length import AdaptiveLength, DraftLength
from llm_jepa.inference.latent_drafts import DraftHead, rollout_of
from llm_jepa.models.adapters import without_adapter
from llm_jepa.models.latent_predictor import (
    DRAFT_TOKENS,
    PredictorFacts,
    check_drafts,
    check_fits,
    read_facts,
    read_weights,
)
from llm_jepa.objectives.latent_dynamics import CACHE_ARGUMENT
from llm_jepa.objectives.next_latent import new_dynamics

DRAFT_VOCABULARY = 2048
"""As many tokens are drafted, if a run has more in its targets."""
_SELECTS_ASSISTED_GENERATION = {"prompt_lookup_num_tokens": 1}  # any number does; the candidates are ours
UNSUPPORTED = ("stop_strings", "stopping_criteria", "max_time", "cache", "past_key_values", "inputs_embeds")
"""Arguments of `generate` with which drafting is refused: several tokens come at a time, and from the prompt on."""


class LatentCandidates(CandidateGenerator):
    """Drafts the tokens that transformers' assisted generation verifies.

    Args:
        model: The causal LM, without a PEFT wrapper.
        dynamics: g of `next_latent`.
        token_ids: The draft vocabulary; None for the whole vocabulary.
        length: How many tokens to draft.

    Attributes:
        counts: Of all that was generated.
        text_counts: Of the last text.
    """

    def __init__(
        self, model: PreTrainedModel, dynamics: nn.Module, token_ids: Sequence[int] | None, length: DraftLength
    ):
        self.embed = model.get_input_embeddings()
        self.head = DraftHead(model, token_ids)
        self.rollout = rollout_of(dynamics)
        self.length = length
        self.counts = DraftCounts()
        self.start(0)

    def start(self, max_length: int) -> None:
        """Begin a text of at most so many tokens, the prompt included."""
        self.max_length = max_length
        self.text_counts = DraftCounts()
        self.rollout.start()
        self._verified: list[Tensor] = []  # hidden_1SD of verified positions that the rollout has not read yet
        self._forward_1SD: Tensor | None = None
        self._is_prompt = True
        self._num_tokens = 0
        self._drafted: list[int] = []
        self._start_seconds = 0.0

    def keep_hidden_states(self, hidden_1SD: Tensor) -> None:
        """Take the hidden states after the final norm of a forward."""
        self._forward_1SD = hidden_1SD

    @torch.no_grad()
    def get_candidates(self, input_ids: Any, **kwargs: Any) -> tuple[Any, Any]:
        """The text with drafted tokens after it; without any before the forward of the prompt."""
        self._start_seconds = time.perf_counter()
        self._num_tokens = input_ids.shape[1]
        room = self.max_length - self._num_tokens - 1  # the forward gives a token of its own
        num_drafted = min(self.length.choose(), room) if self._verified else 0
        if num_drafted <= 0:
            self._drafted = []
            return input_ids, None
        hidden_1SD = torch.cat(self._verified, dim=1)
        self._verified = []
        # the states of positions t - S .. t - 1 go with the tokens t - S + 1 .. t, which follow them
        state_11D = self.rollout.verified(hidden_1SD, self.embed(input_ids[:, -hidden_1SD.shape[1] :]))
        drafted = [self.head.token(state_11D)]
        while len(drafted) < num_drafted:
            state_11D = self.rollout.drafted(state_11D, self.embed(drafted[-1]))
            drafted.append(self.head.token(state_11D))
        drafted_1K = torch.cat(drafted, dim=1)
        self._drafted = drafted_1K[0].tolist()
        return torch.cat([input_ids, drafted_1K], dim=1), None

    def update_candidate_strategy(self, input_ids: Any, scores: Any, num_matches: Any) -> None:
        """Keep the hidden states of the verified positions, and learn how many tokens were accepted."""
        assert self._forward_1SD is not None, "the backbone has run"
        tokens = input_ids[0, self._num_tokens :].tolist()
        # The forward read a token and those drafted after it. Example: 3 were drafted, 2 tokens come out: of the last
        # 4 hidden states the first 2 are of verified positions.
        num_unverified = len(self._drafted) + 1 - len(tokens)
        self._verified.append(self._forward_1SD[:, : self._forward_1SD.shape[1] - num_unverified])
        num_verified, num_accepted = self.counts.add(self._drafted, tokens)
        self.text_counts.add(self._drafted, tokens)
        if not self._is_prompt:
            seconds = time.perf_counter() - self._start_seconds
            self.length.observe(len(self._drafted), num_verified, num_accepted, seconds)
        self._is_prompt = False


class Drafter:
    """Generates with drafted tokens: greedily the text of `model.generate`, sampled from the same distribution.

    Args:
        model: The tuned causal LM, with its adapter if it has one.
        dynamics: g of `next_latent`, which was trained beside it.
        token_ids: The draft vocabulary; None for the whole vocabulary.
        length: How many tokens to draft; adaptive if None.

    Raises:
        ValueError: The model's cache cannot be cropped.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        dynamics: nn.Module,
        token_ids: Sequence[int] | None = None,
        length: DraftLength | None = None,
    ):
        inner = without_adapter(model)
        check_croppable(inner)
        self.model, self.inner = model, inner
        dynamics = dynamics.to(inner.device, inner.dtype).eval()
        self.candidates = LatentCandidates(inner, dynamics, token_ids, length or AdaptiveLength())

    @classmethod
    def from_predictor(
        cls,
        directory: str | Path,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        draft_vocabulary: int = DRAFT_VOCABULARY,
        length: DraftLength | None = None,
    ) -> "Drafter":
        """Load the drafter from a run's `latent_predictor/`, beside the run's model.

        Args:
            draft_vocabulary: How many of the most frequent tokens of the training's targets are drafted.

        Raises:
            ValueError: There is none, it drafts no tokens or belongs to another model, or the model's cache cannot be
                cropped.
        """
        facts = read_facts(Path(directory))
        check_drafts(facts)
        inner = without_adapter(model)
        check_fits(facts, inner, tokenizer)
        weights = read_weights(Path(directory))
        token_ids_V = weights.get(DRAFT_TOKENS)
        token_ids = None if token_ids_V is None else token_ids_V[:draft_vocabulary].tolist()
        return cls(model, trained_dynamics(facts, weights, inner.config.get_text_config()), token_ids, length)

    @property
    def counts(self) -> DraftCounts:
        """Of all that was generated so far."""
        return self.candidates.counts

    def generate(self, input_ids_1S: Tensor, **options: Any) -> Tensor:
        """The prompt and the text after it, as `model.generate` gives them.

        Args:
            options: Those of `generate`, such as `max_new_tokens`, `do_sample` or `streamer`.

        Raises:
            ValueError: There are several prompts, beams, or an option that drafting does not take.
        """
        if input_ids_1S.shape[0] != 1:
            raise ValueError(f"There are {input_ids_1S.shape[0]} prompts. Draft for one at a time.")
        config = options.pop("generation_config", None) or self.inner.generation_config
        for name in UNSUPPORTED:
            if options.get(name, getattr(config, name, None)) is not None:
                raise ValueError(
                    f"`{name}` has no drafted form, since a forward gives several tokens. Leave it out, also of the "
                    "generation config."
                )
        options["generation_config"] = copy.deepcopy(config)
        options["generation_config"].update(**_SELECTS_ASSISTED_GENERATION)
        with self._candidates_handed_over():
            return cast(Any, self.model).generate(input_ids=input_ids_1S, **options)

    @contextmanager
    def _candidates_handed_over(self) -> Iterator[None]:
        """Make transformers' assisted generation ask our candidates, and show them every forward's hidden states."""

        def candidate_generator(generation_config: GenerationConfig, **_: Any) -> LatentCandidates:
            assert generation_config.max_length is not None
            self.candidates.start(generation_config.max_length)
            return self.candidates

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            self.candidates.keep_hidden_states(output[0])

        model: Any = self.inner
        hook = model.base_model.register_forward_hook(keep)
        model._get_candidate_generator = candidate_generator
        try:
            yield
        finally:
            del model._get_candidate_generator
            hook.remove()


def trained_dynamics(facts: PredictorFacts, weights: Mapping[str, Tensor], config: PreTrainedConfig) -> nn.Module:
    """g as a run has trained it, beside a model of this text config."""
    prefix = "next_latent."  # before its weights if it was trained among several objectives
    prefix = prefix if any(name.startswith(prefix) for name in weights) else ""
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    own.pop(DRAFT_TOKENS, None)
    options: Any = SimpleNamespace(**facts.options)
    dynamics = new_dynamics(options, config)
    dynamics.load_state_dict(own)
    return dynamics


@torch.no_grad()
def is_croppable(model: PreTrainedModel) -> bool:
    """Whether drafted tokens can be taken back out of a model's cache, by a forward of one token."""
    output = model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=True)
    cache = getattr(output, CACHE_ARGUMENT, None)
    return cache is not None and cache.is_croppable


def check_croppable(model: PreTrainedModel) -> None:
    """Check that drafted tokens can be taken back out of a model's cache.

    Raises:
        ValueError: They cannot.
    """
    if not is_croppable(model):
        raise ValueError(
            f"The cache of a {model.config.model_type} model cannot be cropped, so a drafted token that is refused "
            "could not be taken back. Use `--decoding plain`."
        )
