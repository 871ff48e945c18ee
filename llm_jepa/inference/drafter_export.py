"""Exports a run's decoder-layer drafter as vLLM loads it for its method `eagle`: the form of EAGLE (arXiv 2401.15077).

    config.json         a Llama's, with the drafter's number of layers
    model.safetensors   fc.weight (D, 2D) on [e(x) ; h], then layers.0.self_attn.q_proj.weight, ...

`layers.0` has no norm before its attention, and there is no norm at the end. Token embeddings and LM head are the
served model's; h is its hidden state after the final norm.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from llm_jepa.files.staged import make_readable, staged_directory
from llm_jepa.inference.drafting import trained_dynamics
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.latent_predictor import check_fits, read_facts, read_weights
from llm_jepa.models.loading import meta_model
from llm_jepa.models.local_files import artifact_kind
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.models.subject import read_tuned
from llm_jepa.objectives.latent_dynamics import LatentDecoderLayer

ARCHITECTURE = "LlamaForCausalLM"
"""vLLM makes it `EagleLlamaForCausalLM`."""


def export_drafter(run: Path, output_dir: Path, dtype: str | None = None) -> None:
    """Write the drafter of a run.

    Args:
        run: A run's directory, or what was merged or pulled. Its weights are not read.
        output_dir: A new or empty directory. It is written completely or not at all.
        dtype: Precision of the weights; float32 if None, as they were trained. vLLM casts them to the model's.

    Raises:
        ValueError: The predictor is of another model, or vLLM's drafter cannot share this model's embeddings or head.
    """
    recipe, _ = read_tuned(run)
    tokenizer = load_run_tokenizer(recipe)
    is_adapter = artifact_kind(run) == "adapter"
    base = resolve_model(recipe.settings["model_name_or_path"], recipe.model.model_revision) if is_adapter else None
    model = meta_model(recipe, base or str(run))
    facts = read_facts(run)
    check_fits(facts, model, tokenizer)
    check_shareable(model)
    dynamics = trained_dynamics(facts, read_weights(run), model.config.get_text_config())
    assert isinstance(dynamics, LatentDecoderLayer)
    weights_dtype = torch.float32 if dtype is None else getattr(torch, dtype)
    config = dynamics.config
    config.architectures, config.dtype = [ARCHITECTURE], weights_dtype
    config.vocab_size = max(config.vocab_size, len(tokenizer))  # as the tuned model's
    weights = {name: value.to(weights_dtype).contiguous() for name, value in dynamics.state_dict().items()}
    with staged_directory(output_dir) as staging:
        config.save_pretrained(staging)
        save_file(weights, staging / "model.safetensors", {"format": "pt"})
        make_readable(staging)


def check_shareable(model: PreTrainedModel) -> None:
    """Check that the embedding of a token is a row of a table, and a logit a product with a row of the head.

    Raises:
        ValueError: It is not.
    """
    head = model.get_output_embeddings()
    scales = type(model.get_input_embeddings()) is not nn.Embedding
    if scales or getattr(head, "bias", None) is not None:
        what = "multiplies its token embeddings" if scales else "has an LM head with a bias"
        raise ValueError(
            f"A {model.config.model_type} model {what}; vLLM's drafter reads both as they are stored. Draft with "
            "`llm-jepa generate`."
        )
