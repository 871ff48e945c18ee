"""The small model of `recipes/planning/word_model.py`: a token for each word of the data, and what is refused."""

import pytest
from transformers import AutoConfig, AutoTokenizer

from llm_jepa.preparers.word_model import words_of, write_word_model
from tests.preparers.upstream_files import write_jsonl


def test_every_word_of_every_split_is_a_token_and_texts_come_back(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"source": "b a | a =", "target": "b a"}])
    write_jsonl(tmp_path / "test.jsonl", [{"source": "( c ) * 10", "target": "a"}])
    words = words_of(tmp_path)
    assert words == sorted({"a", "b", "c", "|", "=", "(", ")", "*", "10"})
    write_word_model(tmp_path, words, num_layers=3, width=64)
    tokenizer, config = AutoTokenizer.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)
    ids = tokenizer("( b )\n* 10 d")["input_ids"]
    assert [tokenizer.decode(one) for one in ids] == ["(", "b", ")", "*", "10", "<unk>"]
    assert tokenizer.decode(ids) == "( b ) * 10 <unk>"
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (3, 64, 2)
    assert config.vocab_size == len(tokenizer) == 3 + len(words)
    assert (config.eos_token_id, config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)


@pytest.mark.parametrize(("num_layers", "width"), [(0, 128), (4, 0), (4, 100)])
def test_a_size_out_of_range_is_refused(num_layers, width, tmp_path):
    with pytest.raises(ValueError, match=f"num_layers {num_layers} .* width {width} a multiple of 32"):
        write_word_model(tmp_path, ["a"], num_layers, width)
    assert not list(tmp_path.iterdir())


def test_a_directory_without_splits_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no train\.jsonl or validation\.jsonl or test\.jsonl"):
        words_of(tmp_path)
