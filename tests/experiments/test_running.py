"""What the process of a cell is given."""

from llm_jepa.experiments.running import cell_environment


def test_a_cell_has_one_gpu_and_its_share_of_the_cores():
    """Slot 3 of 4 on two GPUs and 16 cores; what else there is stays."""
    environment = cell_environment({"HOME": "/h", "CUDA_VISIBLE_DEVICES": "2,5"}, 3, 4, ["2", "5"], 16)
    assert environment == {"HOME": "/h", "CUDA_VISIBLE_DEVICES": "5", "OMP_NUM_THREADS": "4"}
    assert cell_environment({}, 0, 1, [], 8) == {"OMP_NUM_THREADS": "8"}


def test_a_number_of_threads_that_is_given_stays():
    """More threads than free cores wait for each other, which slows a small model down many times."""
    assert cell_environment({"OMP_NUM_THREADS": "1"}, 0, 1, [], 8) == {"OMP_NUM_THREADS": "1"}
