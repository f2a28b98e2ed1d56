"""A model of LLaMA-2-7B's shape that chats in 4 bits, beside the same shape in bf16: memory and tokens per second.

    python -m benchmarks.gptq_7b
    python -m benchmarks.gptq_7b --bf16             (needs 14 GB)
    python -m benchmarks.gptq_7b --bf16 --packed    (the same, laid out for oneDNN, as the playground holds it on a CPU)
    python -m benchmarks.gptq_7b --device cuda --rows 1 8 32
    python -m benchmarks.gptq_7b --device cuda --quantise

The weights are random and packed directly, layer by layer: no unquantised copy of the model ever exists. 256 tokens are read, then
128 generated greedily, by the loop that serves everybody, and what was read is kept for a next turn, as in a chat. Beside the bytes of
weights that steps read per second stands what this device reads at most, measured last (on a CPU with the same number of threads).
--quantise times GPTQ on the seven layers of one block instead, for the 32 there are.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import statistics
import time

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from modelkit.device import give_back_memory, prepare_process, set_threads
from modelkit.generation.batch import Batch
from modelkit.generation.engine import Limits
from modelkit.generation.prefixes import PrefixStore
from modelkit.generation.sampling import Sampling
from modelkit.gptq.layer import GPTQLinear
from modelkit.gptq.packing import Packed
from modelkit.linear import pack
from trainers.gptq.solver import Grid, quantise

GROUP = 128
CONTEXT, NEW = 256, 128
SHAPES = {
    "7B": {},
    "smallest": {"vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2},
}


def random_layer(inputs: int, outputs: int, device: torch.device) -> GPTQLinear:
    words = torch.randint(-(2**31), 2**31 - 1, (inputs // 8, outputs), dtype=torch.int32, device=device)
    scales = torch.full((inputs // GROUP, outputs), inputs**-0.5 / 8, device=device).bfloat16().half()
    zeros = torch.full((inputs // GROUP, outputs), 8, dtype=torch.uint8, device=device)
    return GPTQLinear(Packed(4, words, scales, zeros, torch.arange(inputs, dtype=torch.int32, device=device) // GROUP))


def random_model(quantised: bool, device: torch.device, shape: str) -> LlamaForCausalLM:
    """By default 32 blocks of 4096 wide, MLP 11008, vocabulary 32000: embeddings and head in bf16, the blocks' layers in 4 bits or bf16."""
    with init_empty_weights(include_buffers=False):
        model = LlamaForCausalLM._from_config(LlamaConfig(**SHAPES[shape], max_position_embeddings=4096), dtype=torch.bfloat16)
    for path, module in list(model.named_modules()):
        if quantised and isinstance(module, nn.Linear) and path != "lm_head":
            model.set_submodule(path, random_layer(module.in_features, module.out_features, device))
            give_back_memory()
        else:
            for name, parameter in list(module.named_parameters(recurse=False)):
                value = torch.empty(parameter.shape, dtype=torch.bfloat16, device=device)
                value.fill_(1) if value.dim() == 1 else value.uniform_(-0.02, 0.02)
                module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return model.to(device).eval()


def bytes_per_step(model: LlamaForCausalLM) -> int:
    """What one decode step reads of the weights: all but the embedding table."""
    tensors = {id(tensor): tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensors.values()) - model.model.embed_tokens.weight.nbytes


def moments_of_steps(model: LlamaForCausalLM, rows: int) -> list[float]:
    """When reading the prompts of so many visitors began, and when each step after that was done."""
    batch = Batch(model, prefixes=PrefixStore(Limits().prefix_bytes))
    for visitor in range(rows):
        ids = torch.randint(model.config.vocab_size, (CONTEXT,), generator=torch.Generator().manual_seed(visitor))
        batch.add(ids.tolist(), Sampling(NEW, temperature=0), stop=[])
    moments = [time.perf_counter()]
    while batch.busy:
        batch.step()  # reads tokens back, so the device has done with it
        moments.append(time.perf_counter())
    return moments


def bandwidth(device: torch.device) -> float:
    """Bytes per second that a sum over half a gigabyte reads, the best of five."""
    block = torch.ones(1 << 27, dtype=torch.float32, device=device)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        block.sum().item()
        seconds.append(time.perf_counter() - started)
    return block.nbytes / min(seconds)


def seconds_of_a_block(device: torch.device, shape: str) -> float:
    """GPTQ on the seven layers of a block, from Hessians of random inputs."""
    config = LlamaConfig(**SHAPES[shape])
    wide, inner = config.hidden_size, config.intermediate_size
    hessians = {}
    for inputs in (wide, inner):
        x = torch.randn(2 * inputs, inputs, device=device)
        hessians[inputs] = x.T @ x
    started = time.perf_counter()
    for outputs, inputs in [(wide, wide)] * 4 + [(inner, wide)] * 2 + [(wide, inner)]:
        found = quantise(torch.randn(outputs, inputs, device=device), hessians[inputs].clone(), Grid(4, GROUP))
        found.codes.sum().item()
    return time.perf_counter() - started


def peak_bytes(device: torch.device) -> int:
    """The most memory so far: allocated on a CUDA device, else resident of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bf16", action="store_true", help="measure the unquantised twin instead, as transformers holds it")
    parser.add_argument("--packed", action="store_true", help="pack that, too")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rows", type=int, nargs="+", default=[1], help="visitors at once")
    parser.add_argument("--quantise", action="store_true", help="time GPTQ on a block instead")
    parser.add_argument("--shape", choices=list(SHAPES), default="7B")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    threads = set_threads(given.threads)
    print(f"{'bf16' if given.bf16 else '4 bits'} on {given.device}, {threads} threads, torch {torch.__version__}")
    if given.quantise:
        seconds = seconds_of_a_block(given.device, given.shape)
        print(f"GPTQ on the layers of a block: {seconds:.1f} s, so {32 * seconds / 60:.1f} minutes for 32 blocks")
        return
    model = random_model(not given.bf16, given.device, given.shape)
    give_back_memory()
    if given.device.type == "cpu" and (given.packed or not given.bf16):
        pack(model)
    for rows in given.rows:
        moments = moments_of_steps(model, rows)
        read, median = moments[1] - moments[0], statistics.median(later - earlier for earlier, later in itertools.pairwise(moments[1:]))
        step = f"a median step {median * 1e3:.1f} ms, {bytes_per_step(model) / median / 1e9:.1f} GB/s of weights"
        peak = f"peak memory {peak_bytes(given.device) / 2**30:.2f} GiB"
        print(f"{rows} at once: prompts of {CONTEXT} tokens {read:.2f} s, then {rows / median:.2f} tokens/s ({step}); {peak}", flush=True)
    print(f"weights read per step {bytes_per_step(model) / 1e9:.2f} GB; this device reads {bandwidth(given.device) / 1e9:.1f} GB/s")


if __name__ == "__main__":
    prepare_process()
    main()
