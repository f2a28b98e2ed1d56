"""A model of LLaMA-2-7B's shape that chats on a CPU in 4 bits, beside the same shape in bf16: memory and tokens per second.

    python -m benchmarks.gptq_7b_cpu
    python -m benchmarks.gptq_7b_cpu --bf16             (needs 14 GB)
    python -m benchmarks.gptq_7b_cpu --bf16 --packed    (the same, laid out for oneDNN, as the playground holds it)

The weights are random and packed directly, layer by layer: no unquantised copy of the model ever exists. 256 tokens are read, then
128 generated greedily, by the loop that serves everybody, and what was read is kept for a next turn, as in a chat. The share of the bandwidth limit is the bytes of weights that a token
needs, times tokens per second, over what this machine reads per second with the same number of threads, measured here too.
"""

from __future__ import annotations

import argparse
import itertools
import resource
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

GROUP = 128
CONTEXT, NEW = 256, 128


def random_layer(inputs: int, outputs: int) -> GPTQLinear:
    words = torch.randint(-(2**31), 2**31 - 1, (inputs // 8, outputs), dtype=torch.int32)
    scales = torch.full((inputs // GROUP, outputs), inputs**-0.5 / 8).bfloat16().half()
    zeros = torch.full((inputs // GROUP, outputs), 8, dtype=torch.uint8)
    return GPTQLinear(Packed(4, words, scales, zeros, torch.arange(inputs, dtype=torch.int32) // GROUP))


def random_model(quantised: bool) -> LlamaForCausalLM:
    """32 blocks of 4096 wide, MLP 11008, vocabulary 32000: embeddings and head in bf16, the blocks' layers in 4 bits or bf16."""
    with init_empty_weights(include_buffers=False):
        model = LlamaForCausalLM._from_config(LlamaConfig(max_position_embeddings=4096), dtype=torch.bfloat16)
    for path, module in list(model.named_modules()):
        if quantised and isinstance(module, nn.Linear) and path != "lm_head":
            model.set_submodule(path, random_layer(module.in_features, module.out_features))
        else:
            for name, parameter in list(module.named_parameters(recurse=False)):
                value = torch.empty(parameter.shape, dtype=torch.bfloat16)
                value.fill_(1) if value.dim() == 1 else value.uniform_(-0.02, 0.02)
                module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return model.eval()


def bytes_per_token(model: LlamaForCausalLM) -> int:
    """What one decode step reads of the weights: all but the embedding table."""
    tensors = {id(tensor): tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensors.values()) - model.model.embed_tokens.weight.nbytes


def moments_of_tokens(model: LlamaForCausalLM) -> list[float]:
    """When reading the prompt began, and when each new token was there."""
    batch = Batch(model, prefixes=PrefixStore(Limits().prefix_bytes))
    batch.add(torch.randint(32000, (CONTEXT,), generator=torch.Generator().manual_seed(0)).tolist(), Sampling(NEW, temperature=0), stop=[])
    moments = [time.perf_counter()]
    while batch.busy:
        batch.step()
        moments.append(time.perf_counter())
    return moments


def bandwidth() -> float:
    """Bytes per second that a sum over half a gigabyte reads, the best of five."""
    block = torch.ones(1 << 27, dtype=torch.float32)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        block.sum()
        seconds.append(time.perf_counter() - started)
    return block.nbytes / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bf16", action="store_true", help="measure the unquantised twin instead, as transformers holds it")
    parser.add_argument("--packed", action="store_true", help="pack that, too")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    threads = set_threads(given.threads)
    started = time.perf_counter()
    model = random_model(not given.bf16)
    give_back_memory()
    if given.packed or not given.bf16:
        pack(model)
    built = time.perf_counter() - started
    moments = moments_of_tokens(model)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    steps = sorted(later - earlier for earlier, later in itertools.pairwise(moments[1:]))
    needed = bytes_per_token(model)
    del model
    speed, median, limit = len(steps) / sum(steps), steps[len(steps) // 2], bandwidth()
    print(f"{'bf16' if given.bf16 else '4 bits'}, {threads} threads, torch {torch.__version__}, built in {built:.0f} s")
    print(f"peak resident memory   {peak / 2**30:.2f} GiB")
    print(f"prompt, {CONTEXT} tokens     {moments[1] - moments[0]:.1f} s")
    print(f"decoding, {NEW} tokens   {speed:.2f} tokens/s (a median step {median * 1e3:.0f} ms)")
    print(f"weights read per token {needed / 1e9:.2f} GB; {needed / median / limit:.0%} of the {limit / 1e9:.1f} GB/s this machine reads")


if __name__ == "__main__":
    prepare_process()
    main()
