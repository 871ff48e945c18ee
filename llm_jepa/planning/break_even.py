"""After how many requests the seconds that latent inference saves repay the extra ones of training.

Training with the objective costs more than SFT; an answer by the latent predictor may cost less than one by the model
alone. Both are seconds of the same device. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_jepa.compute.devices import find_gpu, recognise_gpu
from llm_jepa.evaluation.latency_report import FIRST_TOKEN, ORDINARY_WAYS, Hardware
from llm_jepa.planning.estimate import SECONDS_PER_HOUR, Estimate, requests_to_repay


@dataclass(frozen=True)
class BreakEven:
    """One way to answer that the training made possible, beside the fastest one that needs no training.

    Attributes:
        way, baseline: Their names.
        seconds, baseline_seconds: Means of a request.
        requests: After how many requests training is repaid; None if never.
    """

    way: str
    baseline: str
    seconds: float
    baseline_seconds: float
    requests: Estimate | None


def break_evens(extra_seconds: Estimate, ways: Mapping[str, Mapping[str, Any]]) -> list[BreakEven]:
    """The break-even of each way that uses the latent predictor.

    Args:
        extra_seconds: Of training, over SFT, on the device that answers.
        ways: Those of a `LatencyReport`.
    """
    ordinary = [name for name in ways if name in ORDINARY_WAYS]
    baseline = min(ordinary, key=lambda name: ways[name]["mean_seconds"])
    baseline_seconds = ways[baseline]["mean_seconds"]
    found = []
    for name, figures in ways.items():
        if name not in (*ORDINARY_WAYS, FIRST_TOKEN):
            seconds = figures["mean_seconds"]
            requests = requests_to_repay(extra_seconds, baseline_seconds - seconds)
            found.append(BreakEven(name, baseline, seconds, baseline_seconds, requests))
    return found


def extra_training_seconds(own_hours: Estimate, sft_hours: Estimate, num_devices: int, price_ratio: float) -> Estimate:
    """The device-seconds of training over SFT, in seconds of the device that answers.

    Args:
        own_hours, sft_hours: Of the whole training, by the clock.
        num_devices: Devices that train.
        price_ratio: Price of a training device over that of the answering one; 1 if they are the same.
    """
    return own_hours.minus(sft_hours).times(SECONDS_PER_HOUR * num_devices * price_ratio)


def check_same_gpu(name: str, measured: Hardware) -> None:
    """Check that a GPU of `compute.devices` is the one that was measured.

    Raises:
        ValueError: It is another.
    """
    if recognise_gpu(measured.device) is not find_gpu(name):
        raise ValueError(_other_device(name, measured))


def check_same_hardware(training: Hardware, measured: Hardware) -> None:
    """Check that the device of training is the one that was measured, with as many threads.

    Raises:
        ValueError: It is another.
    """
    if training != measured:
        raise ValueError(_other_device(str(training), measured))


def _other_device(training: str, measured: Hardware) -> str:
    return (
        f"`--latency` was measured on {measured}, and training is timed on {training}: their seconds differ. "
        "Measure both on one device, or give the prices of both: --price_per_hour P --serving_price_per_hour P."
    )
