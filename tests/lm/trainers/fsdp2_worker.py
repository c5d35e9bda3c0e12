"""One of two processes that train a sharded model: `torchrun --nproc-per-node 2 fsdp2_worker.py MODEL BATCHES OUT`.

accelerate refuses FSDP without an accelerator, so this shards the model as it does there (layers, embedding, final
norm with the head, the rest), and takes plain SGD steps.
"""

import sys

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM

import ift
from lm.trainers.forward import Residual, add_residual_forward

model_folder, batch_file, out = sys.argv[1:]
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
model = AutoModelForCausalLM.from_pretrained(model_folder)
add_residual_forward(model)
mesh = dist.device_mesh.init_device_mesh("cpu", (world,))
for layer in model.model.layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model.model.embed_tokens, mesh=mesh)
fully_shard([model.model.norm, model.lm_head], mesh=mesh, reshard_after_forward=False)
fully_shard(model, mesh=mesh)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
losses = []
for step in range(5):
    batch = {
        name.split(".")[1]: rows.chunk(world)[rank]
        for name, rows in load_file(batch_file).items()
        if name.startswith(f"{step}.")
    }
    outputs = model(**batch, residual=Residual(0.5))
    loss = ift.ift_loss(outputs.log_probs, outputs.label_mask, 0.95).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    mean = loss.detach() / world
    dist.all_reduce(mean)
    losses.append(mean)
whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
if rank == 0:
    save_file({"losses": torch.stack(losses), **{k: v.contiguous().clone() for k, v in whole.items()}}, out)
dist.destroy_process_group()
