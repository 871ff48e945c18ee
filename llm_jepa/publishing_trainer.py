"""TRL's `SFTTrainer`, publishing as `llm-jepa push` does: the end of a run, in one commit, private unless asked."""

import logging
from pathlib import Path

from transformers import TrainingArguments
from trl import SFTTrainer

from llm_jepa.hub import push

logger = logging.getLogger(__name__)


def repository_name(args: TrainingArguments) -> str:
    """Where a run is published: `hub_model_id`, else the name of its output directory."""
    return args.hub_model_id or Path(str(args.output_dir)).absolute().name


class PublishingTrainer(SFTTrainer):
    """Replaces what transformers pushes: checkpoints, `training_args.bin`, a card that names directories."""

    hub_model_id: str | None  # type: ignore[assignment]  # which transformers declares as None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; transformers would also publish here, before the run is recorded."""
        super().save_model(output_dir, True)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Note the repository's name; it is made when there is something to publish."""
        self.hub_model_id = repository_name(self.args)
        self.push_in_progress = None

    def push_to_hub(  # type: ignore[override]  # always one commit on `main`, and waited for
        self, token: str | None = None, private: bool | None = None
    ) -> None:
        """Save model and state, and publish them as `llm-jepa push` does; private unless `hub_private_repo: false`.

        Raises:
            ValueError: See `llm_jepa.hub.push`.
        """
        self.save_model()
        self.save_state()
        self.publish(token, private)

    def publish(self, token: str | None = None, private: bool | None = None) -> None:
        """Publish what is saved in `output_dir`."""
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo()
        if not self.is_world_process_zero():
            return
        assert self.hub_model_id is not None
        is_private = self.args.hub_private_repo is not False if private is None else private
        output_dir = Path(str(self.args.output_dir))
        try:
            done = push(output_dir, self.hub_model_id, is_private, token or self.args.hub_token)
        except ValueError as error:
            raise ValueError(
                f"{error} The run is complete in {output_dir}; what is left to do is `llm-jepa push {output_dir} "
                f"--repo_id {self.hub_model_id}{'' if is_private else ' --public'}`."
            ) from error
        logger.info("Published: %s", done.url)
