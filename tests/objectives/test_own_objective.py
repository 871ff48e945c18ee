"""An objective of the user's own, from a Python file."""

import re
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.objectives.base import LossInputs, Place
from llm_jepa.objectives.registry import CLASSES, new_objective
from llm_jepa.objectives.view_forward import ViewOutput
from llm_jepa.settings.checks import check_recipe
from llm_jepa.settings.objectives import OBJECTIVES
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

PAGE = (Path(__file__).parents[2] / "docs" / "own_objective.md").read_text()
MARGIN = re.search(r'```python title="margin.py"\n(.*?)```', PAGE, re.DOTALL).group(1)
HALF = "from llm_jepa.objectives.base import Objective\nclass Mine(Objective):\n    row_needs = 'views'\n"


def named(tmp_path, text: str, class_name: str) -> str:
    (tmp_path / "own.py").write_text(text)
    return f"{tmp_path / 'own.py'}:{class_name}"


def config(tmp_path, objective: str, **options) -> JEPAConfig:
    settings = {"max_steps": 2, "per_device_train_batch_size": 4, "logging_steps": 1, "report_to": "none"}
    return JEPAConfig(str(tmp_path / "out"), jepa_objective=objective, **settings | options)


def losses(args: JEPAConfig) -> list[dict]:
    trainer = JEPATrainer(
        tiny_llama(), args, train_dataset=Dataset.from_list(PAIRS), processing_class=tiny_tokenizer()
    )
    trainer.train()
    return [
        {key: entry[key] for key in ("loss", "jepa_loss", "grad_norm")}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]


def test_the_traits_are_those_of_the_classes():
    assert {name: kind.row_needs for name, kind in CLASSES.items()} == {
        name: traits.row_needs for name, traits in OBJECTIVES.items()
    }


SAME_PAIR = "from llm_jepa.objectives.pair import PairObjective\nclass Same(PairObjective):\n    pass\n"
SAME_TUBE = "from llm_jepa.objectives.tube import TubeObjective\nclass Same(TubeObjective):\n    pass\n"


@pytest.mark.parametrize(
    ("base", "text", "options"), [("pair", SAME_PAIR, {"jepa_source_view": "prefix"}), ("tube", SAME_TUBE, {})]
)
def test_a_class_that_changes_nothing_trains_as_its_base_bit_for_bit(base, text, options, tmp_path):
    options |= {"source_column": "source", "target_column": "target"}
    expected = losses(config(tmp_path, base, **options))
    assert losses(config(tmp_path, named(tmp_path, text, "Same"), **options)) == expected


def test_the_objective_of_the_page_by_hand(tmp_path):
    """Rows 1 and 2 have equal targets, so row 2, whose other target is row 1's, has no loss."""
    objective = new_objective(config(tmp_path, named(tmp_path, MARGIN, "MarginObjective")))
    prediction_ND = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    target_ND = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    outputs = ViewOutput(prediction_ND=prediction_ND, target_ND=target_ND)
    inputs = LossInputs(outputs, {"target_key": torch.tensor([5, 7, 7])}, torch.arange(3), Place(3))
    result = objective.loss(inputs)
    # own cosine 1, 0, 1; of the row before 0 (target 2), 1 (target 0), 1 (target 1)
    assert result.loss_N.tolist() == pytest.approx([0.0, 1.2, 0.0])
    assert result.sums["jepa_margin"].item() == pytest.approx(1 - 1 + 0)


def test_an_evaluation_cuts_whatever_a_loss_reads_to_its_first_rows():
    """The first dimension is that of the rows, whatever its kind or the others."""
    rows = torch.arange(6.0).view(3, 2)
    outputs = ViewOutput(hidden_NSD=rows[:, :, None], terms={"term_N": rows[:, 0]})
    extras = {"square_NN": rows @ rows.T, "name": ["a", "b", "c"]}
    cut = LossInputs(outputs, extras, torch.tensor([7, 8, 9]), Place(3)).first_rows(2)
    assert cut.outputs.prediction_ND is None
    assert cut.outputs.hidden_NSD.tolist() == [[[0], [1]], [[2], [3]]]
    assert cut.outputs.terms["term_N"].tolist() == [0, 2]
    assert cut.extras["square_NN"].tolist() == [[1, 3, 5], [3, 13, 23]]
    assert cut.extras["name"] == ["a", "b"]
    assert cut.row_index_N.tolist() == [7, 8]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "Mine", "`Mine` is no objective in"),
        ("class Mine:\n    pass\n", "Mine", "`Mine` is no objective in"),
        (HALF, "Mine", "`Mine` lacks `loss`. Write it."),
        ("class Mine:\n    row_needs = 'views'\n", "Mine", "is no subclass of"),
        (
            f"{HALF}    computes_within_forward = True\n    def loss(self, inputs): ...\n",
            "Mine",
            "lacks `forward_terms`. Write it.",
        ),
        ("x = 1\nimport nowhere_at_all\n", "Mine", r"own.py`, line 2: ModuleNotFoundError: No module named"),
        ("x = (\n", "Mine", r"own.py`, line 1: SyntaxError"),
    ],
)
def test_a_class_that_is_no_objective_is_refused_before_training(text, name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        new_objective(config(tmp_path, named(tmp_path, text, name)))


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("tub", "`jepa_objective` is 'tub'; allowed are pair, tube, .* and FILE.py:CLASS"),
        ("nope.py:Mine", "there is no file `nope.py`"),
    ],
)
def test_a_name_of_nothing_is_refused_by_the_recipe(objective, message, tmp_path):
    (tmp_path / "r.yaml").write_text(
        f"model_name_or_path: m\ndataset_name: d\noutput_dir: o\njepa_objective: {objective}\n"
    )
    with pytest.raises(ValueError, match=message):
        check_recipe(tmp_path / "r.yaml")
