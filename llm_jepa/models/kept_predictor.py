"""What of a training is kept for latent inference, beside the model that it saves."""

from pathlib import Path

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from llm_jepa.config import JEPAConfig
from llm_jepa.data.rows import AnyDataset
from llm_jepa.data.target_tokens import ranked_target_tokens
from llm_jepa.models.latent_predictor import DRAFT_TOKENS, facts_of, remove_latent_predictor, write_latent_predictor
from llm_jepa.models.stop_tokens import stop_token_ids
from llm_jepa.objectives.own_parameters import gathered_state
from llm_jepa.settings.objectives import objective_names, objective_traits, short_name


def keep_latent_predictor(
    directory: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    predictor: nn.Module | None,
    args: JEPAConfig,
    train_dataset: AnyDataset | None,
    has_plain_prompts: bool,
) -> None:
    """Write `latent_predictor/` if an objective has trained something to keep; remove an older one if not.

    Every process must call it; one writes.

    Args:
        directory: That of the saved model.
        predictor: The parameters of the objectives' own.
        train_dataset: The prepared rows, whose targets rank the draft vocabulary.
        has_plain_prompts: Whether no chat template rendered them.
    """
    names = objective_names(args.jepa_objective) if args.jepa_weight > 0 else ()
    kept = [name for name in names if objective_traits(name).kept_options]
    state = gathered_state(predictor) if kept and predictor is not None else {}
    if len(names) > 1:  # `SeveralObjectives` has put each objective's name before its weights
        owners = {short_name(name) for name in kept}
        state = {name: value for name, value in state.items() if name.partition(".")[0] in owners}
    if not args.should_save:
        return
    if not kept:
        remove_latent_predictor(directory)
        return
    if train_dataset is not None and any(objective_traits(name).drafts for name in kept):
        stop_ids = stop_token_ids(model.generation_config or GenerationConfig(), tokenizer)
        ranked = ranked_target_tokens(train_dataset, stop_ids)
        state |= {} if ranked is None else {DRAFT_TOKENS: torch.tensor(ranked)}
    options = {option: getattr(args, option) for name in kept for option in objective_traits(name).kept_options}
    assert not isinstance(args.model_init_kwargs, str), "TrainingArguments parses JSON"
    revision = (args.model_init_kwargs or {}).get("revision")
    facts = facts_of(model, tokenizer, tuple(map(short_name, kept)), options, has_plain_prompts, revision)
    write_latent_predictor(directory, facts, state)
