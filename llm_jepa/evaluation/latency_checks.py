"""What `llm-jepa latency` refuses by looking at its arguments and files. Imports no torch."""

from pathlib import Path

from llm_jepa.evaluation.decoding_checks import check_labels, check_ranks
from llm_jepa.models.latent_predictor import check_drafts, has_latent_predictor, read_facts
from llm_jepa.models.local_files import artifact_kind
from llm_jepa.models.subject_checks import check_subject, recipe_of, settings_and_directory


def check_latency(
    subject: str, overrides: list[str], labels: Path | None, shortlist: int | None, has_drafting_options: bool
) -> None:
    """Check that a run is here and whole, and that each option has an effect on it.

    A run without a latent predictor is measured in the ways that need none.

    Raises:
        ValueError: There is no run, its predictor is damaged, the file of labels is wrong, or an option has no effect.
    """
    if recipe_of(subject, overrides) is None:
        artifact_kind(Path(subject))
    check_subject(subject, overrides, ["tuned"])
    settings, directory = settings_and_directory(subject, overrides)
    check_labels(labels, settings)
    if not (has_latent_predictor(directory) or has_drafting_options or shortlist is not None):
        return
    facts = read_facts(directory)
    if has_drafting_options:
        check_drafts(facts)
    if shortlist is not None:
        check_ranks(settings, directory)
