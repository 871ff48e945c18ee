"""How often `llm-jepa compare` is wrong: whole families of verdicts on drawn scores, written into docs/statistics.md.

    python benchmarks/verdict_simulation.py [--families 1000] [--new]

A row of test data has an ease, an arm an ability at each seed, and the two interact. A binary score is right where

    ability[arm, seed] + ease[cluster] + interaction[arm, cluster] + noise[arm, seed, row] > 0

all normal with mean 0, so the true score is a half; another `true_score` adds a constant. A graded score is the sum
without ease, times 0.1, and can have no noise. A bimodal score is binary, and a seed's ability is that of a true score
of 50 +- 4 %, or with some probability of 78 to 100 %: the task is learnt all at once. Four arms, each against two
baselines (equal steps, equal FLOPs), are a family of eight comparisons.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from llm_jepa.experiments.significance import Contrast, PairedDifference, Verdict, verdicts

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "statistics.md"
RESULTS = ROOT / "benchmarks" / "results" / "verdict_simulation.json"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"
ARMS = ["a", "b", "c", "d"]
BASELINES = {"equal_steps": "base", "equal_flops": "longer base"}
CONTRASTS = [Contrast(arm, baseline, budget) for budget, baseline in BASELINES.items() for arm in ARMS]
SERIES = [*ARMS, *BASELINES.values()]
EASE = 1.0
GRADED_UNIT = 0.1


@dataclass(frozen=True)
class Scenario:
    """What is drawn. Deviations are in units of the ease's.

    Attributes:
        seeds: Number of paired seeds.
        rows: Number of test rows.
        row_interaction: Deviation of arm x row.
        seed_interaction: Deviation of arm x seed.
        cluster_sizes: The sizes of clusters of rows, repeated.
        noise: Deviation of arm x seed x row.
        true_score: Of the baselines, if binary.
        score: Kind of score.
        learnt_share: Probability that a seed learns the task, if bimodal; of the better arm, all seeds do.
    """

    seeds: int
    rows: int
    row_interaction: float
    seed_interaction: float = 0.1
    cluster_sizes: tuple[int, ...] = (1,)
    noise: float = 0.5
    true_score: float = 0.5
    score: Literal["binary", "graded", "bimodal"] = "binary"
    learnt_share: float = 0.0

    @property
    def clusters(self) -> NDArray[np.int64]:
        """The cluster of each row: sizes 1, 2 give 0 1 1 2 3 3 ..."""
        sizes = np.resize(self.cluster_sizes, self.rows)
        return np.repeat(np.arange(self.rows), sizes)[: self.rows]

    @property
    def deviation(self) -> float:
        """Deviation of the sum that a score is made from."""
        ease = 0.0 if self.score == "graded" else EASE
        return float(np.hypot.reduce([ease, self.row_interaction, self.seed_interaction, self.noise]))

    @property
    def shown_score(self) -> str:
        """The true score, or its kind, in words."""
        if self.score == "bimodal":
            return f"{100 * self.learnt_share:.0f} % learn"
        return f"{100 * self.true_score:.0f} %" if self.score == "binary" else "graded"


@dataclass(frozen=True)
class Rates:
    """What came out of many families.

    Attributes:
        families: Number of families.
        seeds_alone: Share of single comparisons that a t test over the seeds calls significant at 5 %; none is true.
        single: The same by the crossed test.
        family: Share of families with any "better" or "worse"; none is true.
        stated: Mean difference that the verdicts say they find with 80 % probability.
        found: Share of "better" for one arm that is better by `stated`; if bimodal, for one that always learns.
    """

    families: int
    seeds_alone: float
    single: float
    family: float
    stated: float
    found: float


SCENARIOS = [
    *(
        Scenario(seeds, rows, interaction)
        for seeds in (5, 10)
        for rows in (100, 300, 1000)
        for interaction in (0.0, 0.5, 1.0)
    ),
    Scenario(5, 300, 0.5, seed_interaction=0.0),
    Scenario(5, 300, 0.5, seed_interaction=0.2),
    Scenario(5, 300, 0.5, cluster_sizes=(3,)),
    Scenario(5, 300, 0.5, cluster_sizes=(1, 2, 8)),
    Scenario(10, 300, 1.0, cluster_sizes=(1, 2, 8)),
    Scenario(5, 300, 0.5, cluster_sizes=(*[1] * 10, 40)),
    Scenario(5, 100, 0.5, true_score=0.05),
    Scenario(5, 300, 0.5, true_score=0.05),
    Scenario(5, 300, 0.33, noise=0.0, score="graded"),
    *(
        Scenario(seeds, 300, 0.5, seed_interaction=0.0, score="bimodal", learnt_share=share)
        for seeds in (5, 8)
        for share in (0.1, 0.3, 0.5, 0.8)
    ),
]


def simulate(scenario: Scenario, families: int, seed: int = 0) -> Rates:
    """Draw families without a difference, and then as many with the difference that the first ones stated."""
    draw = np.random.default_rng(seed)
    null = list(_families(scenario, families, 0.0, draw))
    differences = [d for family in null for v in family if isinstance(d := v.difference, PairedDifference)]
    intervals = [d.seed_interval for d in differences]
    stated = float(np.mean([v.detectable_difference or np.nan for family in null for v in family]))
    shifted = list(_families(scenario, families, stated, draw))
    return Rates(
        families=families,
        seeds_alone=float(np.mean([i is not None and not i.low <= 0 <= i.high for i in intervals])),
        single=float(np.mean([d.p_value is not None and d.p_value < 0.05 for d in differences])),
        family=float(np.mean([any(v.outcome in ("better", "worse") for v in family) for family in null])),
        stated=stated,
        found=float(np.mean([family[0].outcome == "better" for family in shifted])),
    )


def _families(
    scenario: Scenario, families: int, difference: float, draw: np.random.Generator
) -> Iterator[list[Verdict]]:
    """Yield the verdicts of each family; the first arm is better by `difference`."""
    is_clustered = set(scenario.cluster_sizes) != {1}
    clusters = scenario.clusters
    for _ in range(families):
        scores = _draw_scores(scenario, clusters, _abilities(scenario, difference, draw), draw)
        rows = {name: dict(enumerate(scores_SR)) for name, scores_SR in zip(SERIES, scores, strict=True)}
        yield verdicts(CONTRASTS, rows, range(scenario.seeds), clusters=clusters.tolist() if is_clustered else None)


def _abilities(scenario: Scenario, difference: float, draw: np.random.Generator) -> NDArray[np.float64]:
    """(series, seeds): of each without its interactions; the first series is better by `difference`."""
    shape = len(SERIES), scenario.seeds
    if scenario.score == "graded":
        ability = np.zeros(shape)
        ability[0] = difference / GRADED_UNIT
        return ability
    true_score = np.full(shape, scenario.true_score)
    true_score[0] += difference
    if scenario.score == "bimodal":
        learns = draw.random(shape) < scenario.learnt_share
        learns[0] |= difference > 0
        true_score = np.where(learns, draw.uniform(0.78, 1.0, shape), draw.normal(0.5, 0.04, shape))
    return scenario.deviation * norm.ppf(true_score)


def _draw_scores(
    scenario: Scenario, clusters: NDArray[np.int64], ability: NDArray[np.float64], draw: np.random.Generator
) -> NDArray[np.float64]:
    """(series, seeds, rows)."""
    n_series, n_clusters = len(SERIES), clusters[-1] + 1
    of_cluster = draw.normal(0, scenario.row_interaction, (n_series, 1, n_clusters))
    if scenario.score != "graded":
        of_cluster = of_cluster + draw.normal(0, EASE, n_clusters)
    total = of_cluster[..., clusters] + draw.normal(0, scenario.seed_interaction, (n_series, scenario.seeds, 1))
    if scenario.noise > 0:
        total = total + scenario.noise * draw.standard_normal((n_series, scenario.seeds, scenario.rows), np.float32)
    total += ability[:, :, None]
    return GRADED_UNIT * total if scenario.score == "graded" else (total > 0).astype(float)


def table(results: list[tuple[Scenario, Rates]]) -> str:
    """The results as Markdown."""
    heading = [
        "seeds", "rows", "in a cluster", "true score", "arm x row", "arm x seed", "seeds alone", "crossed", "any of 8",
        "stated", "found",
    ]  # fmt: skip
    lines = [heading, ["---:"] * len(heading)]
    for scenario, rates in results:
        lines.append(
            [
                str(scenario.seeds),
                str(scenario.rows),
                " to ".join(map(str, sorted({min(scenario.cluster_sizes), max(scenario.cluster_sizes)}))),
                scenario.shown_score,
                f"{scenario.row_interaction:g}",
                f"{scenario.seed_interaction:g}",
                *(f"{100 * share:.1f} %" for share in (rates.seeds_alone, rates.single, rates.family)),
                f"{100 * rates.stated:.1f}",
                f"{100 * rates.found:.0f} %",
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read_results() -> list[tuple[Scenario, Rates]]:
    """The results of the last run."""
    content = json.loads(RESULTS.read_text(encoding="utf-8"))
    return [
        (
            Scenario(**one["scenario"] | {"cluster_sizes": tuple(one["scenario"]["cluster_sizes"])}),
            Rates(**one["rates"]),
        )
        for one in content
    ]


def with_table(page: str, results: list[tuple[Scenario, Rates]]) -> str:
    """The page with the table of the results."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table(results)}{END}{after}"


def main() -> None:
    """Simulate every scenario; write the results and the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", type=int, default=1000)
    parser.add_argument("--new", action="store_true", help="keep the results of scenarios that have some")
    options = parser.parse_args()
    kept = dict(read_results()) if options.new else {}
    results = []
    for scenario in SCENARIOS:
        results.append((scenario, kept.get(scenario) or simulate(scenario, options.families)))
        print(table(results[-1:]).splitlines()[-1], flush=True)
    content = [{"scenario": asdict(scenario), "rates": asdict(rates)} for scenario, rates in results]
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
