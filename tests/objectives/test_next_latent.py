"""`next_latent` in the trainer: its terms computed apart, the detached backbone, its network alone."""

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor
from transformers import BloomConfig, MambaConfig, MptConfig

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.objectives.latent_dynamics import LatentDecoderLayer, LatentMLP
from tests.architectures import tiny_model
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

COLUMNS = {"source_column": "source", "target_column": "target"}
NEXT_LATENT = {"jepa_objective": "next_latent", **COLUMNS}
SAME_HEAD = {"jepa_objective": "tube", "jepa_dropout": 1 - 1e-9, **COLUMNS}
"""Plain SFT whose head scores the labelled positions alone, as that of every objective does."""


def trainer_of(tmp_path, model=None, rows=PAIRS, lora=None, **options) -> JEPATrainer:
    common = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 4,
        "max_steps": 3,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return JEPATrainer(
        model or tiny_llama(),
        JEPAConfig(**common | options),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
        peft_config=lora,
    )


def logged(trainer: JEPATrainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if "loss" in entry]


def plain_terms(model, dynamics, row, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """LM loss (a sum), SmoothL1 and KL of one row, by plain forwards and position by position."""
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
    labels[0] = -100
    output = model(ids, output_hidden_states=True, use_cache=False)
    lm_sum = F.cross_entropy(output.logits[0, :-1], labels[1:], reduction="sum")
    hidden_SD, embedding_SD = output.hidden_states[-1][0], model.get_input_embeddings()(ids)[0]
    weight_VD = model.get_output_embeddings().weight.detach()
    distances, divergences = [], []
    for step in range(1, steps + 1):
        of_step, kl_of_step = [], []
        for t in range(len(hidden_SD) - step):
            state_D = hidden_SD[t]
            for i in range(1, step + 1):
                state_D = dynamics(state_D, embedding_SD[t + i])
            target_D = hidden_SD[t + step].detach()
            of_step.append(F.smooth_l1_loss(state_D, target_D))
            if t + step + 1 < len(labels) and labels[t + step + 1] != -100:
                log_p, log_q = ((weight_VD @ one).log_softmax(-1) for one in (target_D, state_D))
                kl_of_step.append((log_p.exp() * (log_p - log_q)).sum())
        distances.append(torch.stack(of_step).mean())
        divergences.append(torch.stack(kl_of_step).mean())
    return lm_sum, torch.stack(distances).mean(), torch.stack(divergences).mean()


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_step_is_the_gradient_of_the_terms_computed_apart(architecture, tmp_path):
    """One SGD step over two micro-batches, model and network; Gemma 3 scales its embeddings."""
    options = {"rollout_steps": 2, "smooth_l1_weight": 0.5, "kl_weight": 2.0, "jepa_weight": 0.3, **NEXT_LATENT}
    options |= {"optim": "sgd", "max_grad_norm": 1e9, "max_steps": 1, "gradient_accumulation_steps": 2}
    trainer = trainer_of(tmp_path, tiny_model(architecture, vocab_size=320), latent_width=0.5, **options)
    dynamics = trainer.predictor
    with torch.no_grad():  # a network whose last layer is not zero
        dynamics.layers[-1].weight.normal_(std=0.3)
    plain, plain_dynamics = tiny_model(architecture, vocab_size=320), LatentMLP(32, 16, 3)
    plain_dynamics.load_state_dict(dynamics.state_dict())
    terms = [plain_terms(plain, plain_dynamics, row, 2) for row in trainer.train_dataset]
    num_labels = sum(label != -100 for row in trainer.train_dataset for label in row["labels"][1:])
    lm_loss = sum(lm for lm, _, _ in terms) / num_labels
    smooth_l1, kl = (torch.stack([row[i] for row in terms]).mean() for i in (1, 2))
    (lm_loss + 0.3 * (0.5 * smooth_l1 + 2 * kl)).backward()
    trainer.train()

    assert logged(trainer, "lm_loss") == [pytest.approx(lm_loss.item(), rel=1e-5)]
    assert logged(trainer, "jepa_smooth_l1") == [pytest.approx(smooth_l1.item(), rel=1e-4)]
    assert logged(trainer, "jepa_kl") == [pytest.approx(kl.item(), rel=1e-4)]
    for expected, moved in ((plain, trainer.model), (plain_dynamics, dynamics)):
        for (name, weight), other in zip(expected.named_parameters(), moved.parameters(), strict=True):
            torch.testing.assert_close(other, weight - 1e-2 * weight.grad, atol=2e-6, rtol=0, msg=name)


@pytest.mark.parametrize("latent_predictor", ["mlp", "decoder_layer"])
@pytest.mark.parametrize(
    "lora", [None, LoraConfig(r=2, lora_dropout=0.0, task_type="CAUSAL_LM")], ids=["full", "lora"]
)
def test_beside_a_detached_network_the_model_is_that_of_sft_bit_for_bit(latent_predictor, lora, tmp_path):
    """Both norms are clipped, each by itself; the network learns."""
    clipped = {"max_grad_norm": 0.01, "weight_decay": 0.1}
    sft = trainer_of(tmp_path, lora=lora, **SAME_HEAD, **clipped)
    sft.train()
    own = {"latent_predictor": latent_predictor, "predictor_learning_rate": 3e-3}
    ours = trainer_of(tmp_path, lora=lora, detach_backbone=True, **own, **NEXT_LATENT, **clipped)
    before = [parameter.detach().clone() for parameter in ours.predictor.parameters()]
    ours.train()
    expected = sft.model.state_dict()
    assert expected.keys() == ours.model.state_dict().keys()
    assert all(torch.equal(value, expected[name]) for name, value in ours.model.state_dict().items())
    assert logged(ours, "grad_norm") == logged(sft, "grad_norm")
    moved = [not torch.equal(*pair) for pair in zip(before, ours.predictor.parameters(), strict=True)]
    assert all(moved)


def test_over_a_finished_model_the_network_alone_is_trained(tmp_path):
    """`lm_weight: 0`, detached: no weight of the model has a gradient."""
    options = {"lm_weight": 0.0, "detach_backbone": True, "max_steps": 12, **NEXT_LATENT}
    trainer = trainer_of(tmp_path, predictor_learning_rate=1e-2, **options)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert logged(trainer, "jepa_loss")[-1] < 0.9 * logged(trainer, "jepa_loss")[0]
    assert min(logged(trainer, "grad_norm")) > 0  # that of the network
    size = trainer.throughput.size
    assert (size.trained_parameters, size.trained_head_parameters) == (0, 0)


def test_without_the_kl_no_vocabulary_is_scored_and_none_is_logged(tmp_path):
    trainer = trainer_of(tmp_path, kl_weight=0.0, max_steps=1, **NEXT_LATENT)
    trainer.train()
    assert "jepa_kl" not in trainer.state.log_history[0]
    assert logged(trainer, "jepa_loss") == logged(trainer, "jepa_smooth_l1")


def test_plain_text_needs_no_pairs(tmp_path):
    trainer = trainer_of(tmp_path, rows=[{"text": pair["source"]} for pair in PAIRS], jepa_objective="next_latent")
    assert not any("span" in name or "source" in name for name in trainer.train_dataset.column_names)
    trainer.train()
    assert len(logged(trainer, "jepa_loss")) == 3


def test_the_network_begins_as_the_identity_and_is_drawn_by_the_seed(tmp_path):
    hidden_NSD, embedding_NSD = torch.randn(2, 3, 32), torch.randn(2, 3, 32)
    state = torch.get_rng_state()
    first, again, other = (trainer_of(tmp_path, seed=seed, **NEXT_LATENT).predictor.state_dict() for seed in (1, 1, 2))
    assert state.shape == torch.get_rng_state().shape
    assert torch.equal(first["layers.1.weight"], again["layers.1.weight"])
    assert not torch.equal(first["layers.1.weight"], other["layers.1.weight"])
    network = LatentMLP(32, 16, 3)
    network.load_state_dict(network.state_dict())
    assert torch.equal(network(hidden_NSD, embedding_NSD), hidden_NSD)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
def test_a_decoder_layer_sees_no_later_position(architecture):
    """Change the last token's embedding: the states before it stay."""
    config = tiny_model(architecture).config.get_text_config()
    torch.manual_seed(0)
    layer = LatentDecoderLayer(config, depth=2)
    hidden_NSD, embedding_NSD = torch.randn(1, 5, config.hidden_size), torch.randn(1, 5, config.hidden_size)
    changed_NSD = embedding_NSD.clone()
    changed_NSD[:, -1] += 1
    first, second = layer(hidden_NSD, embedding_NSD), layer(hidden_NSD, changed_NSD)
    torch.testing.assert_close(first[:, :-1], second[:, :-1])
    assert not torch.allclose(first[:, -1], second[:, -1])


@pytest.mark.parametrize("config", [BloomConfig, MptConfig])
def test_a_decoder_layer_beside_a_model_that_says_no_positions(config):
    layer = LatentDecoderLayer(config(hidden_size=32, n_head=4, d_model=32, n_heads=4), depth=1)
    assert layer(torch.randn(2, 5, 32), torch.randn(2, 5, 32)).shape == (2, 5, 32)
    assert layer.config.num_attention_heads == 4


def test_a_decoder_layer_beside_a_model_without_heads_is_refused():
    with pytest.raises(ValueError, match=r"MambaConfig names none\. Set `latent_predictor: mlp`"):
        LatentDecoderLayer(MambaConfig(hidden_size=32), depth=1)


def test_noise_on_the_embeddings_leaves_the_model_beside_a_detached_network_as_it_is(tmp_path):
    """NEFTune draws once a step, with the network and without."""
    states = []
    for options in (SAME_HEAD, NEXT_LATENT | {"detach_backbone": True}):
        trainer = trainer_of(tmp_path, neftune_noise_alpha=5.0, **options)  # it seeds what is drawn
        trainer.train()
        states.append(trainer.model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_detached_network_leaves_another_objective_as_it_is(tmp_path):
    """Each norm is clipped by itself."""
    clipped = {"max_grad_norm": 0.01, **COLUMNS}
    alone = trainer_of(tmp_path, jepa_objective="tube", **clipped)
    beside = trainer_of(tmp_path, jepa_objective=["tube", "next_latent"], detach_backbone=True, **clipped)
    for trainer in (alone, beside):
        trainer.train()
    expected = alone.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in beside.model.state_dict().items())
