"""A recipe with `vision_encoder` is read by VL-JEPA's own keys, trains, goes on from an earlier stage, and is refused
where it is wrong before anything is written.
"""

import json
import logging
import re
from pathlib import Path

import pytest
import yaml

from llm_jepa.recipe import parse_recipe
from llm_jepa.settings.checks import check_recipe
from llm_jepa.train import main
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.recipe import VisionRecipe, parse_any_recipe
from llm_jepa.vision.token_model import TokenVLM
from tests.vision.tiny_parts import COLOURS, colour_rows, picture, saved

SETTINGS = {
    "predictor_layers": 2,
    "embedding_size": 12,
    "max_steps": 2,
    "per_device_train_batch_size": 6,
    "save_strategy": "no",
    "disable_tqdm": True,
}


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe with further settings, and gives its path. Pictures lie beside the rows, as relative paths."""
    rows = colour_rows(tmp_path)
    lines = [json.dumps(row | {"image": Path(row["image"]).name}) + "\n" for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    parts = {"vision_encoder": saved("dinov2"), "language_model": saved("llama"), "text_encoder": saved("bert")}
    given = {"dataset_name": str(tmp_path / "rows.jsonl"), "output_dir": str(tmp_path / "run")}

    def write(**settings) -> str:
        content = SETTINGS | parts | given | settings
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value != "left out"}))
        return str(path)

    return write


def test_the_keys_are_those_of_vl_jepa(recipe):
    read = parse_any_recipe([recipe(), "--text_encoder_learning_rate_factor", "0", "--question_column", "null"])
    assert isinstance(read, VisionRecipe)
    assert read.training.text_encoder_learning_rate_factor == 0
    assert read.training.question_column is None
    assert read.training.predictor_layers == read.settings["predictor_layers"] == 2


def test_the_command_line_may_name_the_vision_encoder(recipe):
    path = recipe(vision_encoder="left out")
    with pytest.raises(ValueError, match="unknown key `embedding_size`"):
        check_recipe(Path(path))
    assert check_recipe(Path(path), ["--vision_encoder", "x"])["vision_encoder"] == "x"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"predictor_layer": 3}, "line .*: unknown key `predictor_layer`. Did you mean `predictor_layers`?"),
        ({"jepa_weight": 1.0}, "unknown key `jepa_weight`"),
        ({"jepa_loss": "l2"}, "`jepa_loss` is 'l2'; it must be one of info_nce_symmetric, info_nce, cosine"),
        ({"text_encoder": "left out"}, "`text_encoder` must be given"),
        ({"predictor_layers": -1}, "`predictor_layers` is -1; it must be at least 0"),
        (
            {"predictor_layers": 0, "answer_form": "tokens"},
            "`predictor_layers` is 0; it must be at least 1 with `answer_form: tokens`",
        ),
        ({"predictor_layers": 0, "predictor_weights": "random"}, "has no effect with `predictor_layers: 0`"),
        (
            {"answer_form": "tokens", "metric_for_best_model": "recall_at_1"},
            "`metric_for_best_model: recall_at_1` is not logged with `answer_form: tokens`",
        ),
        ({"text_encoder_learning_rate_factor": -1}, "must be a finite number >= 0"),
        ({"info_nce_temperature": 0}, "`info_nce_temperature` is 0.0; it must be a finite number > 0"),
        ({"inputs": "question", "question_column": None}, "`inputs: question` needs a `question_column`"),
        ({"inputs": "question", "feature_cache": "c"}, "`feature_cache` has no effect with `inputs: question`"),
        ({"feature_cache": "c", "vision_encoder_learning_rate_factor": 0.1}, "Leave one out"),
        ({"jepa_target": "stop_gradient"}, "Set `text_encoder_learning_rate_factor: 0`"),
        ({"jepa_loss": "cosine", "info_nce_temperature": 0.1}, "`info_nce_temperature` would have no effect"),
        ({"regulariser_weight": 0.1}, "`regulariser_weight` would have no effect"),
        ({"answer_column": "question"}, "image, question, answer and candidates are one each"),
        ({"model_name_or_path": "x", "predictor_weights": "random"}, "`predictor_weights` has no effect"),
        ({"push_to_hub": True, "answer_form": "tokens"}, "`push_to_hub` publishes no control"),
        ({"push_to_hub": True, "hub_strategy": "every_save"}, "`hub_strategy` is 'every_save'"),
        ({"remove_unused_columns": True}, "would remove image, question and answer"),
        (
            {"metric_for_best_model": "eval_recall_at_2"},
            "not logged with `answer_form: embedding`. Name one of loss, recall",
        ),
        ({"label_smoothing_factor": 0.1}, "`label_smoothing_factor: 0.1` has no effect"),
        ({"prediction_loss_only": True}, "`prediction_loss_only: true` would leave out the metrics"),
        ({"eval_do_concat_batches": False}, "`eval_do_concat_batches: false` would split"),
        ({"batch_eval_metrics": True}, "`batch_eval_metrics: true` would split"),
        ({"train_sampling_strategy": "group_by_length"}, "`train_sampling_strategy: group_by_length` needs rows"),
        ({"dataset_test_split": "test[:200%]"}, "is no split"),
    ],
)
def test_wrong_settings_are_refused(settings, message, recipe):
    with pytest.raises(ValueError, match=message):
        check_recipe(Path(recipe(**settings)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vision_encoder": "./no/such"}, "`vision_encoder: ./no/such` is no directory"),
        ({"language_model": "./no/such"}, "`language_model: ./no/such` is no directory"),
        ({"model_name_or_path": "./no/such"}, "`model_name_or_path: ./no/such` is no directory"),
        (
            {"question_column": "ask"},
            "`question_column: ask`: .* has no column 'ask'. It has: image, question, answer",
        ),
        ({"predictor_layers": 9}, "`predictor_layers` is 9; it must be from 0 to 4"),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_is_written(settings, message, recipe, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([recipe(**settings)])
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, said), said
    assert not (tmp_path / "run").exists()


def test_one_missing_picture_is_named_before_training(recipe, tmp_path, capsys):
    (tmp_path / "blue.png").unlink()
    with pytest.raises(SystemExit):
        main([recipe()])
    assert "Of 6 pictures 1 are missing, the first: row 2: picture `blue.png`" in capsys.readouterr().err


def test_commands_for_text_say_which_commands_are_for_vl_jepa(recipe):
    with pytest.raises(ValueError, match=r"a recipe of VL-JEPA, .* is for `llm-jepa train`"):
        parse_recipe([recipe()])


def test_keys_of_embeddings_are_not_read_by_a_token_vlm_and_it_says_which(recipe, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "llm_jepa"):
        main([recipe(answer_form="tokens", text_encoder="left out", jepa_loss="cosine", predictor_layers=1)])
    assert "`answer_form: tokens` does not read `embedding_size`, `jepa_loss`." in caplog.text
    model = TokenVLM.from_pretrained(tmp_path / "run")
    assert len(model.decoder_layers) == 1
    assert not (tmp_path / "run" / "answer_tokenizer").exists()


def test_a_token_vlm_goes_on_from_one_of_captions_alone(recipe, tmp_path, capsys):
    tokens = {"answer_form": "tokens"}
    main([recipe(**tokens, question_column=None)])
    stage = {"model_name_or_path": str(tmp_path / "run"), "output_dir": str(tmp_path / "second")}
    main([recipe(**tokens, **stage, learning_rate=0.0)])
    images = [picture(colour) for colour in COLOURS.values()]
    first, second = (TokenVLM.from_pretrained(tmp_path / name).eval() for name in ("run", "second"))
    assert first.answer(images) == second.answer(images)
    for settings, message in (
        ({**tokens, "predictor_layers": 1}, "was made with `predictor_layers: 2`; the recipe says 1"),
        ({}, "is of the type token_vlm, and `answer_form: embedding` needs one of the type vl_jepa"),
    ):
        with pytest.raises(SystemExit):
            main([recipe(**stage | settings | {"output_dir": str(tmp_path / "third")})])
        assert message in capsys.readouterr().err


def test_a_linear_probe_trains(recipe, tmp_path):
    main([recipe(predictor_layers=0)])
    assert len(VLJEPAModel.from_pretrained(tmp_path / "run").decoder_layers) == 0


def test_two_stages_train_and_the_second_goes_on_from_the_first(recipe, tmp_path):
    """Captions without a question, then questions; relative paths are beside the rows. A complete run stays."""
    main([recipe(question_column=None)])
    first = VLJEPAModel.from_pretrained(tmp_path / "run")
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    main([recipe(question_column=None)])
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before

    stage = {"model_name_or_path": str(tmp_path / "run"), "output_dir": str(tmp_path / "second")}
    still = {"learning_rate": 0.0, "text_encoder_learning_rate_factor": 0.0, "max_steps": 1}
    main([recipe(**stage, **still)])
    second = VLJEPAModel.from_pretrained(tmp_path / "second")
    images = [picture(colour) for colour in COLOURS.values()]
    assert (first.predict(images) == second.predict(images)).all()
    assert not second.config.trains_text_encoder


def test_a_learned_temperature_begins_in_each_stage_where_its_recipe_says(recipe, tmp_path):
    main([recipe(question_column=None, info_nce_temperature=0.07)])
    stage = {"model_name_or_path": str(tmp_path / "run"), "output_dir": str(tmp_path / "second")}
    main([recipe(**stage, trains_temperature=True, info_nce_temperature=0.3, learning_rate=0.0, max_steps=1)])
    second = VLJEPAModel.from_pretrained(tmp_path / "second")
    assert second.log_temperature.exp().item() == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"predictor_layers": 1}, "was made with `predictor_layers: 2`; the recipe says 1"),
        ({"embedding_size": 8}, "was made with `embedding_size: 12`; the recipe says 8"),
        ({"text_pooling": "cls"}, "was made with `text_pooling: mean`; the recipe says cls"),
    ],
)
def test_a_stage_of_other_parts_is_refused(settings, message, recipe, tmp_path, capsys):
    main([recipe()])
    stage = {"model_name_or_path": str(tmp_path / "run"), "output_dir": str(tmp_path / "second")}
    with pytest.raises(SystemExit):
        main([recipe(**stage, **settings)])
    assert message in capsys.readouterr().err


def test_an_interrupted_run_resumes(recipe, tmp_path):
    steps = {"save_strategy": "steps", "save_steps": 1}
    main([recipe(**steps)])
    whole = (tmp_path / "run" / "model.safetensors").read_bytes()
    for name in ("trainer_state.json", "model.safetensors"):
        (tmp_path / "run" / name).unlink()
    for path in (tmp_path / "run" / "checkpoint-2").rglob("*"):
        if path.is_file():
            path.unlink()
    main([recipe(**steps)])
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == whole
