"""Name of an objective in a recipe -> its class."""

from llm_jepa.config import JEPAConfig
from llm_jepa.objectives.base import Objective
from llm_jepa.objectives.pair import PairObjective
from llm_jepa.objectives.patch import PatchObjective
from llm_jepa.objectives.tube import TubeObjective
from llm_jepa.settings.objectives import load_own_objective, objective_names

CLASSES: dict[str, type[Objective]] = {"pair": PairObjective, "tube": TubeObjective, "patch": PatchObjective}


def new_objective(args: JEPAConfig) -> Objective | None:
    """The objective that the options name; None with `jepa_weight: 0`.

    Raises:
        ValueError: It is a user's own, and not a subclass of `Objective`.
    """
    if args.jepa_weight == 0:
        return None
    (name,) = objective_names(args.jepa_objective)
    found = CLASSES[name] if name in CLASSES else load_own_objective(name)
    if not issubclass(found, Objective):
        raise ValueError(
            f"`jepa_objective: {name}` is no subclass of `llm_jepa.objectives.base.Objective`. Make it one."
        )
    return found(args)
