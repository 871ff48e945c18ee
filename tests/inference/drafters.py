"""Latent dynamics that have learnt the texts of a tiny model, so that some of their drafted tokens are accepted."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_jepa import JEPAConfig
from llm_jepa.objectives.next_latent import new_dynamics

NEW_TOKENS = 16
GREEDY = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "pad_token_id": 0}


def prompts(vocabulary_tokens: int = 48, number: int = 2) -> list[Tensor]:
    """Random prompts of 5, 6, ... tokens: ids_1S each."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, vocabulary_tokens, (1, 5 + i), generator=generator) for i in range(number)]


def untrained_dynamics(model: PreTrainedModel, name: str = "mlp", depth: int | None = None) -> nn.Module:
    """g as training begins with it."""
    options = {"latent_width": 2.0} if name == "mlp" else {}
    options |= {} if depth is None else {"latent_depth": depth}
    args = JEPAConfig(
        "unused", jepa_objective="next_latent", latent_predictor=name, use_cpu=True, bf16=False, **options
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return new_dynamics(args, model.config.get_text_config())


def trained_dynamics(
    model: PreTrainedModel, name: str = "mlp", steps: int = 40, depth: int | None = None
) -> nn.Module:
    """g after some steps on the greedy text of the first prompt, with the model frozen."""
    dynamics = untrained_dynamics(model, name, depth)
    with torch.no_grad():
        ids_1S = model.generate(prompts()[0].to(model.device), eos_token_id=[], **GREEDY)
        hidden_1SD = model.base_model(input_ids=ids_1S, use_cache=False)[0].float()
        embedding_1SD = model.get_input_embeddings()(ids_1S).float()
    optimizer = torch.optim.Adam(dynamics.parameters(), lr=1e-2)
    for _ in range(steps):
        predicted_1TD = dynamics(hidden_1SD[:, :-1], embedding_1SD[:, 1:])
        loss = F.smooth_l1_loss(predicted_1TD, hidden_1SD[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return dynamics.eval()
