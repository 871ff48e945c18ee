"""JEPAConfig: the paper's defaults, and an error for every option that is out of range or would have no effect."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import HfArgumentParser
from trl import SFTConfig, TrlParser

from llm_jepa import JEPAConfig

PAPER = {
    "jepa_objective": "pair",
    "jepa_dropout": 0.0,
    "jepa_weight": 1.0,
    "lm_weight": 1.0,
    "num_predictor_tokens": 1,
    "predictor_position": "append",
    "jepa_loss": "cosine",
    "jepa_direction": "source_to_target",
    "jepa_source_view": "alone",
    "jepa_target": "online",
}


def config(**options) -> JEPAConfig:
    return JEPAConfig("out", report_to="none", **options)


def test_defaults_are_the_papers():
    args = config()
    assert {name: getattr(args, name) for name in PAPER} == PAPER
    assert (args.jepa_layout, args.long_rows, args.from_scratch) == ("auto", "drop", False)


def test_only_completions_are_learned_unless_said_otherwise():
    """TRL decides by the data set's columns, which are `prompt` and `completion` only after the mapping to rows."""
    assert config().completion_only_loss is True
    assert config(completion_only_loss=None).completion_only_loss is True
    assert config(completion_only_loss=False).completion_only_loss is False


def test_info_nce_temperature_is_the_papers_when_not_given():
    assert config(jepa_loss="info_nce").info_nce_temperature == 0.07
    assert config(jepa_loss="info_nce_symmetric").info_nce_temperature == 0.07
    assert config(jepa_loss="info_nce", info_nce_temperature=0.5).info_nce_temperature == 0.5


def test_the_regulariser_has_a_weight_when_none_is_given():
    assert config().regulariser_weight is None
    assert config(jepa_regulariser="sigreg").regulariser_weight == 0.05
    assert config(jepa_target="ema").ema_decay == 0.996
    assert config(jepa_target="ema", ema_decay=0.0).ema_decay == 0.0
    assert config(jepa_regulariser="vicreg", regulariser_weight=0.0).regulariser_weight == 0.0


def test_several_objectives_have_the_options_of_each():
    """Those of views through `pair`, and one sampler for both of the others."""
    args = config(
        jepa_objective=["pair", "tube", "patch"],
        objective_weights=[1, 0.5, 2],
        num_predictor_tokens=2,
        jepa_source_view="prefix",
        span_sampler="uniform",
        predictor_learning_rate=1e-3,
    )
    assert args.jepa_objective == ["pair", "tube", "patch"]
    assert JEPAConfig(**args.to_dict()).objective_weights == args.objective_weights == [1, 0.5, 2]
    assert config(jepa_objective=["tube", "patch"]).span_sampler is None
    assert config(jepa_objective=["tube"]).objective_weights is None


def test_rescaling_keeps_the_expected_weight():
    """A quarter of the steps at four times the weight; published: p = 0.75 and weight 4."""
    assert config(jepa_dropout=0.75).kept_step_weight == 1.0
    rescaled = config(jepa_dropout=0.75, jepa_dropout_rescale=True)
    assert rescaled.kept_step_weight == 4.0
    assert rescaled.kept_step_weight * (1 - rescaled.jepa_dropout) == rescaled.jepa_weight


NAN, INFINITY = float("nan"), float("inf")
OWN_VIEWS = {"source_view_column": "text", "target_view_column": "code"}
OUT_OF_RANGE = [
    ({"jepa_weight": -0.1}, "`jepa_weight` is -0.1; it must be a finite number >= 0"),
    ({"jepa_weight": NAN}, "`jepa_weight` is nan"),
    ({"lm_weight": INFINITY}, "`lm_weight` is inf"),
    ({"lm_weight": -1.0}, "`lm_weight` is -1.0"),
    ({"jepa_weight": 0.0, "lm_weight": 0.0}, "nothing would be trained"),
    ({"num_predictor_tokens": 17}, "`num_predictor_tokens` is 17; allowed are 0 to 16"),
    ({"num_predictor_tokens": -1}, "`num_predictor_tokens` is -1; allowed are 0 to 16"),
    ({"num_predictor_tokens": 1.5}, r"`num_predictor_tokens` is 1\.5; it must be a whole number\."),
    ({"num_predictor_tokens": True}, "`num_predictor_tokens` is True; it must be a whole number"),
    ({"jepa_weight": "0.1"}, "`jepa_weight` is '0.1'; it must be a number"),
    ({"jepa_weight": True}, "`jepa_weight` is True; it must be a number"),
    ({"lm_weight": None}, "`lm_weight` is null; it must be a number"),
    ({"ema_warmup_steps": 2.0}, r"`ema_warmup_steps` is 2\.0; it must be a whole number"),
    ({"jepa_loss": "info_nce", "info_nce_temperature": "0.1"}, "`info_nce_temperature` is '0.1'; it must be a number"),
    ({"shuffle_pairs": "false"}, "`shuffle_pairs` is 'false'; it must be true or false"),
    (
        {"jepa_objective": ["pair", "tube"], "objective_weights": [1, "2"]},
        r"`objective_weights` is \[1, '2'\]; it",
    ),
    ({"jepa_loss": "info_nce", "info_nce_temperature": 0.0}, "`info_nce_temperature` is 0.0; it must be a finite"),
    ({"jepa_loss": "info_nce", "info_nce_temperature": NAN}, "`info_nce_temperature` is nan"),
    ({"jepa_regulariser": "vicreg", "regulariser_weight": -0.1}, "`regulariser_weight` is -0.1; it must be a finite"),
    ({"jepa_regulariser": "sigreg", "regulariser_weight": NAN}, "`regulariser_weight` is nan"),
    ({"jepa_regulariser": "sig"}, "`jepa_regulariser` is 'sig'; allowed are 'none', 'sigreg', 'vicreg'"),
    ({"jepa_readout": "first"}, "`jepa_readout` is 'first'; allowed are 'last', 'mean'"),
    ({"target_layer": 0.0}, "`target_layer` is 0.0; it must be above 0 and at most 1"),
    ({"target_layer": 1.5}, "`target_layer` is 1.5"),
    ({"predictor_position": "middle"}, "`predictor_position` is 'middle'; allowed are 'append', 'prepend'"),
    (
        {"jepa_loss": "cosin"},
        "`jepa_loss` is 'cosin'; allowed are 'cosine', .*'mse', 'info_nce', 'info_nce_symm",
    ),
    ({"jepa_direction": "both"}, "`jepa_direction` is 'both'; allowed are 'source_to_target', 'target_to_source'"),
    ({"jepa_source_view": "suffix"}, "`jepa_source_view` is 'suffix'; allowed are 'alone', 'prefix'"),
    ({"jepa_target": "average"}, "`jepa_target` is 'average'; allowed are 'online', 'stop_gradient', 'ema'"),
    ({"jepa_target": "ema", "ema_decay": 1.0}, "`ema_decay` is 1.0; it must be at least 0 and below 1"),
    ({"jepa_target": "ema", "ema_decay": -0.1}, "`ema_decay` is -0.1; it"),
    ({"jepa_target": "ema", "ema_decay": NAN}, "`ema_decay` is nan"),
    ({"jepa_target": "ema", "ema_warmup_steps": -1}, "`ema_warmup_steps` is -1; it must be at least 0"),
    ({"jepa_layout": "dense"}, "`jepa_layout` is 'dense'; allowed are 'auto', 'packed', 'flat', 'rows'"),
    ({"jepa_objective": "stp"}, "`jepa_objective` is 'stp'; allowed are pair, tube, .* and FILE.py:CLASS"),
    ({"jepa_objective": ["pair", "stp"]}, "`jepa_objective` is 'stp'; allowed are pair, tube, .* and"),
    ({"jepa_objective": []}, "`jepa_objective` is an empty list. Name an objective"),
    ({"jepa_objective": ["tube", "pair", "tube"]}, r"`jepa_objective: \[tube, pair, tube\]` names tube twice"),
    (
        {"jepa_objective": ["pair", "tube"], "objective_weights": [1.0]},
        r"`objective_weights` are \[1.0\]; `jepa_objective: \[pair, tube\]` needs 2, one for each",
    ),
    (
        {"jepa_objective": ["pair", "tube"], "objective_weights": [1.0, 0.0]},
        r"`objective_weights` are \[1.0, 0.0\]; each must be a finite number > 0",
    ),
    ({"jepa_objective": ["pair", "tube"], "objective_weights": [1.0, NAN]}, "each must be a finite number > 0"),
    ({"jepa_objective": ["pair", "tube"], "objective_weights": [INFINITY, 1.0]}, "each must be a finite number > 0"),
    ({"predictor_learning_rate": 0.0}, "`predictor_learning_rate` is 0.0; it must be a finite number > 0"),
    ({"predictor_learning_rate": NAN}, "`predictor_learning_rate` is nan"),
    ({"step_separator": "("}, r"`step_separator: \(` is no regular expression: missing \)"),
    ({"step_separator": ""}, "`step_separator` is empty; give a regular expression"),
    ({"span_sampler": "random"}, "`span_sampler` is 'random'; allowed are 'ends', 'start_first', 'uniform'"),
    ({"jepa_dropout": 1.0}, "`jepa_dropout` is 1.0; it must be at least 0 and below 1. .* `jepa_weight: 0`"),
    ({"jepa_dropout": -0.1}, "`jepa_dropout` is -0.1; it must be at least 0"),
    ({"jepa_dropout": NAN}, "`jepa_dropout` is nan"),
    ({"long_rows": "cut"}, "`long_rows` is 'cut'; allowed are 'drop', 'error'"),
    ({"task": "regexp"}, "`task` is 'regexp'; allowed are 'text', 'regex', 'math', 'qa', 'sql'"),
    ({"task": "sql"}, "`database_path` None: it is needed for `task: sql`"),
    (
        {"task": "choice", "choices_column": "c", "extract": "fence"},
        "`extract: fence` has no effect on `task: choice`",
    ),
    ({"extract": "json"}, "`extract` is 'json'; allowed are 'none', 'fence'"),
    ({"task": "choice"}, "`choices_column` None: it is needed for `task: choice`"),
    ({"choices_column": "choices"}, "`choices_column` 'choices': it is needed for `task: choice`, and has no effect"),
    ({"database_path": "x.sqlite"}, "and has no effect otherwise"),
    ({"source_column": "question"}, "`source_column` is 'question' and `target_column` is None. Give both"),
    ({"target_column": "answer"}, "`target_column` is 'answer'. Give both"),
    ({"source_column": "", "target_column": "answer"}, "`source_column` is empty"),
    ({"source_column": "q", "target_column": "q"}, "both 'q'; the views need two columns"),
    ({"source_view_column": "text"}, "`source_view_column` is 'text' and `target_view_column` is None. Give both"),
    ({"source_view_column": "q", "target_view_column": "q"}, "are both 'q'; the views need two"),
    (
        OWN_VIEWS | {"source_view_column": "{{ 1 }}"},
        "`source_view_column: {{ 1 }}` is a template that names no column",
    ),
    (OWN_VIEWS | {"view_columns": ["a", "b"]}, "`view_columns` are views already. Leave `source_view_column`"),
    (OWN_VIEWS | {"source_turn": "first"}, "`source_turn: first` has no effect with `source_view_column`"),
    (OWN_VIEWS | {"target_turn": "all"}, "name one pair of views. Set `target_turn` to last or first"),
]


@pytest.mark.parametrize(("options", "message"), OUT_OF_RANGE, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("idle", [{}, {"jepa_weight": 0.0}], ids=["jepa", "lm-only"])
def test_an_option_out_of_range_is_refused(options, message, idle):
    """In the LM-only arm too, where it would stand idle: the other arm is to differ in one line."""
    with pytest.raises(ValueError, match=message):
        config(**idle | options)


WITHOUT_EFFECT = [
    ({"num_predictor_tokens": 0, "predictor_position": "prepend"}, "`predictor_position: prepend` has no effect"),
    ({"jepa_dropout_rescale": True}, "`jepa_dropout_rescale` has no effect with `jepa_dropout: 0`"),
    ({"span_sampler": "uniform"}, "`span_sampler` has no effect with `jepa_objective: pair`"),
    ({"reconstruction_weight": 2.0}, "pair` `reconstruction_weight: 2.0` would have no effect"),
    *(
        ({"jepa_objective": "answer_code"} | option, f"answer_code` `{name}: .*` would have no effect")
        for option in (
            {"predictor_position": "prepend"},
            {"jepa_loss": "mse"},
            {"jepa_regulariser": "sigreg"},
            {"jepa_target": "stop_gradient"},
            {"jepa_readout": "mean"},
            {"target_layer": 0.5},
        )
        for name in option
    ),
    ({"jepa_objective": "answer_code", "jepa_dropout": 0.5}, "answer_code` has a network that runs in every step"),
    ({"jepa_objective": "answer_code", "num_predictor_tokens": 0}, "`num_predictor_tokens` is 0; .*at least 1"),
    ({"jepa_objective": "answer_code", "reconstruction_weight": 0.0}, "`reconstruction_weight` is 0.0; it must be"),
    ({"step_separator": r"\. "}, r"pair` `step_separator: \\. ` would have no effect.*`--step_separator \\n`"),
    (
        {"jepa_objective": "tube", "jepa_target": "stop_gradient", "num_predictor_tokens": 2},
        "`num_predictor_tokens: 2`, `jepa_target: stop_gradient` would have no effect.*--jepa_target online",
    ),
    (
        {"jepa_objective": "patch", "shuffle_pairs": True},
        "patch` `shuffle_pairs: True` would have no effect",
    ),
    ({"jepa_objective": "tube", "span_sampler": "start_first"}, "allowed with `jepa_objective: tube` are 'ends'"),
    ({"jepa_objective": "patch", "span_sampler": "ends"}, "allowed .* are 'start_first', 'uniform'"),
    (
        {"jepa_objective": ["tube", "patch"], "span_sampler": "ends"},
        r"with `jepa_objective: \[tube, patch\]` are 'unif",
    ),
    (
        {"jepa_objective": ["tube", "patch"], "num_predictor_tokens": 2},
        r"With `jepa_objective: \[tube, patch\]` `num_predictor_tokens: 2` would",
    ),
    ({"objective_weights": [1.0]}, "`objective_weights` has no effect with `jepa_objective: pair`.*_weights null"),
    ({"jepa_objective": ["tube"], "objective_weights": [2.0]}, r"has no effect with `jepa_objective: \[tube\]`"),
    (
        {"num_predictor_tokens": 0, "predictor_learning_rate": 1e-3},
        "`predictor_learning_rate` has no effect: with these options `jepa_objective: pair` has no parameters of",
    ),
    ({"jepa_objective": "tube", "predictor_learning_rate": 1e-3}, "`jepa_objective: tube` has no parameters of its"),
    ({"ema_decay": 0.9}, "`ema_decay` has no effect with `jepa_target: online`; only with `ema`"),
    (
        {"jepa_target": "stop_gradient", "ema_warmup_steps": 5},
        "`ema_warmup_steps` has no effect with `jepa_target: st",
    ),
    ({"jepa_target": "ema", "ema_decay": 0.0, "ema_warmup_steps": 5}, "no effect with `ema_decay: 0`"),
    ({"jepa_objective": "tube", "ema_decay": 0.9}, "With `jepa_objective: tube` `ema_decay: 0.9` would have no eff"),
    ({"info_nce_temperature": 0.1}, "`info_nce_temperature` has no effect with `jepa_loss: cosine`"),
    (
        {"jepa_loss": "info_nce", "per_device_train_batch_size": 1},
        "`per_device_train_batch_size` must be at least 2; it is 1",
    ),
    (
        {"jepa_regulariser": "sigreg", "per_device_train_batch_size": 1},
        "`jepa_regulariser: sigreg` compares the rows .* must be at least 2; it is 1",
    ),
    (
        {"jepa_objective": "tube", "jepa_readout": "mean", "target_layer": 0.5},
        "`jepa_readout: mean`, `target_layer: 0.5` would have no effect.*--jepa_readout last --target_layer 1.0",
    ),
    ({"regulariser_weight": 0.1}, "`regulariser_weight` has no effect without `jepa_regulariser: sigreg`"),
    (
        {"jepa_objective": "tube", "jepa_regulariser": "vicreg", "regulariser_weight": 0.1},
        "`jepa_regulariser: vicreg`, `regulariser_weight: 0.1` would have no effect.*--jepa_regulariser none",
    ),
    (
        OWN_VIEWS | {"jepa_objective": "tube"},
        "`source_view_column: text`, `target_view_column: code` would have no effect.*--source_view_column null",
    ),
    (
        OWN_VIEWS | {"jepa_source_view": "prefix"},
        "`source_view_column` names one that is no part of it. Set `jepa_source_view: alone`",
    ),
    ({"label_smoothing_factor": 0.1}, "`label_smoothing_factor` .* Set it to 0"),
    ({"neftune_noise_alpha": 5.0}, "`neftune_noise_alpha: 5.0` scales its noise by the length of the stored rows"),
    ({"average_tokens_across_devices": False}, "`average_tokens_across_devices: false` .* Leave it on"),
]


@pytest.mark.parametrize(("options", "message"), WITHOUT_EFFECT, ids=lambda value: str(value)[:60])
def test_a_jepa_option_without_effect_is_refused_unless_all_of_them_stand_idle(options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)
    idle = config(jepa_weight=0.0, **options)
    assert {name: getattr(idle, name) for name in options} == options


UNSUPPORTED = [
    ({"packing": True}, "`jepa_layout: packed` packs the sequences of each row"),
    ({"eval_packing": True}, "`packing` and `padding_free`"),
    ({"padding_free": True}, "`packing` and `padding_free`"),
    ({"truncation_mode": "keep_end"}, "`truncation_mode: keep_end` has no effect"),
    ({"long_rows": "error", "max_length": None}, "`long_rows: error` has no effect with `max_length: null`"),
    ({"dataset_kwargs": {"skip_prepare_dataset": True}}, "Give pre-tokenised rows instead"),
]


@pytest.mark.parametrize(("options", "message"), UNSUPPORTED, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("jepa_weight", [1.0, 0.0])
def test_a_setting_of_trl_that_rows_cannot_honour_is_refused_in_both_arms(options, message, jepa_weight):
    with pytest.raises(ValueError, match=message):
        config(jepa_weight=jepa_weight, **options)


@settings(deadline=None)
@given(
    weight=st.floats(1e-6, 1e4),
    count=st.integers(1, 16),
    loss=st.sampled_from(["cosine", "l2", "mse", "info_nce", "info_nce_symmetric"]),
    position=st.sampled_from(["append", "prepend"]),
    target=st.sampled_from(["online", "stop_gradient", "ema"]),
    columns=st.sampled_from([{}, {"source_column": "q", "target_column": "a", "system_prompt": "Be brief."}]),
)
def test_a_config_made_of_its_own_dict_is_the_same(weight, count, loss, position, target, columns):
    """`to_dict` is what TRL makes copies of and what trackers and checkpoints store."""
    args = config(
        jepa_weight=weight,
        num_predictor_tokens=count,
        jepa_loss=loss,
        predictor_position=position,
        jepa_target=target,
        **columns,
    )
    again = JEPAConfig(**args.to_dict())
    ours = {field.name for field in dataclasses.fields(JEPAConfig)} - {f.name for f in dataclasses.fields(SFTConfig)}
    assert {name: getattr(again, name) for name in ours} == {name: getattr(args, name) for name in ours}
    assert again.completion_only_loss == args.completion_only_loss


@pytest.mark.parametrize(
    ("metric", "is_better"),
    [("eval_jepa_kl", False), ("jepa_loss_pair", False), ("loss", False), ("jepa_cosine", True)],
)
def test_of_a_loss_the_best_model_has_the_lowest_whatever_its_name(metric, is_better):
    """transformers goes by the name's end."""
    assert config(metric_for_best_model=metric).greater_is_better is is_better
    assert config(metric_for_best_model=metric, greater_is_better=True).greater_is_better


def test_steps_without_any_loss_are_refused():
    with pytest.raises(ValueError, match="leaves out the JEPA term of some steps, and `lm_weight"):
        config(lm_weight=0.0, jepa_dropout=0.5)


def test_a_parser_before_leaves_what_is_allowed():
    """`HfArgumentParser` overwrites the types of dataclass fields."""
    HfArgumentParser(JEPAConfig)
    assert config().span_sampler is None


@pytest.mark.parametrize("parser", [HfArgumentParser, TrlParser])
def test_the_argument_parsers_of_transformers_and_trl_read_every_option(parser):
    given_options = {
        "jepa_weight": 0.5,
        "lm_weight": 2.0,
        "num_predictor_tokens": 3,
        "predictor_position": "prepend",
        "jepa_loss": "info_nce",
        "info_nce_temperature": 0.1,
        "jepa_regulariser": "vicreg",
        "regulariser_weight": 0.2,
        "jepa_direction": "target_to_source",
        "jepa_source_view": "prefix",
        "jepa_target": "stop_gradient",
        "jepa_layout": "rows",
        "long_rows": "error",
        "source_column": "question",
        "target_column": "answer",
        "system_prompt": "Be brief.",
        "from_scratch": True,
        "predictor_learning_rate": 1e-3,
    }
    argv = [word for name, value in given_options.items() for word in (f"--{name}", str(value))]
    (args,) = parser(JEPAConfig).parse_args_into_dataclasses(["--output_dir", "out", "--report_to", "none", *argv])
    assert {name: getattr(args, name) for name in given_options} == given_options


def test_the_argument_parser_refuses_a_choice_that_is_not_there(capsys):
    with pytest.raises(SystemExit):
        HfArgumentParser(JEPAConfig).parse_args_into_dataclasses(["--output_dir", "out", "--jepa_loss", "cosin"])
    assert "invalid choice: 'cosin'" in capsys.readouterr().err


def test_two_objectives_of_views_are_refused(tmp_path):
    (tmp_path / "own.py").write_text("class Mine:\n    row_needs = 'views'\n")
    own = f"{tmp_path / 'own.py'}:Mine"
    with pytest.raises(ValueError, match=f"pair and {own} both lay out views; name one"):
        config(jepa_objective=["pair", "tube", own])
    with pytest.raises(ValueError, match="names Mine twice"):
        config(jepa_objective=[own, f"{tmp_path}/./own.py:Mine"])
    assert config(jepa_objective=["tube", own], jepa_loss="l2").jepa_loss == "l2"


@pytest.mark.skipif(torch.accelerator.is_available(), reason="a plain CPU run needs a machine without accelerator")
def test_a_plain_cpu_run_is_one_on_the_cpu_and_a_launcher_decides_for_itself(monkeypatch):
    assert config().use_cpu
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert not config(bf16=False).use_cpu


def test_nothing_goes_to_the_hub_for_others_to_see_unless_asked():
    """Neither the model, nor checkpoints of it, nor a Space of trackio's logs."""
    config = JEPAConfig("out", push_to_hub=True)
    assert config.hub_private_repo is True
    assert config.hub_strategy == "end"
    assert config.trackio_static_space_id is False
    assert JEPAConfig("out", trackio_static_space_id="team/logs").trackio_static_space_id == "team/logs"
