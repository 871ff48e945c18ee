"""A laid-out micro-batch reaches the device as tensors do, through every step of a `DataLoader`."""

from dataclasses import fields

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from llm_jepa.data.views import TokenSequence
from llm_jepa.layouts import Batch, Example, FlatLayout, LaidOut, RowsLayout


def laid_out(num_rows: int = 2) -> LaidOut:
    tokens = TokenSequence((5, 6, 7), (0, 0, 0))
    examples = [Example(tokens, [5, 6, 7], (tokens, tokens))] * num_rows
    target_ids_NT = torch.tensor([[6, 7, -1]] * num_rows)
    return LaidOut(FlatLayout(0).lay_out(examples), RowsLayout(0).lay_out(examples), target_ids_NT)


def tensors(one: LaidOut) -> list[Tensor]:
    values = [getattr(part, field.name) for part in (one.batch, one.detached) for field in fields(Batch)]
    return [value for value in [*values, one.target_ids_NT] if isinstance(value, Tensor)]


def test_every_tensor_goes_to_the_device_and_the_numbers_stay():
    moved = send_to_device({"laid_out": laid_out()}, torch.device("meta"))["laid_out"]
    assert {tensor.device.type for tensor in tensors(moved)} == {"meta"}
    assert len(tensors(moved)) == len(tensors(laid_out()))
    assert moved.batch.longest_tokens == laid_out().batch.longest_tokens
    assert moved.batch.num_tokens == laid_out().batch.num_tokens


def test_embeddings_of_targets_go_along():
    one = LaidOut(laid_out().batch, target_ND=torch.zeros(2, 3))
    assert one.to("meta").target_ND.device.type == "meta"
    assert laid_out().to("meta").target_ND is None


def test_every_tensor_is_pinned(monkeypatch):
    pinned = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    pin_memory({"laid_out": laid_out()})
    assert len(pinned) == len(tensors(laid_out()))


def test_a_worker_process_hands_over_what_it_collates():
    loader = DataLoader([1, 2], batch_size=2, num_workers=1, collate_fn=lambda rows: {"laid_out": laid_out(len(rows))})
    (batch,) = loader
    for actual, expected in zip(tensors(batch["laid_out"]), tensors(laid_out()), strict=True):
        assert torch.equal(actual, expected)


def test_positions_count_padding_and_both_forwards():
    one = laid_out()
    assert one.num_positions == one.batch.input_ids_RL.numel() + one.detached.input_ids_RL.numel()
    assert one.detached_tokens == 2 * 9
    assert LaidOut(one.batch).detached_tokens == 0
