"""Greedy generation with vLLM: prompts, stop tokens and limits as in `evaluation.generation`."""

import gc
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from transformers import AutoConfig, GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from llm_jepa.evaluation.generation import Engine, GenerateBatch
from llm_jepa.models.base_and_tuned import weights_dtype
from llm_jepa.models.checkpoint_choice import Checkpoint, is_adapter
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.stop_tokens import generation_config_of
from llm_jepa.models.vllm_lora import max_lora_rank
from llm_jepa.recipe import Recipe


@dataclass
class VLLMEngine(Engine):
    """A `vllm.LLM`, with an adapter (`LoRARequest`) or None."""

    llm: Any
    generation_config: GenerationConfig
    max_positions: int | None
    adapter: Any = None

    @contextmanager
    def generating(
        self, tokenizer: PreTrainedTokenizerBase, stop_ids: list[int], max_new_tokens: int
    ) -> Iterator[GenerateBatch]:
        """vLLM batches on its own; `batch_size` only limits how many prompts are handed over."""
        from vllm import SamplingParams

        sampling = SamplingParams(temperature=0, max_tokens=max_new_tokens, stop_token_ids=stop_ids, detokenize=False)

        def generate_batch(prompt_ids: list[list[int]]) -> list[list[int]]:
            prompts = [{"prompt_token_ids": ids} for ids in prompt_ids]
            results = self.llm.generate(prompts, sampling, lora_request=self.adapter, use_tqdm=False)
            return [list(result.outputs[0].token_ids) for result in results]

        yield generate_batch


def check_vllm(recipe: Recipe, checkpoints: Sequence[Checkpoint]) -> None:
    """Check that vLLM is installed and supports the recipe and its adapter.

    Raises:
        ValueError: It is not installed, or does not support them.
    """
    idle = {
        "task: choice": recipe.training.task == "choice",
        "load_in_4bit": recipe.model.load_in_4bit,
        "load_in_8bit": recipe.model.load_in_8bit,
        "model_init_kwargs": recipe.settings.get("model_init_kwargs"),
    }
    refused = [name for name, is_set in idle.items() if is_set]
    if refused:
        raise ValueError(f"`--backend vllm` does not support `{'`, `'.join(refused)}`. Use `--backend transformers`.")
    if "tuned" in checkpoints and is_adapter(recipe.output_dir):
        max_lora_rank(recipe.output_dir)
    if importlib.util.find_spec("vllm") is None:
        raise ValueError(
            "`--backend vllm`: vLLM is not installed. Install it (pip install vllm), or leave the option out."
        )


def load_vllm_checkpoints(
    recipe: Recipe, checkpoints: Sequence[Checkpoint], engine_options: Mapping[str, Any]
) -> Iterator[tuple[Checkpoint, str, VLLMEngine]]:
    """Load the checkpoints into vLLM, in the order of `models.base_and_tuned`; base and adapter share one engine.

    `engine_options` are passed to `vllm.LLM` and override the options set here.
    """
    base, tuned = resolve_model(recipe.settings["model_name_or_path"], recipe.model.model_revision), recipe.output_dir
    has_adapter = "tuned" in checkpoints and is_adapter(tuned)
    if "base" in checkpoints or has_adapter:
        rank = max_lora_rank(tuned) if has_adapter else None
        engine = _load(recipe, base, recipe.model.model_revision, rank, engine_options)
        if "base" in checkpoints:
            yield "base", base, engine
        if has_adapter:
            from vllm.lora.request import LoRARequest

            yield "tuned", str(tuned), replace(engine, adapter=LoRARequest("tuned", 1, str(tuned)))
        del engine
        gc.collect()
    if "tuned" in checkpoints and not has_adapter:
        yield "tuned", str(tuned), _load(recipe, str(tuned), None, None, engine_options)


def _load(
    recipe: Recipe, location: str, revision: str | None, max_lora_rank: int | None, engine_options: Mapping[str, Any]
) -> VLLMEngine:
    from vllm import LLM

    config = AutoConfig.from_pretrained(
        location, revision=revision, trust_remote_code=recipe.training.trust_remote_code
    )
    options: dict[str, Any] = {
        "model": location,
        "revision": revision,
        "dtype": engine_dtype(recipe, config),
        "trust_remote_code": recipe.training.trust_remote_code,
        "generation_config": "vllm",  # vLLM's defaults; the model's sampling settings are ignored
        "seed": recipe.training.seed,
    }
    if max_lora_rank is not None:
        options |= {"enable_lora": True, "max_lora_rank": max_lora_rank}
    llm = LLM(**options | dict(engine_options))
    max_positions = llm.llm_engine.model_config.max_model_len
    return VLLMEngine(llm, generation_config_of(location, revision, config), max_positions)


def engine_dtype(recipe: Recipe, config: PreTrainedConfig) -> str:
    """The precision by its name in vLLM: that of training, or as `config` says the weights are stored.

    vLLM's own `auto` computes weights stored in float32 in float16.
    """
    dtype = weights_dtype(recipe)
    if dtype in (None, "auto"):
        dtype = config.dtype or "auto"
    return str(dtype).removeprefix("torch.")
