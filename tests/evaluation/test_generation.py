import logging
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig

from llm_jepa.evaluation.generation import Completion, generate_completions
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

CHATS = [[{"role": "user", "content": pair["source"]}] for pair in PAIRS]
LIMIT = 12


def greedy_ids(model, prompt_ids, stop_ids, max_new_tokens):
    """The slow reference: one prompt, no padding, no cache, a forward over everything for each token."""
    ids = list(prompt_ids)
    for _ in range(max_new_tokens):
        with torch.no_grad():
            token_id = model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax().item()
        ids.append(token_id)
        if token_id in stop_ids:
            break
    return ids[len(prompt_ids) :]


def reference(model, prompts, stop_ids, max_new_tokens=LIMIT):
    tokenizer = tiny_tokenizer()
    completions = []
    for prompt in prompts:
        if isinstance(prompt, str):
            prompt_ids = tokenizer(prompt)["input_ids"]
        else:
            rendered = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
            prompt_ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        ids = greedy_ids(model, prompt_ids, stop_ids, max_new_tokens)
        stopped = ids[-1] in stop_ids
        content = ids[:-1] if stopped else ids
        text = tokenizer.decode(content, skip_special_tokens=True)
        completions.append(Completion(text, stopped, len(content)))
    return completions


def stop_ids_that_some_prompts_meet(model):
    """Two ids that the model generates, so that rows stop at different places."""
    encode = tiny_tokenizer().apply_chat_template
    prompts = [encode(chat, add_generation_prompt=True)["input_ids"] for chat in CHATS[:2]]
    first, second = (greedy_ids(model, prompt_ids, [], 6) for prompt_ids in prompts)
    return [first[2], second[4]]


@pytest.fixture(scope="module")
def model():
    return tiny_llama(seed=3).eval()


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_give_what_one_prompt_at_a_time_without_cache_gives(model, batch_size):
    completions = generate_completions(model, tiny_tokenizer(), CHATS, LIMIT, batch_size)
    assert completions == reference(model, CHATS, stop_ids=[2])
    assert len({completion.text for completion in completions}) > len(CHATS) / 2  # else order would not show


def test_plain_strings_are_tokenised_without_template(model):
    prompts = [f"{pair['source']}\n" for pair in PAIRS[:4]]
    assert generate_completions(model, tiny_tokenizer(), prompts, LIMIT, 4) == reference(model, prompts, [2])


def test_a_stop_token_that_the_tokenizer_appends_is_no_part_of_the_prompt(model):
    class AppendsStop:
        def __init__(self, tokenizer):
            self.tokenizer = tokenizer

        def __getattr__(self, name):
            return getattr(self.tokenizer, name)

        def __call__(self, text, add_special_tokens=True):
            stop = [self.tokenizer.eos_token_id] if add_special_tokens else []
            return {"input_ids": [*self.tokenizer(text)["input_ids"], *stop]}

    prompts = [pair["source"] for pair in PAIRS[:2]]
    completions = generate_completions(model, AppendsStop(tiny_tokenizer()), prompts, LIMIT, 2)
    assert completions == reference(model, prompts, [2])


def test_every_stop_token_of_a_list_is_honoured():
    model = tiny_llama(seed=3).eval()
    extra = stop_ids_that_some_prompts_meet(model)
    model.generation_config.eos_token_id = [2, *extra]
    completions = generate_completions(model, tiny_tokenizer(), CHATS, LIMIT, 4)
    assert completions == reference(model, CHATS, [2, *extra])
    assert completions[0].stopped
    assert completions[0].num_tokens <= 2
    assert completions[1].stopped
    assert completions[1].num_tokens <= 4
    assert {completion.stopped for completion in completions} == {True, False}


def test_the_tokenizer_stop_token_is_honoured_where_the_model_names_another():
    """Row 2 of the head is made to win everywhere, and the model's own stop token is another one."""
    model = tiny_llama(seed=3, eos_token_id=0).eval()
    with torch.no_grad():
        hidden = model.model(torch.tensor([[5, 6]])).last_hidden_state[0, -1]
        model.lm_head.weight[2] = 100 * hidden
    prompts = [tiny_tokenizer().decode([5, 6])]
    assert generate_completions(model, tiny_tokenizer(), prompts, LIMIT, 1) == [Completion("", True, 0)]


def test_a_completion_cut_by_the_limit_is_not_stopped(model):
    for completion in generate_completions(model, tiny_tokenizer(), CHATS, 2, 4):
        assert completion.stopped == (completion.num_tokens < 2)


def test_sampling_defaults_of_the_model_are_left_aside_and_left_in_place(caplog):
    model = tiny_llama(seed=3)
    sampling = GenerationConfig(
        do_sample=True, temperature=5.0, top_k=7, repetition_penalty=2.0, max_length=40, eos_token_id=2
    )
    model.generation_config = sampling
    tokenizer = tiny_tokenizer()
    padding_side = tokenizer.padding_side
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            completions = generate_completions(model, tokenizer, CHATS, LIMIT, 4)
    finally:
        logger.removeHandler(caplog.handler)
    assert completions == reference(tiny_llama(seed=3).eval(), CHATS, [2])
    assert caplog.messages == []
    assert model.generation_config is sampling
    assert model.training
    assert tokenizer.padding_side == padding_side


def test_an_adapter_generates_as_its_merged_model_does():
    torch.manual_seed(0)
    model = get_peft_model(tiny_llama(seed=3), LoraConfig(target_modules=["q_proj", "v_proj"]))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    completions = generate_completions(model, tiny_tokenizer(), CHATS, LIMIT, 4)
    merged = model.merge_and_unload().eval()
    assert completions == reference(merged, CHATS, [2])
    assert completions != reference(tiny_llama(seed=3).eval(), CHATS, [2])


def test_bfloat16_weights_stay_bfloat16():
    model = tiny_llama(seed=3).to(torch.bfloat16)
    completions = generate_completions(model, tiny_tokenizer(), CHATS[:2], 3, 2)
    assert model.dtype == torch.bfloat16
    assert completions == reference(model.eval(), CHATS[:2], [2], max_new_tokens=3)


def test_template_arguments_of_a_prompt_reach_the_template(model):
    chat = [{"role": "user", "content": "lines"}, {"role": "assistant", "content": "a vowel"}]
    [plain] = generate_completions(model, tiny_tokenizer(), [chat], LIMIT, 1)
    bare = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    [given] = generate_completions(
        model, tiny_tokenizer(), [chat], LIMIT, 1, template_kwargs=[{"chat_template": bare}]
    )
    assert [given] == reference(model, ["linesa vowel"], [2])
    assert given != plain


def test_progress_gives_every_prompt_once(model):
    batches = []
    completions = generate_completions(model, tiny_tokenizer(), CHATS, 2, 3, progress=batches.append)
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert {i: one for batch in batches for i, one in batch.items()} == dict(enumerate(completions))
    assert generate_completions(model, tiny_tokenizer(), [], 2, 3) == []


def test_bad_input_is_named(model):
    tokenizer = tiny_tokenizer()
    with pytest.raises(ValueError, match="`max_new_tokens` is 0"):
        generate_completions(model, tokenizer, ["a"], 0, 1)
    with pytest.raises(ValueError, match="`batch_size` is 0"):
        generate_completions(model, tokenizer, ["a"], 1, 0)
    with pytest.raises(ValueError, match="Prompt 1 has no tokens"):
        generate_completions(model, tokenizer, ["a", ""], 1, 1)
    with pytest.raises(ValueError, match="Prompt 0 has 1 tokens; with max_new_tokens=512 it exceeds"):
        generate_completions(model, tokenizer, ["a"], 512, 1)
