"""`TextDecoder`: the texts of embeddings, written greedily by the last layers of a causal LM.

    embedding -> length 1 -> linear -> prefix vectors -> causal layers -> norm -> LM head

It is in `RUN/text_decoder/`: a causal LM as transformers saves it, the linear layer, and what both belong to. The
weights of the run stay as they are. Legend: N rows, K prefix vectors, S tokens of the longest text with its end, D the
language model's width, E the embedding's, V tokens of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from llm_jepa.data.views import IGNORED_LABEL
from llm_jepa.files.hub_errors import hub_errors_explained
from llm_jepa.files.staged import make_readable
from llm_jepa.models.cutting import with_layers
from llm_jepa.models.decoder_files import FACTS_FILE, FOLDER, PREFIX_FILE, check_decoder_fits, no_text_decoder
from llm_jepa.models.greedy import greedy_generation
from llm_jepa.models.layer_selection import last_layers
from llm_jepa.runs.record import read_json

MAX_NEW_TOKENS = 32
BATCH_SIZE = 64


@dataclass(frozen=True)
class DecoderFacts:
    """What a decoder belongs to: the width of the embeddings, and the digest of the run's weights."""

    embedding_size: int
    num_prefix_vectors: int
    checkpoint: str


class TextDecoder(nn.Module):
    """Writes the texts of embeddings.

    Args:
        language_model: A causal LM of few layers.
        tokenizer: Its tokenizer, which has a token for the end.
        facts: The sizes, and the run that it is of.
    """

    def __init__(self, language_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: DecoderFacts):
        super().__init__()
        self.language_model: Any = language_model
        self.tokenizer, self.facts = tokenizer, facts
        width = language_model.config.hidden_size
        self.prefix = nn.Linear(facts.embedding_size, facts.num_prefix_vectors * width)

    @classmethod
    def from_language_model(cls, name_or_path: str, num_layers: int, facts: DecoderFacts) -> "TextDecoder":
        """A decoder to be trained: the last layers of a causal LM in float32, and a new linear layer.

        Its embeddings and its head stay as they are.

        Raises:
            ValueError: The model has fewer layers, no `layers`, or a tokenizer without a token for the end.
        """
        whole: Any = AutoModelForCausalLM.from_pretrained(name_or_path, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
        total = whole.config.num_hidden_layers
        if num_layers > total:
            raise ValueError(f"`num_layers` is {num_layers}; `{name_or_path}` has {total}. Give 1 to {total}.")
        if tokenizer.eos_token_id is None:
            raise ValueError(f"The tokenizer of `{name_or_path}` has no token for the end. Name another model.")
        language_model = with_layers(whole, last_layers(total, num_layers), name_or_path)
        for part in (language_model.get_input_embeddings(), language_model.get_output_embeddings()):
            part.requires_grad_(False)
        return cls(language_model, tokenizer, facts)

    @classmethod
    def from_pretrained(cls, run: str | Path, **places: Any) -> "TextDecoder":
        """The decoder of a run, a directory or a Hub id; `places` may name a `revision`.

        Raises:
            ValueError: The run has none, it cannot be read from the Hub, or its weights are not those that the decoder
                was trained on.
        """
        facts_path, prefix_path = (_decoder_file(run, name, **places) for name in (FACTS_FILE, PREFIX_FILE))
        content = read_json(facts_path)
        facts = DecoderFacts(**{name: content[name] for name in DecoderFacts.__dataclass_fields__})
        if Path(run).is_dir():
            check_decoder_fits(facts.checkpoint, Path(run))
        language_model = AutoModelForCausalLM.from_pretrained(str(run), subfolder=FOLDER, **places)
        tokenizer = AutoTokenizer.from_pretrained(str(run), subfolder=FOLDER, **places)
        decoder = cls(language_model, tokenizer, facts)
        decoder.prefix.load_state_dict(load_file(prefix_path))
        return decoder.eval()

    def save_pretrained(self, directory: Path) -> None:
        """Write everything but the facts into a directory."""
        self.language_model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.prefix.state_dict().items()}
        save_file(weights, directory / PREFIX_FILE)
        make_readable(directory)

    def prefix_vectors(self, embedding_NE: Tensor) -> Tensor:
        """prefix_NKD of embeddings, whose lengths do not count."""
        unit_NE = F.normalize(embedding_NE.to(self.prefix.weight), dim=-1)
        return self.prefix(unit_NE).unflatten(-1, (self.facts.num_prefix_vectors, -1))

    def loss(self, embedding_NE: Tensor, texts: Sequence[str]) -> Tensor:
        """The mean cross-entropy of the texts' tokens and their ends.

        Example: of two prefix vectors and the tokens `a b end`, the inputs are `p p a b` and the labels
        `- a b end`.
        """
        ids_NS, is_token_NS = self._tokens(texts)
        prefix_NKD = self.prefix_vectors(embedding_NE)
        embeds_NSD = torch.cat([prefix_NKD, self.language_model.get_input_embeddings()(ids_NS[:, :-1])], dim=1)
        seen_NS = torch.cat([is_token_NS.new_ones(prefix_NKD.shape[:2]), is_token_NS[:, :-1]], dim=1)
        logits_NSV = self.language_model(
            inputs_embeds=embeds_NSD, attention_mask=seen_NS, use_cache=False, logits_to_keep=ids_NS.shape[1]
        ).logits
        labels_NS = ids_NS.masked_fill(is_token_NS == 0, IGNORED_LABEL)
        return F.cross_entropy(logits_NSV.flatten(0, 1).float(), labels_NS.flatten(), ignore_index=IGNORED_LABEL)

    @torch.no_grad()
    def write(self, embedding_NE: Tensor, max_new_tokens: int = MAX_NEW_TOKENS) -> list[str]:
        """The most likely text of each embedding, token by token, without white space around it."""
        end_id, pad_id = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        texts: list[str] = []
        for part_NE in embedding_NE.split(BATCH_SIZE):
            prefix_NKD = self.prefix_vectors(part_NE.to(self.prefix.weight.device))
            mask_NK = torch.ones(prefix_NKD.shape[:2], dtype=torch.long, device=prefix_NKD.device)
            with greedy_generation(self.language_model, [end_id], pad_id, max_new_tokens):
                ids_NS = self.language_model.generate(inputs_embeds=prefix_NKD, attention_mask=mask_NK)
            texts += self.tokenizer.batch_decode(ids_NS, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [text.strip() for text in texts]

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """ids_NS with the end after each text, and is_token_NS."""
        end_id = self.tokenizer.eos_token_id
        found = self.tokenizer([*texts], add_special_tokens=False)["input_ids"]
        rows = [torch.tensor([*ids, end_id], device=self.prefix.weight.device) for ids in found]
        ids_NS = pad_sequence(rows, batch_first=True, padding_value=end_id)
        return ids_NS, pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)


def _decoder_file(run: str | Path, name: str, **places: Any) -> Path:
    """A file of the decoder of a run, a directory or a Hub id."""
    if Path(run).is_dir():
        path = Path(run) / FOLDER / name
        if not path.is_file():
            raise ValueError(no_text_decoder(run))
        return path
    with hub_errors_explained(str(run), "read"):
        try:
            return Path(hf_hub_download(str(run), f"{FOLDER}/{name}", **places))
        except RemoteEntryNotFoundError as error:
            missing = error
    raise ValueError(no_text_decoder(run)) from missing
