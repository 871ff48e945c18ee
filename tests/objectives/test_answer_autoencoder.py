"""The autoencoder of targets: it writes down what it has read, by its codes alone, which therefore cannot be alike."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from llm_jepa.objectives.answer_autoencoder import CODE_WIDTH, AnswerAutoencoder
from llm_jepa.objectives.losses import LMHead, code_regression_rows, reconstruction_rows

VOCABULARY, ANSWERS, CODES, LONGEST = 40, 50, 2, 8


def made_up_answers() -> tuple[torch.Tensor, torch.Tensor]:
    """Different strings of 3 to 8 random tokens: token_NT, is_token_NT."""
    generator = torch.Generator().manual_seed(1)
    tokens_N = torch.randint(3, LONGEST + 1, (ANSWERS,), generator=generator)
    is_token_NT = torch.arange(LONGEST) < tokens_N[:, None]
    token_NT = torch.randint(0, VOCABULARY, (ANSWERS, LONGEST), generator=generator)
    return token_NT * is_token_NT, is_token_NT


def test_it_runs_in_bfloat16_without_autocast():
    """As FSDP2 and DeepSpeed cast it."""
    code_NKC, loss_N = AnswerAutoencoder(VOCABULARY, CODES, seed=0, width=32).bfloat16()(*made_up_answers())
    assert code_NKC.dtype == torch.float32
    assert torch.isfinite(loss_N).all()


@pytest.fixture(scope="module")
def trained() -> AnswerAutoencoder:
    autoencoder = AnswerAutoencoder(VOCABULARY, CODES, seed=0, width=32)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        _, loss_N = autoencoder(*made_up_answers())
        loss_N.mean().backward()
        optimizer.step()
    return autoencoder


def written(autoencoder: AnswerAutoencoder, code_NKC: torch.Tensor) -> torch.Tensor:
    """Greedy decoding from codes, a token at a time: token_NT."""
    token_NT = torch.zeros(len(code_NKC), LONGEST, dtype=torch.long)
    for position in range(LONGEST):
        decoded_NTE = autoencoder.decode(code_NKC, token_NT)
        token_NT[:, position] = (decoded_NTE[:, position] @ autoencoder.table_VE.T).argmax(dim=-1)
    return token_NT


@torch.no_grad()
def test_it_writes_down_fifty_answers_from_their_codes(trained: AnswerAutoencoder):
    token_NT, is_token_NT = made_up_answers()
    again_NT = written(trained, trained.encode(token_NT, is_token_NT))
    assert torch.equal(again_NT * is_token_NT, token_NT)


@torch.no_grad()
def test_alike_codes_cannot_reconstruct(trained: AnswerAutoencoder):
    """Without its code an answer costs log 50 on average at least, whatever the decoder; with it, a tenth of that."""
    token_NT, is_token_NT = made_up_answers()
    code_NKC, loss_N = trained(token_NT, is_token_NT)
    bound = math.log(ANSWERS)
    assert (loss_N * is_token_NT.sum(dim=1)).mean() < bound / 10
    alike_NKC = code_NKC.mean(dim=0).expand_as(code_NKC)
    alike_N = reconstruction_rows(trained.decode(alike_NKC, token_NT), token_NT, is_token_NT, LMHead(trained.table_VE))
    assert (alike_N * is_token_NT.sum(dim=1)).mean() >= bound


@torch.no_grad()
def test_a_constant_prediction_of_the_codes_is_far_from_them(trained: AnswerAutoencoder):
    """Codes have variance 1 over their numbers; the best constant leaves half of it at least."""
    code_NKC = trained.encode(*made_up_answers())
    constant_NKC = code_NKC.mean(dim=0).expand_as(code_NKC)
    assert code_regression_rows(constant_NKC, code_NKC).mean() > 0.5
    torch.testing.assert_close(code_NKC.mean(dim=-1), torch.zeros(ANSWERS, CODES), atol=1e-5, rtol=0)
    torch.testing.assert_close(code_NKC.var(dim=-1, correction=0), torch.ones(ANSWERS, CODES), atol=1e-3, rtol=0)
    assert code_NKC.shape == (ANSWERS, CODES, CODE_WIDTH)


@torch.no_grad()
def test_padding_changes_neither_codes_nor_loss(trained: AnswerAutoencoder):
    """Neither what stands in it nor how much there is."""
    token_NT, is_token_NT = made_up_answers()
    code_NKC, loss_N = trained(token_NT, is_token_NT)
    other_NT = torch.nn.functional.pad(token_NT.masked_fill(~is_token_NT, 7), (0, 3), value=9)
    padded_NT = torch.nn.functional.pad(is_token_NT, (0, 3), value=False)
    for actual, expected in zip(trained(other_NT, padded_NT), (code_NKC, loss_N), strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_state_depends_on_the_codes_and_on_earlier_tokens_alone(trained: AnswerAutoencoder):
    token_NT, is_token_NT = made_up_answers()
    code_NKC = trained.encode(token_NT, is_token_NT)
    before_NTE = trained.decode(code_NKC, token_NT)
    changed_NT = token_NT.clone()
    changed_NT[:, 4] = (token_NT[:, 4] + 1) % VOCABULARY
    same_T = (trained.decode(code_NKC, changed_NT) - before_NTE).abs().amax(dim=(0, 2)) < 1e-6
    assert same_T.tolist() == [True] * 5 + [False] * 3


def test_a_row_without_tokens_has_the_loss_zero_and_finite_codes():
    autoencoder = AnswerAutoencoder(VOCABULARY, CODES, seed=0)
    code_NKC, loss_N = autoencoder(torch.zeros(2, 3, dtype=torch.long), torch.tensor([[False] * 3, [True] * 3]))
    assert loss_N[0] == 0
    (loss_N.sum() + code_NKC.sum()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in autoencoder.parameters())


@torch.no_grad()
def test_an_evaluation_has_the_codes_and_losses_of_training(trained: AnswerAutoencoder):
    """PyTorch computes a layer in another way when it is evaluated."""
    training = trained(*made_up_answers())
    evaluation = trained.eval()(*made_up_answers())
    trained.train()
    for actual, expected in zip(evaluation, training, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_no_shape_depends_on_a_value():
    """So that a plan can count a step without data."""
    with FakeTensorMode() as mode:
        autoencoder = AnswerAutoencoder(VOCABULARY, CODES, seed=0)
        code_NKC, loss_N = autoencoder(*map(mode.from_tensor, made_up_answers()))
        (loss_N.sum() + code_NKC.sum()).backward()
    assert code_NKC.shape == (ANSWERS, CODES, CODE_WIDTH)


def test_a_seed_gives_the_same_weights_and_leaves_the_global_state():
    state = torch.get_rng_state()
    first, second, other = (AnswerAutoencoder(VOCABULARY, CODES, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["table_VE"], other["table_VE"])


def test_autocast_gives_float32_codes_and_losses():
    autoencoder = AnswerAutoencoder(VOCABULARY, CODES, seed=0)
    exact = autoencoder(*made_up_answers())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = autoencoder(*made_up_answers())
    for actual, expected in zip(rounded, exact, strict=True):
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, expected, atol=0.1, rtol=0.1)
