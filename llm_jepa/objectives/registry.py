"""Name of an objective in a recipe -> its class."""

from llm_jepa.config import JEPAConfig
from llm_jepa.objectives.base import Objective
from llm_jepa.objectives.pair import PairObjective
from llm_jepa.objectives.patch import PatchObjective
from llm_jepa.objectives.tube import TubeObjective

CLASSES: dict[str, type[Objective]] = {"pair": PairObjective, "tube": TubeObjective, "patch": PatchObjective}


def new_objective(args: JEPAConfig) -> Objective | None:
    """The objective that the options name; None with `jepa_weight: 0`."""
    return CLASSES[args.jepa_objective](args) if args.jepa_weight > 0 else None
