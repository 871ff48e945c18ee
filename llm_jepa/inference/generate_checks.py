"""What `llm-jepa generate` refuses by looking at its arguments and files. Imports no torch."""

from pathlib import Path

from llm_jepa.models.latent_predictor import check_drafts, read_facts
from llm_jepa.models.local_files import check_text_run


def check_generate(
    run: Path, prompts: list[str], method: str, num_drafted_tokens: int | str | None, draft_vocabulary: int | None
) -> None:
    """Check that a run can generate in the way that is asked for.

    Raises:
        ValueError: A prompt is empty, or as `check_drafting` raises; or the run has no model of text.
    """
    if any(not prompt.strip() for prompt in prompts):
        raise ValueError("A `--prompt` is empty. Give a text.")
    check_text_run(run, "generate")
    check_drafting(run, method, num_drafted_tokens, draft_vocabulary)


def check_drafting(run: Path, method: str, num_drafted_tokens: int | str | None, draft_vocabulary: int | None) -> None:
    """Check that a run has a drafter if it is asked to draft, and no option of drafting if not.

    Raises:
        ValueError: An option has no effect, or the run has no drafter.
    """
    options = {"num_drafted_tokens": num_drafted_tokens, "draft_vocabulary": draft_vocabulary}
    if method == "draft":
        check_drafts(read_facts(run))
        return
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"`--{name}` has no effect with `--decoding {method}`. Leave it out.")
