"""What is measured on a GPU: each scenario is one call of step_cost.py, those that matter most first."""

import importlib.util
from dataclasses import dataclass, replace

ARMS = ("sft", "sft_labelled", "alone", "prefix_sg", "tube")
FEW = ("sft", "prefix_sg", "tube")


@dataclass(frozen=True)
class Scenario:
    """One table.

    Attributes:
        name: Its heading.
        shape: The model's, of `shapes.SHAPES`.
        batch_size, length: Rows of a step, tokens of each.
        flags: Further arguments of step_cost.py.
        arms, steps, warmup, rounds, method, device: As step_cost.py takes them.
    """

    name: str
    shape: str
    batch_size: int
    length: int
    flags: tuple[str, ...] = ()
    arms: tuple[str, ...] = ARMS
    steps: int = 8
    warmup: int = 3
    rounds: int = 1
    method: str = "full"
    device: str = "cuda"

    def arguments(self, model: str, output: str) -> list[str]:
        """The command line of step_cost.py."""
        numbers = {
            name: getattr(self, name) for name in ("batch_size", "steps", "warmup", "rounds", "method", "device")
        }
        numbers |= {"model": model, "output": output, "scaling": "length", "values": self.length}
        given = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
        return [*given, "--arms", *self.arms, "--from_scratch", "--keep_going", *self.flags]


SDPA, FLEX, FLASH = (("--attn_implementation", name) for name in ("sdpa", "flex_attention", "flash_attention_2"))
COMPILED = ("--attn_implementation", "sdpa", "--torch_compile_backend", "inductor")
FLASH_SCENARIOS = [
    Scenario("135M, 16 x 512, FlashAttention 2", "135M", 16, 512, FLASH),
    Scenario("1B, 4 x 2048, FlashAttention 2", "1B", 4, 2048, FLASH),
]
GROUPS = {
    "step_cost": [
        Scenario("135M, 16 x 512, sdpa", "135M", 16, 512, SDPA, rounds=2),
        Scenario("1B, 16 x 512, sdpa", "1B", 16, 512, SDPA),
        Scenario("1B, 4 x 2048, sdpa", "1B", 4, 2048, SDPA),
        Scenario("1B, 4 x 2048, FlexAttention", "1B", 4, 2048, FLEX),
        Scenario("135M, 16 x 512, FlexAttention", "135M", 16, 512, FLEX),
        Scenario("135M, 4 x 2048, sdpa", "135M", 4, 2048, SDPA),
        Scenario("1B, 16 x 512, sdpa, LoRA", "1B", 16, 512, SDPA, method="lora"),
        *(FLASH_SCENARIOS if importlib.util.find_spec("flash_attn") else []),
    ],
    "features": [
        Scenario("gradient checkpointing: 1B, 16 x 512", "1B", 16, 512, (*SDPA, "--gradient_checkpointing"), FEW, 4),
        # Last, for its kernels take the place of Llama's own in the whole process.
        Scenario("Liger: 135M, 16 x 512", "135M", 16, 512, (*SDPA, "--use_liger_kernel"), FEW, 4),
    ],
    # By itself, for nobody knows beforehand how long the compiler takes.
    "compiled": [
        Scenario(
            "torch.compile: 135M's first 6 layers, 16 x 512",
            "135M-6-layers",
            16,
            512,
            COMPILED,
            arms=FEW,
            steps=4,
        )
    ],
}
"""Part of run.sh -> its scenarios."""


def in_small(scenario: Scenario) -> Scenario:
    """The same on the CPU, in the least sizes and without what needs a GPU: FlexAttention, Liger and a compiler.

    All arms are tried in plain scenarios, two of them in the others.
    """
    others = {"flex_attention": "sdpa", "flash_attention_2": "sdpa", "inductor": "eager"}
    flags = [others.get(word, word) for word in scenario.flags if word != "--use_liger_kernel"]
    arms = scenario.arms if scenario.flags == SDPA and scenario.method == "full" else ("sft", "prefix_sg")
    small = replace(scenario, shape="tiny", batch_size=2, length=8, steps=2, warmup=1)
    return replace(small, arms=arms, device="cpu", flags=(*flags, "--no_memory"))
