"""A process of `python -m lm.train` under FSDP2 on CPU, as `accelerate launch` with lm/recipes/fsdp2.yaml sets it up.

Accelerate shards on GPUs only, by the kind of processes that it finds: it is told that these are such, and the rest of
its way, transformers' and ours is the one of GPUs.
"""

import os

from accelerate import PartialState
from accelerate.utils import DistributedType

os.environ |= {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}
PartialState(cpu=True)
PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU

from lm.train.__main__ import main  # noqa: E402

main()
