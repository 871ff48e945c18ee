"""The decodings of a run: by its model, its tokenizer and its latent predictor."""

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_jepa.config import DEFAULT_INFO_NCE_TEMPERATURE
from llm_jepa.evaluation.candidate_task import CandidateTask
from llm_jepa.evaluation.decodings import (
    Decoding,
    GenerateDecoding,
    LatentDecoding,
    LikelihoodDecoding,
    ShortlistDecoding,
)
from llm_jepa.inference.encoder import LatentEncoder
from llm_jepa.models.adapters import without_adapter
from llm_jepa.models.latent_predictor import read_facts, read_weights
from llm_jepa.recipe import Recipe
from llm_jepa.runs.record import settings_of_run


class RunDecodings:
    """Makes a decoding by its name, of one loaded model.

    Args:
        batch_size: Sequences per forward.
        max_new_tokens: Limit of a generated text.
        shortlist: How many of the nearest candidates a likelihood is computed of.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        max_new_tokens: int,
        shortlist: int,
    ):
        self.recipe, self.tokenizer, self.batch_size = recipe, tokenizer, batch_size
        self.max_new_tokens, self.shortlist = max_new_tokens, shortlist
        self.model = without_adapter(model).eval()

    def __call__(self, name: str, task: CandidateTask) -> Decoding:
        """The decoding of a task. Raises ValueError if the run lacks the latent predictor that it needs."""
        if name == "generate":
            return GenerateDecoding(task, self.batch_size, self.model, self.tokenizer, self.max_new_tokens)
        likelihood = LikelihoodDecoding(task, self.batch_size, self.model, self.tokenizer)
        if name == "likelihood":
            return likelihood
        latent = self._latent(task)
        return latent if name == "latent" else ShortlistDecoding(latent, likelihood, self.shortlist)

    def _latent(self, task: CandidateTask) -> LatentDecoding:
        directory = self.recipe.output_dir
        encoder = LatentEncoder(self.model, self.tokenizer, read_facts(directory), read_weights(directory))
        here, there = self.recipe.training.info_nce_temperature, settings_of_run(directory)
        temperature = here or there.get("info_nce_temperature") or DEFAULT_INFO_NCE_TEMPERATURE
        return LatentDecoding(task, self.batch_size, encoder, temperature)
