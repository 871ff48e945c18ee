"""EAGLE's drafter (arXiv 2401.15077) in plain torch, from its files: slow, without a cache, written from the paper.

    x_s = fc [e(token s + 1) ; h_s],  then Llama layers, the first without its input norm, and no norm at the end
Legend: S positions, D width, H heads, W width of a head.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor


class EagleReference:
    """The states that a drafter's directory foretells."""

    def __init__(self, directory: Path):
        self.config = json.loads((directory / "config.json").read_text())
        self.weights = load_file(directory / "model.safetensors")

    def states(self, hidden_SD: Tensor, embedding_SD: Tensor) -> Tensor:
        """The state after each position: state_SD. `embedding_SD[s]` is that of the token after position s."""
        state_SD = torch.cat([embedding_SD, hidden_SD], dim=-1) @ self.weights["fc.weight"].T
        for number in range(self.config["num_hidden_layers"]):
            layer = f"layers.{number}."
            state_SD = state_SD + self._attention(
                layer, state_SD if number == 0 else self._norm(layer, "input", state_SD)
            )
            state_SD = state_SD + self._mlp(layer, self._norm(layer, "post_attention", state_SD))
        return state_SD

    def drafts(self, hidden_SD: Tensor, token_ids: list[int], table_VD: Tensor, head_VD: Tensor, number: int):
        """Drafted tokens and their states; `token_ids` are those after each position."""
        ids, states = [*token_ids], []
        for _ in range(number):
            state_D = self.states(hidden_SD, table_VD[ids])[-1]
            hidden_SD = torch.cat([hidden_SD, state_D[None]])
            ids.append(int((head_VD @ state_D).argmax()))
            states.append(state_D)
        return ids[len(token_ids) :], torch.stack(states)

    def _norm(self, layer: str, name: str, state_SD: Tensor) -> Tensor:
        mean_S1 = state_SD.pow(2).mean(-1, keepdim=True)
        scaled_SD = state_SD * torch.rsqrt(mean_S1 + self.config["rms_norm_eps"])
        return scaled_SD * self.weights[f"{layer}{name}_layernorm.weight"]

    def _mlp(self, layer: str, state_SD: Tensor) -> Tensor:
        gate, up, down = (self.weights[f"{layer}mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
        return (F.silu(state_SD @ gate.T) * (state_SD @ up.T)) @ down.T

    def _attention(self, layer: str, state_SD: Tensor) -> Tensor:
        width, positions = self.config["head_dim"], torch.arange(len(state_SD))
        q, k, v, o = (self.weights[f"{layer}self_attn.{name}_proj.weight"] for name in "qkvo")
        query_HSW, key_HSW, value_HSW = (
            (state_SD @ one.T).unflatten(-1, (-1, width)).transpose(0, 1) for one in (q, k, v)
        )
        query_HSW, key_HSW = self._rotated(query_HSW, positions), self._rotated(key_HSW, positions)
        groups = len(query_HSW) // len(key_HSW)
        key_HSW, value_HSW = key_HSW.repeat_interleave(groups, 0), value_HSW.repeat_interleave(groups, 0)
        score_HSS = query_HSW @ key_HSW.transpose(1, 2) / width**0.5
        score_HSS = score_HSS.masked_fill(positions > positions[:, None], float("-inf"))
        return (score_HSS.softmax(-1) @ value_HSW).transpose(0, 1).flatten(1) @ o.T

    def _rotated(self, state_HSW: Tensor, positions: Tensor) -> Tensor:
        """Channels i and i + W/2 are turned by position / theta^(2i / W)."""
        half = state_HSW.shape[-1] // 2
        theta = self.config["rope_parameters"]["rope_theta"]
        angle_SF = positions[:, None] / theta ** (torch.arange(half) / half)
        first, second = state_HSW[..., :half], state_HSW[..., half:]
        cos, sin = angle_SF.cos(), angle_SF.sin()
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
