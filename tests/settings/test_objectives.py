"""What is known of objectives without torch, of one and of several."""

from types import SimpleNamespace

import pytest

from llm_jepa.settings.objectives import (
    as_written,
    common_samplers,
    has_parameters,
    needs_spans,
    needs_steps,
    needs_views,
    objective_names,
    sampler_of,
)


@pytest.fixture
def own(tmp_path):
    """own(row_needs) -> the name of a user's own objective."""

    def write(row_needs: str) -> str:
        path = tmp_path / f"{row_needs}.py"
        path.write_text(f"class Mine:\n    row_needs = {row_needs!r}\n")
        return f"{path}:Mine"

    return write


def test_one_name_is_a_list_of_one():
    assert objective_names("pair") == objective_names(["pair"]) == ("pair",)
    assert objective_names(["tube", "pair"]) == ("tube", "pair")
    assert (as_written("pair"), as_written(["pair", "tube"])) == ("pair", "[pair, tube]")


def test_rows_have_what_any_of_the_objectives_needs(own):
    needs = {
        "pair": (True, False, False),
        "tube": (False, True, False),
        "step": (False, False, True),
        own("views"): (True, False, False),
        own("spans"): (False, True, False),
        own("steps"): (False, False, True),
        own("conversation"): (False, False, False),
    }

    def needed(objectives):
        return needs_views(objectives), needs_spans(objectives), needs_steps(objectives)

    for one, needs_of_one in needs.items():
        assert needed(one) == needs_of_one
        for other, needs_of_other in needs.items():
            assert needed([one, other]) == tuple(map(max, needs_of_one, needs_of_other))


def test_a_row_need_of_nothing_is_refused(own):
    with pytest.raises(ValueError, match="whose `row_needs` is one of 'views', 'spans', 'steps', 'conversation'"):
        needs_views(["tube", own("pictures")])


@pytest.mark.parametrize(
    ("objectives", "samplers"),
    [
        ("pair", None),
        ("tube", ("ends", "uniform")),
        (["pair", "patch"], ("start_first", "uniform")),
        (["tube", "patch"], ("uniform",)),
        (["tube"], ("ends", "uniform")),
    ],
)
def test_a_sampler_is_one_that_every_objective_with_samplers_allows(objectives, samplers):
    assert common_samplers(objectives) == samplers


def test_a_sampler_is_the_objectives_own_when_not_given():
    assert (sampler_of("tube", None), sampler_of("patch", None)) == ("ends", "start_first")
    assert sampler_of("tube", "uniform") == sampler_of("patch", "uniform") == "uniform"


def test_which_objectives_have_parameters(own):
    def with_options(objectives, num_predictor_tokens=1):
        return SimpleNamespace(jepa_objective=objectives, num_predictor_tokens=num_predictor_tokens)

    assert has_parameters(with_options("pair"))
    assert not has_parameters(with_options("pair", 0))
    assert not has_parameters(with_options(["tube", "patch"]))
    assert has_parameters(with_options(["tube", "pair"]))
    assert not has_parameters(with_options(["tube", "pair"], 0))
    assert has_parameters(with_options(own("conversation"), 0))
