"""Ways to answer take turns, so that what slows the machine slows all of them; figures of latencies by hand."""

import pytest

from llm_jepa.evaluation.interleaving import interleave, latency_figures


def test_the_ways_take_turns_in_an_order_that_rotates_and_a_warm_up_is_not_counted():
    calls: list[str] = []

    def way(name: str):
        def answer(request: int) -> str:
            calls.append(f"{name}{request}")
            return f"{name}{request}"

        return answer

    done: list[int] = []
    ways = {name: way(name) for name in ("plain", "draft", "lookup")}
    answers = interleave(ways, [7, 8, 9, 5], progress=done.append)
    warm_up = ["plain7", "draft7", "lookup7"]
    turns = ["plain7", "draft7", "lookup7", "draft8", "lookup8", "plain8", "lookup9", "plain9", "draft9"]
    assert calls == [*warm_up, *turns, "plain5", "draft5", "lookup5"]
    assert answers == {name: [f"{name}{request}" for request in (7, 8, 9, 5)] for name in ways}
    assert done == [1, 1, 1, 1]


def test_latencies_are_means_quartiles_and_ratios_to_plain_decoding():
    """12 s in all where plain takes 25 s; the ratios are 4, 2, 1 and 3."""
    figures = latency_figures([1.0, 2.0, 5.0, 4.0], [4.0, 4.0, 5.0, 12.0])
    assert figures["answers"] == 4
    assert figures["mean_seconds"] == 3.0
    assert figures["seconds_per_answer"] == [1.75, 3.0, 4.25]
    assert figures["times_faster"] == pytest.approx(25 / 12)
    assert figures["times_faster_per_answer"] == [1.75, 2.5, 3.25]
