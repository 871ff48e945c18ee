"""A small Llama and a tokenizer of whole words, for training from scratch on rows of few words."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from llm_jepa.preparers.records import read_records
from llm_jepa.preparers.splits import SPLIT_NAMES

SPECIAL_TOKENS = {"eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
HEAD_SIZE = 32
MAX_POSITIONS = 2048


def words_of(data_dir: Path) -> list[str]:
    """The words of every source and target of a prepared data set, sorted.

    Raises:
        ValueError: There is no split, or a row lacks a source or a target.
    """
    paths = [path for split in SPLIT_NAMES if (path := data_dir / f"{split}.jsonl").is_file()]
    if not paths:
        raise ValueError(f"`{data_dir}` holds no {' or '.join(f'{split}.jsonl' for split in SPLIT_NAMES)}.")
    records = (record for path in paths for record in read_records(path))
    return sorted({word for record in records for name in ("source", "target") for word in record.text(name).split()})


def write_word_model(directory: Path, words: Iterable[str], num_layers: int, width: int) -> None:
    """Write the configuration of a Llama and its tokenizer; `from_scratch: true` makes the weights.

    White space separates words, and a text of other words has `<unk>` in their place. There is no chat template: a row
    is its source, its target and `<eos>`.

    Args:
        directory: An existing directory.
        words: The vocabulary, beside `<eos>`, `<pad>` and `<unk>`.
        num_layers: Number of decoder layers.
        width: Size of the hidden states; each head has 32 of it, and the MLP four times as many.

    Raises:
        ValueError: A size is out of range.
    """
    if num_layers < 1 or width < 1 or width % HEAD_SIZE:
        raise ValueError(f"num_layers {num_layers} must be at least 1, width {width} a multiple of {HEAD_SIZE}.")
    vocabulary = {word: number for number, word in enumerate([*SPECIAL_TOKENS.values(), *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL_TOKENS["unk_token"]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL_TOKENS)
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=num_layers,
        num_attention_heads=width // HEAD_SIZE,
        max_position_embeddings=MAX_POSITIONS,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    tokenizer.save_pretrained(directory)
    config.save_pretrained(directory)
