"""Generate answers with a run: drafted tokens, verified by the model, give the same text sooner."""

import argparse
import json
from typing import Any

import transformers
from transformers import TextStreamer

from llm_jepa.inference.draft_length import AdaptiveLength, DraftLength, FixedLength
from llm_jepa.inference.drafting import Drafter
from llm_jepa.inference.packed_linear import pack_linear_layers
from llm_jepa.inference.text_generation import GeneratedText, TextGenerator, prompt_tokeniser
from llm_jepa.inference.tuned_model import load_tuned


def run(args: argparse.Namespace) -> int:
    transformers.utils.logging.disable_progress_bar()
    recipe, tokenizer, model = load_tuned(args.run, args.dtype)
    if args.decoding == "draft":
        pack_linear_layers(model)
    drafting = args.draft_vocabulary, new_length(args.num_drafted_tokens)
    generator = TextGenerator.of_run(args.run, model, tokenizer, args.decoding, args.max_new_tokens, *drafting)
    tokenise = prompt_tokeniser(recipe, tokenizer)
    for prompt in args.prompts:
        ids = tokenise(prompt)
        streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True) if args.stream else None
        generated = generator.generate(ids, streamer)
        if args.json:
            print(json.dumps(_report(prompt, generated), ensure_ascii=False), flush=True)
        elif not args.stream:
            print(generated.text, flush=True)
        if not args.json:
            print(_figures(generated), flush=True)
    if generator.drafter is not None and not args.json:
        print(acceptance_line(generator.drafter))
    return 0


def acceptance_line(drafter: Drafter) -> str:
    """The share of accepted tokens at each position of a draft."""
    shares = ", ".join(f"{100 * share:.0f} %" for share in drafter.counts.acceptance)
    return f"accepted at positions 1, 2, ...: {shares or 'none was drafted'}"


def new_length(num_drafted: int | str | None) -> DraftLength:
    """That of `--num_drafted_tokens`."""
    return FixedLength(num_drafted) if isinstance(num_drafted, int) else AdaptiveLength()


def _figures(generated: GeneratedText) -> str:
    return (
        f"[{len(generated.ids)} tokens, {generated.tokens_per_second:.1f} per second, "
        f"{generated.tokens_per_forward:.2f} per forward]"
    )


def _report(prompt: str, generated: GeneratedText) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "text": generated.text,
        "tokens": len(generated.ids),
        "seconds": generated.seconds,
        "tokens_per_second": generated.tokens_per_second,
        "forwards": generated.forwards,
        "tokens_per_forward": generated.tokens_per_forward,
    }
