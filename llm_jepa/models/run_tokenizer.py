"""The tokenizer of a run, before and after its training."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from llm_jepa.models.loading import load_tokenizer
from llm_jepa.recipe import Recipe


def load_run_tokenizer(recipe: Recipe) -> PreTrainedTokenizerBase:
    """The tokenizer that the run saved, or would save, beside its weights. Base and tuned model share it."""
    args = recipe.training
    if (recipe.output_dir / "tokenizer_config.json").is_file():
        return load_tokenizer(str(recipe.output_dir), None, args.trust_remote_code)
    tokenizer = load_tokenizer(
        recipe.settings["model_name_or_path"], recipe.model.model_revision, args.trust_remote_code
    )
    if args.eos_token is not None:
        tokenizer.eos_token = args.eos_token
    template = args.chat_template_path
    if template is not None and Path(template).is_file():
        tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
    elif template is not None:
        _copy_template(tokenizer, load_tokenizer(template))
    return tokenizer


def _copy_template(tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> None:
    """Copy another tokenizer's template, stop token and added tokens, as TRL does."""
    tokenizer.chat_template = other.get_chat_template()
    known = tokenizer.get_vocab()
    tokenizer.add_tokens([token for token in other.added_tokens_decoder.values() if token.content not in known])
    tokenizer.eos_token = other.eos_token
