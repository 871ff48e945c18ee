"""A text decoder learns to write answers from their embeddings, comes back as it was saved, and says what it is."""

import json

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModelForCausalLM

from llm_jepa.cli import main
from llm_jepa.entry import MISTAKE_STATUS
from llm_jepa.options.text_decoder import TextDecoderOptions
from llm_jepa.vision.decoder_training import noise_like, train_text_decoder
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.text_decoder import DecoderFacts, TextDecoder
from tests.vision.tiny_parts import COLOURS, saved, tiny_model
from tests.vision.tiny_runs import tiny_run

TEXTS = ["red", "a blue sky", "."]


def new_decoder(num_layers: int = 2) -> TextDecoder:
    torch.manual_seed(0)
    return TextDecoder.from_language_model(saved("llama"), num_layers, DecoderFacts(12, 3, "digest")).eval()


def test_the_loss_is_that_of_a_loop_over_tokens():
    """Each token, and the end, by the tokens before it; no padding; the length of an embedding does not count."""
    decoder = new_decoder()
    embedding_NE = torch.randn(3, 12)
    losses = []
    for embedding_E, text in zip(embedding_NE, TEXTS, strict=True):
        ids = [*decoder.tokenizer(text, add_special_tokens=False)["input_ids"], decoder.tokenizer.eos_token_id]
        prefix = (decoder.prefix.weight @ normalize(embedding_E, dim=0) + decoder.prefix.bias).view(3, 32)
        for place, token in enumerate(ids):
            words = decoder.language_model.model.embed_tokens.weight[ids[:place]]
            logits = decoder.language_model(inputs_embeds=torch.cat([prefix, words])[None]).logits[0, -1]
            losses.append(cross_entropy(logits, torch.tensor(token)))
    torch.testing.assert_close(decoder.loss(embedding_NE, TEXTS), torch.stack(losses).mean())
    torch.testing.assert_close(decoder.loss(7 * embedding_NE, TEXTS), torch.stack(losses).mean())


def test_a_text_is_the_most_likely_token_after_token():
    """Whatever the penalties in the language model's generation config."""
    decoder = new_decoder()
    decoder.language_model.generation_config.repetition_penalty = 5.0
    embedding_NE = torch.randn(2, 12)
    for embedding_E, written in zip(embedding_NE, decoder.write(embedding_NE, max_new_tokens=4), strict=True):
        ids: list[int] = []
        while len(ids) < 4 and decoder.tokenizer.eos_token_id not in ids:
            words = decoder.language_model.model.embed_tokens.weight[ids]
            inputs = torch.cat([decoder.prefix_vectors(embedding_E[None])[0], words])
            ids.append(int(decoder.language_model(inputs_embeds=inputs[None]).logits[0, -1].argmax()))
        assert written == decoder.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_it_is_the_last_layers_whose_embeddings_and_head_stay():
    decoder, whole = new_decoder(), AutoModelForCausalLM.from_pretrained(saved("llama"))
    mine, its = decoder.language_model.state_dict(), whole.state_dict()
    for place, layer in enumerate((2, 3)):
        name = "model.layers.{}.mlp.up_proj.weight"
        assert torch.equal(mine[name.format(place)], its[name.format(layer)])
    parameters = decoder.named_parameters(remove_duplicate=False)
    frozen = {name for name, parameter in parameters if not parameter.requires_grad}
    assert frozen == {"language_model.model.embed_tokens.weight", "language_model.lm_head.weight"}
    with pytest.raises(ValueError, match=r"`num_layers` is 5; .* has 4\. Give 1 to 4"):
        new_decoder(5)


def test_noise_has_the_length_that_is_asked_for():
    torch.manual_seed(0)
    noise_NE = noise_like(torch.zeros(2000, 12), 0.5)
    assert noise_NE.square().sum(dim=1).mean().sqrt() == pytest.approx(0.5, rel=0.05)
    assert noise_like(torch.zeros(2, 12), 0.0).abs().max() == 0


def test_training_takes_every_answer_as_often_as_it_comes_and_leaves_the_model_as_it_is(monkeypatch):
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    taken: list[str] = []
    loss_of = TextDecoder.loss

    def loss(self, embedding_NE, texts):
        taken.extend(texts)
        return loss_of(self, embedding_NE, texts)

    monkeypatch.setattr(TextDecoder, "loss", loss)
    options = TextDecoderOptions(num_steps=6, batch_size=4, num_layers=1)
    decoder, training = train_text_decoder(model, ["a", "b ", "a"], saved("llama"), options, "digest")
    assert sorted(taken[:3]) == sorted(taken[3:6]) == ["a", "a", "b"]
    assert (training.rows, training.different_answers, training.steps) == (3, 2, 6)
    assert len(taken) == 24
    assert training.trained_parameters == training.parameters - 320 * 32  # head and embeddings are one
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    again, _ = train_text_decoder(model, ["a", "b ", "a"], saved("llama"), options, "digest")
    for mine, its in zip(decoder.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, its)


TRAIN = ["--num_steps=120", "--batch_size=12", "--learning_rate=1e-2", "--noise=0"]


def test_a_run_gets_a_decoder_that_writes_its_answers(tmp_path, capsys):
    """From the command line to the text of a prediction; another run's decoder is refused."""
    run = tiny_run(tmp_path)
    with pytest.raises(ValueError, match=r"has no text decoder \(text_decoder/\). Train one: `llm-jepa train-decoder"):
        VLJEPAModel.from_pretrained(run).decode(torch.zeros(1, 12))
    assert main(["train-decoder", str(run), *TRAIN]) == 0
    content = json.loads((run / "text_decoder" / "text_decoder.json").read_text())
    model = VLJEPAModel.from_pretrained(run)
    assert model.decode(model.encode_text([*COLOURS])) == [*COLOURS]
    assert content["exact_match"]["answers"]["hits"] == 12
    output = capsys.readouterr().out
    assert main(["answer", str(run), "--image", str(tmp_path / "red.png"), "--query", "which one?"]) == 0
    (text,) = model.decode(model.predict([tmp_path / "red.png"], ["which one?"]))
    assert capsys.readouterr().out == f"which one?\n  {text}\n"
    with pytest.raises(SystemExit):
        main(["answer", str(run), "--image", str(tmp_path / "red.png"), "--top", "2"])
    assert "`--top` has no effect without `--candidates`" in capsys.readouterr().err
    assert f"text decoder: {run / 'text_decoder'}" in output
    assert "12 answers, 6 different, noise 0; 120 steps" in output
    assert "of 12 held-out rows" in output
    assert "100.0 %  text of the answer's own embedding" in output
    with pytest.raises(SystemExit) as ended:
        main(["train-decoder", str(run)])
    assert ended.value.code == MISTAKE_STATUS
    assert "Delete it to train another decoder" in capsys.readouterr().err
    with torch.no_grad():
        model.prediction_head.bias.add_(1.0)
    model.save_pretrained(run)
    with pytest.raises(ValueError, match="was trained on other weights than those of the run"):
        VLJEPAModel.from_pretrained(run).decode(torch.zeros(1, 12))


def test_a_hub_that_cannot_be_reached_is_not_taken_for_a_run_without_a_decoder(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="nobody/no-run: HF_HUB_OFFLINE is set"):
        TextDecoder.from_pretrained("nobody/no-run")


def test_an_interrupted_training_leaves_nothing(tmp_path, monkeypatch):
    run = tiny_run(tmp_path)
    monkeypatch.setattr("llm_jepa.vision.text_decoder.save_file", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["train-decoder", str(run), "--num_steps=1"])
    assert not [path for path in run.iterdir() if "decoder" in path.name]


def test_options_out_of_range_end_in_one_line(tmp_path, capsys):
    run = tiny_run(tmp_path)
    for argument, message in {
        "--num_layers=0": "`num_layers` is 0; it must be at least 1",
        "--noise=-1": "`noise` is -1.0; it must be a finite number of at least 0",
        "--learning_rate=0": "`learning_rate` is 0.0; it must be a finite number above 0",
        "--language_model=team/absent": "`language_model: team/absent`: ",
        "--language_model=./absent": "`language_model: ./absent` is no directory",
    }.items():
        with pytest.raises(SystemExit):
            main(["train-decoder", str(run), argument])
        (said,) = capsys.readouterr().err.splitlines()
        assert message in said
    with pytest.raises(SystemExit):
        main(["train-decoder", str(tmp_path / "absent")])
    assert "absent` is no directory" in capsys.readouterr().err
