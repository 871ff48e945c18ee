"""`llm_jepa.train` under FSDP without a GPU, for the tests: accelerate lets FSDP follow upon MULTI_GPU alone."""

import sys

from accelerate import PartialState
from accelerate.utils import DistributedType

from llm_jepa.train import train
from llm_jepa.vision.recipe import parse_any_recipe

if __name__ == "__main__":
    recipe = parse_any_recipe(sys.argv[1:])
    assert recipe.training.device.type == "cpu"  # asking for it initialises the state that is written to below
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    train(recipe)
