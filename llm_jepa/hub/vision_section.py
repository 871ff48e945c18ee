"""The section of a VL-JEPA model's card that `llm-jepa push` writes: one function for each of its parts."""

from dataclasses import fields
from typing import Any

from llm_jepa.hub.card_facts import CardFacts, rate_of
from llm_jepa.hub.card_section import cost, data_text, link, percent, settings_table
from llm_jepa.options.vision import VisionDataOptions, VisionLossOptions, VisionModelOptions

ROLES = {
    "vision_encoder": "encodes the picture",
    "language_model": "its last layers, without a causal mask, predict the answer's embedding",
    "text_encoder": "encodes answers",
}
"""Recipe key of a part -> what the part does."""
COLUMNS = {"image_column": "image", "question_column": "question", "answer_column": "answer"}
MODEL_OPTIONS = tuple(one.name for one in fields(VisionModelOptions) if one.name not in (*ROLES, "model_name_or_path"))
LOSS_OPTIONS = tuple(one.name for one in fields(VisionLossOptions))
TRAINING_OPTIONS = (
    "inputs", "augmentation", "learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps",
    "per_device_train_batch_size", "gradient_accumulation_steps", "seed", "bf16", "fp16",
)  # fmt: skip
VISION_SETTINGS = (*MODEL_OPTIONS, *LOSS_OPTIONS, *TRAINING_OPTIONS)
"""The settings that a card shows, where they were given."""
RETRIEVAL = {"image_to_answer": "{given} to answer", "answer_to_image": "answer to {given}"}
"""Key of a scores file -> the way, by what is given: an image or, to a blind model, a question."""


def vision_section(facts: CardFacts) -> str:
    """The section as Markdown; parts without facts are left out."""
    parts = (_summary, _parts, _data, _settings, _results, cost, _loading, _text_decoder)
    return "\n\n".join(text for part in parts if (text := part(facts)))


def _summary(facts: CardFacts) -> str:
    environment = facts.record.environment
    text = (
        "A VL-JEPA model ([arXiv 2512.10942](https://arxiv.org/abs/2512.10942)): a picture and a question in, the "
        "embedding of the answer out; the nearest of some candidates is the answer. Trained and published with the "
        f"LLM-JEPA toolkit, version {facts.version}."
    )
    versions = ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
    text += f" Trained with {versions}." if versions else ""
    text += " It is blind, a control: it reads the question alone." if _is_blind(facts) else ""
    return text + (" `recipe.yaml` has every setting." if facts.has_recipe else "")


def _parts(facts: CardFacts) -> str:
    rows = [
        f"| {ROLES[key]} | {link(part.name, part.id) if part.name else 'not named'} | {part.licence or 'unknown'} |"
        for key, part in facts.sources.parts.items()
    ]
    head = ["## Parts", "", "Every part is inside; their licences apply.", "", "| part | made from | licence |"]
    return "\n".join([*head, "|---|---|---|", *rows])


def _data(facts: CardFacts) -> str:
    names = {key: _setting(facts, key) for key in COLUMNS}
    return data_text(facts, [(names[key], what) for key, what in COLUMNS.items()])


def _settings(facts: CardFacts) -> str:
    if not facts.has_recipe:
        return ""
    settings = {"jepa_loss": VisionLossOptions.jepa_loss} | facts.record.settings
    text = "`jepa_loss` compares predictions with the embeddings of answers."
    return settings_table(
        "Objective and settings", text, {name: settings[name] for name in VISION_SETTINGS if name in settings}
    )


def _results(facts: CardFacts) -> str:
    scores = facts.scores
    if scores is None:
        return ""
    name = link(facts.scored_name, facts.sources.scored.id, "datasets/")
    accuracy = rate_of(scores, "accuracy")
    text = (
        f"On {name}, split `{scores['split']}`, {accuracy.count} rows; {scores['date']}. Accuracy is the share whose "
        "answer is nearer than every other candidate, in % with the 95 % interval over rows (Wilson)."
    )
    rows = [
        f"| accuracy | {percent(accuracy)} |",
        f"| most frequent answer | {percent(rate_of(scores, 'most_frequent'))} |",
        f"| chance | {100 * scores['chance']:.1f} |",
    ]
    given = "question" if _is_blind(facts) else "image"
    for key, way in RETRIEVAL.items():
        recalls = [f"{100 * scores[key][f'recall_at_{k}']:.1f}" for k in (1, 5, 10)]
        rows.append(f"| {way.format(given=given)}, recall at 1, 5, 10 | {', '.join(recalls)} |")
    return "\n".join(["## Results", "", text, "", "| | % |", "|---|---|", *rows])


def _loading(facts: CardFacts) -> str:
    is_blind = _is_blind(facts)
    image = "None" if is_blind else '["cat.jpg"]'
    question = "None" if _setting(facts, "question_column") is None else '["What animal is this?"]'
    option = "" if is_blind else " --image cat.jpg"
    asked = "" if question == "None" else ' --query "What animal is this?"'
    return (
        "## How to use\n\n```python\nfrom llm_jepa.vision.model import VLJEPAModel\n\n"
        f'model = VLJEPAModel.from_pretrained("{facts.repo_id}").eval()\n'
        f'hits = model.rank({image}, {question}, [["a cat", "a dog", "a horse"]])\n'
        "print(hits[0][0].answer, hits[0][0].score)\n```\n\n"
        f"```bash\nhf download {facts.repo_id} --local-dir {facts.name}\n"
        f"llm-jepa answer {facts.name}{option}{asked} --candidates animals.txt\n```"
    )


def _text_decoder(facts: CardFacts) -> str:
    decoder = facts.text_decoder
    if decoder is None:
        return ""
    training, hits = decoder["training"], decoder["exact_match"]
    rates = {name: percent(rate_of({"scores": hits}, name)) for name in ("predictions", "answers", "nearest")}
    return (
        "## Text decoder\n\n"
        f"`text_decoder/` writes a prediction as text, `model.decode(prediction)`. It has {training['parameters']:,} "
        f"parameters, {training['trained_parameters']:,} of them trained, on the embeddings of {training['rows']:,} "
        f"answers in {training['steps']:,} steps and {training['seconds']:,.0f} seconds. Right letter for letter of "
        f"{hits['predictions']['count']} held-out rows (split `{decoder['split']}`), in %:\n\n| | % |\n|---|---|\n"
        f"| text of the prediction | {rates['predictions']} |\n"
        f"| text of the answer's own embedding | {rates['answers']} |\n"
        f"| nearest of all answers, without a decoder | {rates['nearest']} |"
    )


def _is_blind(facts: CardFacts) -> bool:
    return _setting(facts, "inputs") == "question"


def _setting(facts: CardFacts, name: str) -> Any:
    return facts.record.settings.get(name, getattr(VisionDataOptions, name))
