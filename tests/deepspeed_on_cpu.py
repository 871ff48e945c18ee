"""`llm_jepa.train` under DeepSpeed without a GPU, for the tests: without the operator that it compiles for a minute.

It reduces over shared memory, on a CPU and in inference alone.
"""

import deepspeed

from llm_jepa.train import main

if __name__ == "__main__":
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    main()
