"""`Trainer` with the `push_to_hub` of this toolkit: one commit at the end of a run, private by default."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import Trainer, TrainingArguments

from llm_jepa.hub.card_facts import CARD_SETTINGS
from llm_jepa.hub.login import repository_name
from llm_jepa.hub.model_card import draft_card
from llm_jepa.hub.publication import CARD_FILE
from llm_jepa.hub.push import push
from llm_jepa.models.local_files import ArtifactKind

logger = logging.getLogger(__name__)


def _repository(args: TrainingArguments) -> str:
    return repository_name(args.hub_model_id, str(args.output_dir))


def publish(args: TrainingArguments, **options: Any) -> None:
    """Publish `output_dir`, private unless `hub_private_repo: false`. Call it in the main process only.

    Args:
        options: Options of `push`; None is ignored.

    Raises:
        ValueError: See `llm_jepa.hub.push.push`; the message adds the command that publishes the run later.
    """
    output_dir, repo_id = Path(str(args.output_dir)), _repository(args)
    given: dict[str, Any] = {"private": args.hub_private_repo is not False, "token": args.hub_token}
    given |= {name: value for name, value in options.items() if value is not None}
    try:
        done = push(output_dir, repo_id, **given)
    except ValueError as error:
        raise ValueError(
            f"{error} The run is complete in {output_dir}. Publish it with `llm-jepa push {output_dir} "
            f"--repo_id {repo_id}{'' if given['private'] else ' --public'}`."
        ) from error
    logger.info("Published: %s", done.url)


class PublishingTrainer(Trainer):
    """Publishes what `push` selects, in place of transformers' checkpoints, `training_args.bin` and card.

    Its `args` are `TrainingArguments` with `PublicationOptions`.
    """

    args: Any
    card_settings: Sequence[str] = CARD_SETTINGS
    """Options that the card of a run without a recipe shows."""
    hub_model_id: str | None  # type: ignore[assignment]  # transformers declares None

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save without secrets: transformers pickles `args` into `training_args.bin`."""
        args, self.args = self.args, self.args.without_secrets()
        try:
            super()._save(output_dir, state_dict)
        finally:
            self.args = args

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model without publishing it: the run's record is not written yet."""
        super().save_model(output_dir, True)
        self._write_card(Path(output_dir or str(self.args.output_dir)))  # in place of PEFT's

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write a draft card without paths of this machine; `push` writes the full one."""
        self._write_card(Path(str(self.args.output_dir)))

    def _write_card(self, directory: Path) -> None:
        if self.is_world_process_zero():
            directory.mkdir(parents=True, exist_ok=True)
            card = draft_card(_repository(self.args), self.artifact_kind())
            (directory / CARD_FILE).write_text(card, encoding="utf-8")

    def artifact_kind(self) -> ArtifactKind:
        """What the trainer saves."""
        return "adapter" if isinstance(self.model, PeftModel) else "model"

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Set the repository's name. The repository is created when the run is published."""
        self.hub_model_id = _repository(self.args)
        self.push_in_progress = None

    def push_to_hub(  # type: ignore[override]  # transformers returns a future
        self,
        commit_message: str | None = None,
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Save model and state, and publish them as `llm-jepa push` does: one commit on `main`; blocks until done.

        Args:
            commit_message, token: For the commit.
            private: Overrides `hub_private_repo`.
            kwargs: `dataset_name`: the data that the card names if the trainer has no recipe.

        Raises:
            ValueError: Another of transformers' arguments is given; it would have no effect. See also
                `llm_jepa.hub.push.push`.
        """
        dataset_name = kwargs.pop("dataset_name", None)
        idle = [name for name, value in kwargs.items() if value is not None]
        idle += ["blocking"] * (not blocking) + ["revision"] * (revision is not None)
        if idle:
            raise ValueError(
                f"`{'`, `'.join(idle)}` has no effect: a push is one commit on `main` with a card of its own, and "
                "returns when it is done. Leave it out."
            )
        self.save_model()
        self.save_state()
        settings = self._card_settings() | ({"dataset_name": dataset_name} if dataset_name else {})
        self.publish(token=token, private=private, settings=settings, commit_message=commit_message)

    def publish(self, **options: Any) -> None:
        """Publish `output_dir`, with options of `push`."""
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.is_world_process_zero():
            publish(self.args, **options)

    def _card_settings(self) -> dict[str, Any]:
        """The settings of this trainer that a card shows, as a recipe would state them."""
        fields = self.args.__dataclass_fields__
        given = {name: value for name, value in self.args.to_dict().items() if name in self.card_settings}
        settings = {name: value for name, value in given.items() if value != fields[name].default}
        base = getattr(getattr(self.model, "config", None), "_name_or_path", None)
        return ({"model_name_or_path": base} if base else {}) | settings
