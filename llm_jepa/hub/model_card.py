"""A model card written from a run's record: data, objective, measured results, cost, how to load.

The toolkit's section stands between two comments. The rest of the card belongs to its owner and is kept.
"""

from llm_jepa.hub.card_editing import SECTION_BEGIN, SECTION_END, read_metadata, with_metadata, with_section
from llm_jepa.hub.card_facts import CardFacts
from llm_jepa.hub.card_metadata import card_metadata, kind_metadata
from llm_jepa.hub.card_section import card_section
from llm_jepa.hub.vision_section import vision_section
from llm_jepa.models.local_files import ArtifactKind


def write_card(facts: CardFacts, existing: str | None) -> str:
    """The text of a new card, or of the existing one with our section and metadata replaced.

    Raises:
        ValueError: Our section or the metadata of the existing card cannot be found or read.
    """
    text = vision_section(facts) if facts.kind == "vision" else card_section(facts)
    section = f"{SECTION_BEGIN}\n\n{text}\n\n{SECTION_END}\n"
    if existing is None:
        return with_metadata(f"# {facts.name}\n\n{section}", card_metadata(facts, {}))
    line_break = "\r\n" if "\r\n" in existing else "\n"
    card = existing.replace("\r\n", "\n")
    try:
        card = with_metadata(with_section(card, section), card_metadata(facts, read_metadata(card)))
    except ValueError as error:
        raise ValueError(
            f"{facts.repo_id}: its README.md is left as it is: {error}. Nothing was published. Correct the file on "
            "the Hub."
        ) from error
    return card.replace("\n", line_break)


def draft_card(name: str, kind: ArtifactKind) -> str:
    """The card of an unpublished run. It replaces those of TRL and PEFT, which may name a local path as the base."""
    text = (
        f"# {name}\n\nTrained with the LLM-JEPA toolkit. `recipe.yaml`, if present, has the settings. `llm-jepa push` "
        "publishes this directory with a full card: data, objective, measured results, cost.\n"
    )
    return with_metadata(text, kind_metadata(kind))
