"""Drafted decoding gives the text of `generate`, whatever is drafted, and draws from the same distribution."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig
from transformers.generation.streamers import BaseStreamer

from llm_jepa.inference.draft_length import AdaptiveLength, FixedLength
from llm_jepa.inference.drafting import Drafter
from tests.architectures import tiny_model
from tests.inference.drafters import GREEDY, prompts, trained_dynamics, untrained_dynamics

CROPPABLE = (
    "llama", "qwen2", "qwen2-window", "qwen3", "mistral", "gemma2", "gemma3", "olmo2", "phi", "gpt2", "mixtral",
    "qwen3-moe", "olmoe", "gpt-neo", "bloom", "gemma4",
)  # fmt: skip


def texts(model, drafter, **options):
    """For each prompt the tokens of `generate`, and those of the drafter."""
    options = GREEDY | options
    for prompt_1S in prompts():
        prompt_1S = prompt_1S.to(drafter.inner.device)
        plain_1S = model.generate(input_ids=prompt_1S, **options)
        yield plain_1S.tolist(), drafter.generate(prompt_1S, **options).tolist()


@pytest.mark.parametrize("name", CROPPABLE)
def test_greedy_text_is_that_of_generate_for_every_architecture(name):
    model = tiny_model(name)
    drafter = Drafter(model, trained_dynamics(model), None, FixedLength(3))
    for plain, drafted in texts(model, drafter):
        assert drafted == plain
    assert 0 < sum(drafter.counts.accepted_K) < sum(drafter.counts.verified_K)


@pytest.mark.parametrize("name", ["mamba2", "falcon-h1", "qwen3-next"])
def test_a_model_whose_cache_cannot_be_cropped_is_refused(name):
    model = tiny_model(name)
    with pytest.raises(ValueError, match=r"cannot be cropped.*Use `--decoding plain`"):
        Drafter(model, untrained_dynamics(model))


@pytest.fixture(scope="module")
def llama():
    return tiny_model("llama")


@pytest.fixture(scope="module")
def mlp(llama):
    return trained_dynamics(llama)


@pytest.fixture(scope="module")
def decoder_layer(llama):
    return trained_dynamics(llama, "decoder_layer")


def stop_tokens(model) -> list[int]:
    """Two tokens that end the greedy text of the first prompt in its middle, after drafts of which more would do."""
    text = model.generate(input_ids=prompts()[0], **GREEDY)[0, prompts()[0].shape[1] :].tolist()
    return [text[9], text[11]]


@pytest.mark.parametrize("num_drafted", [1, 8, "adaptive"])
@pytest.mark.parametrize("name", ["mlp", "decoder_layer"])
def test_greedy_text_is_that_of_generate_for_every_length_and_either_network(llama, name, num_drafted, request):
    """An adaptive length tries every number of tokens first, whatever the seconds."""
    length = AdaptiveLength() if num_drafted == "adaptive" else FixedLength(num_drafted)
    drafter = Drafter(llama, request.getfixturevalue(name), None, length)
    for plain, drafted in texts(llama, drafter):
        assert drafted == plain
    assert sum(drafter.counts.accepted_K) > 0


@pytest.mark.parametrize(
    "options",
    [
        {"min_new_tokens": 14},
        {"repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 2},
        {"max_new_tokens": 1},
        {"max_new_tokens": 2},
        {"bad_words_ids": [[7], [8]]},
    ],
    ids=lambda options: next(iter(options)) + str(next(iter(options.values()))),
)
def test_logits_processors_and_limits_change_both_texts_alike(llama, mlp, options):
    drafter = Drafter(llama, mlp, None, FixedLength(4))
    for plain, drafted in texts(llama, drafter, eos_token_id=stop_tokens(llama), **options):
        assert drafted == plain


def test_a_text_ends_at_the_first_of_several_stop_tokens(llama, mlp):
    drafter, stops = Drafter(llama, mlp, None, FixedLength(8)), stop_tokens(llama)
    ended = [plain[0][-1] in stops for plain, drafted in texts(llama, drafter, eos_token_id=stops) if drafted == plain]
    assert len(ended) == len(prompts())
    assert ended[0]


def test_drafts_do_not_run_past_the_last_position_of_a_model():
    """GPT-2 has an embedding for each of its 16 positions and none beyond."""
    model = tiny_model("gpt2", n_positions=16)
    drafter = Drafter(model, untrained_dynamics(model), None, FixedLength(8))
    for plain, drafted in texts(model, drafter, max_new_tokens=None, max_length=16):
        assert drafted == plain


def test_a_draft_vocabulary_limits_what_is_drafted_and_not_the_text(llama, mlp):
    vocabulary = list(range(3, 48, 2))
    drafter = Drafter(llama, mlp, vocabulary, FixedLength(3))
    drafted_ids: set[int] = set()
    add = drafter.counts.add
    drafter.counts.add = lambda drafted, tokens: (drafted_ids.update(drafted), add(drafted, tokens))[1]
    for plain, drafted in texts(llama, drafter):
        assert drafted == plain
    assert drafted_ids
    assert drafted_ids <= {*vocabulary}


def adapted(model) -> PeftModel:
    adapter = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.manual_seed(1)
    for name, parameter in adapter.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return adapter.eval()


def test_an_adapter_and_what_it_is_merged_to_give_their_own_text():
    plain_text = tiny_model("llama").generate(input_ids=prompts()[0], **GREEDY).tolist()
    adapter = adapted(tiny_model("llama"))
    dynamics = trained_dynamics(adapter.get_base_model())
    for model in (adapter, adapter.merge_and_unload()):
        drafter = Drafter(model, dynamics, None, FixedLength(3))
        pairs = list(texts(model, drafter))
        assert [drafted for _, drafted in pairs] == [plain for plain, _ in pairs]
        assert pairs[0][0] != plain_text
        assert sum(drafter.counts.accepted_K) > 0


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_model_gives_its_own_text(tmp_path, bits):
    pytest.importorskip("bitsandbytes")
    tiny_model("llama", hidden_size=64, intermediate_size=128).save_pretrained(tmp_path)
    config = BitsAndBytesConfig(load_in_8bit=bits == 8, load_in_4bit=bits == 4)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=config, dtype=torch.float32).eval()
    drafter = Drafter(model, trained_dynamics(model), None, FixedLength(3))
    for plain, drafted in texts(model, drafter, max_new_tokens=8):
        assert drafted == plain
    assert sum(drafter.counts.verified_K) > 0


class Streamed(BaseStreamer):
    def __init__(self):
        self.ids: list[int] = []
        self.has_ended = False

    def put(self, value):
        self.ids += value.flatten().tolist()

    def end(self):
        self.has_ended = True


def test_a_streamer_gets_every_token_once_and_the_end(llama, mlp):
    streamer, drafter = Streamed(), Drafter(llama, mlp, None, FixedLength(3))
    (text,) = drafter.generate(prompts()[0], streamer=streamer, **GREEDY).tolist()
    assert streamer.ids == text
    assert streamer.has_ended


def test_sampled_tokens_have_the_distribution_of_the_model(llama, mlp):
    """The model's distribution function at each sampled token, a random point of the token's step, is uniform."""
    drafter, generator = Drafter(llama, mlp, None, FixedLength(3)), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    points = []
    for _ in range(5):
        options = {"do_sample": True, "top_k": 0, "temperature": 0.4, "max_new_tokens": 100, "eos_token_id": []}
        text_1S = drafter.generate(prompts()[0], pad_token_id=0, **options)
        with torch.no_grad():
            probability_SV = (llama(text_1S).logits[0, :-1] / 0.4).softmax(-1)[-100:]
        token_S1 = text_1S[0, -100:, None]
        below_S = probability_SV.cumsum(-1).gather(1, token_S1)[:, 0]
        step_S = probability_SV.gather(1, token_S1)[:, 0]
        points.append(below_S - step_S * torch.rand(100, generator=generator))
    counts = torch.histc(torch.cat(points), bins=16, min=0, max=1)
    expected = counts.sum() / 16
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert counts.sum() == 500
    assert statistic < 37.7  # the 99.9th percentile of chi-square with 15 degrees of freedom
    assert 20 < sum(drafter.counts.accepted_K) < sum(drafter.counts.verified_K)


@pytest.mark.parametrize("option", ["stop_strings", "stopping_criteria", "max_time"])
def test_what_cannot_be_checked_token_by_token_is_refused(llama, mlp, option):
    with pytest.raises(ValueError, match=f"`{option}` has no drafted form"):
        Drafter(llama, mlp).generate(prompts()[0], **{option: 1}, **GREEDY)
    if option != "stopping_criteria":  # the others may stand in a generation config
        config = GenerationConfig(**{option: ["."] if option == "stop_strings" else 1.0}, max_new_tokens=4)
        with pytest.raises(ValueError, match=f"`{option}` has no drafted form"):
            Drafter(llama, mlp).generate(prompts()[0], generation_config=config)
    with pytest.raises(ValueError, match="There are 2 prompts"):
        Drafter(llama, mlp).generate(prompts()[0].expand(2, -1), **GREEDY)


def test_an_interrupted_text_leaves_the_model_as_it_was(llama, mlp):
    class Interrupted(Streamed):
        def put(self, value):
            if self.ids:
                raise KeyboardInterrupt
            super().put(value)

    drafter, (plain, _) = Drafter(llama, mlp, None, FixedLength(3)), next(texts(llama, Drafter(llama, mlp)))
    with pytest.raises(KeyboardInterrupt):
        drafter.generate(prompts()[0], streamer=Interrupted(), **GREEDY)
    assert "_get_candidate_generator" not in vars(llama)
    assert not llama.base_model._forward_hooks
    assert drafter.generate(prompts()[0], **GREEDY).tolist() == plain
