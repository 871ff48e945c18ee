"""Name of an objective in a recipe -> its class."""

from llm_jepa.config import JEPAConfig
from llm_jepa.objectives.answer_code import AnswerCodeObjective
from llm_jepa.objectives.base import Objective
from llm_jepa.objectives.multi_token import MultiTokenObjective
from llm_jepa.objectives.next_latent import NextLatentObjective
from llm_jepa.objectives.pair import PairObjective
from llm_jepa.objectives.patch import PatchObjective
from llm_jepa.objectives.several import SeveralObjectives
from llm_jepa.objectives.step import StepObjective
from llm_jepa.objectives.tube import TubeObjective
from llm_jepa.settings.objectives import load_own_objective, objective_names

CLASSES: dict[str, type[Objective]] = {
    "pair": PairObjective,
    "tube": TubeObjective,
    "patch": PatchObjective,
    "step": StepObjective,
    "next_latent": NextLatentObjective,
    "answer_code": AnswerCodeObjective,
    "multi_token": MultiTokenObjective,
}


def new_objective(args: JEPAConfig) -> Objective | None:
    """The objective that the options name, or the weighted sum of several; None with `jepa_weight: 0`.

    Raises:
        ValueError: One is a user's own, and not a subclass of `Objective`.
    """
    if args.jepa_weight == 0:
        return None
    objectives = {name: _class_of(name)(args) for name in objective_names(args.jepa_objective)}
    if len(objectives) == 1:
        return next(iter(objectives.values()))
    return SeveralObjectives(args, objectives, args.objective_weights or [1.0] * len(objectives))


def _class_of(name: str) -> type[Objective]:
    found = CLASSES[name] if name in CLASSES else load_own_objective(name)
    if not issubclass(found, Objective):
        raise ValueError(
            f"`jepa_objective: {name}` is no subclass of `llm_jepa.objectives.base.Objective`. Make it one."
        )
    return found
