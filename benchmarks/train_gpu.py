"""Full SFT of a LLaMA-2-7B shape on one GPU, with random weights and random tokens: how fast, how much of the peak, how much memory.

    python -m benchmarks.train_gpu                                    # one H200: bf16 with fp32 master weights, sequences of 4096
    python -m benchmarks.train_gpu --attention cudnn --compile        # what each changes is printed with its settings
    python -m benchmarks.train_gpu --strategy zero2 --lora 16         # zero3, colossalai_zero2, colossalai_gemini alike
    python -m benchmarks.train_gpu --shape smallest --length 64       # a few seconds on a CPU

Steps go through the trainers' own stage, optimiser and strategy. FLOPs are those of the model (6 for each weight and token, and the
causal half of attention); what recomputation adds doesn't count.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from modelkit.device import dtype_of, prepare_process, set_threads

prepare_process()  # before torch is imported

import torch  # noqa: E402
from tokenizers import Tokenizer, models  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402

from trainers.data.dataset import Example  # noqa: E402
from trainers.distributed import joined  # noqa: E402
from trainers.loop import computing_in  # noqa: E402
from trainers.lora import adapt  # noqa: E402
from trainers.recipe import SftStage  # noqa: E402
from trainers.sft import LanguageModelling  # noqa: E402
from trainers.strategies import Strategy  # noqa: E402

SHAPES: dict[str, dict[str, int]] = {
    "7b": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    "smallest": {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    },
}
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # bf16 FLOP/s without sparsity, by the maker's data sheets
ATTENTION = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION}


def measure(given: argparse.Namespace, strategy: Strategy) -> dict[str, Any]:
    """Seconds a step, tokens and model FLOPs a second, share of the peak and peak memory of this rank."""
    shape, length = SHAPES[given.shape], given.length
    settings = SftStage(
        data=[],
        steps=given.steps + 2,
        lr=1e-5,
        tokens=length * given.rows,
        micro_tokens=length * given.micro_rows,
        dtype=given.dtype,
        gradient_checkpointing=given.recompute,
        lora={"rank": given.lora} if given.lora else None,
    )
    torch.manual_seed(0)
    with torch.device(strategy.device):
        model = LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=length, tie_word_embeddings=False))
    weights = sum(parameter.numel() for parameter in model.parameters()) - model.get_input_embeddings().weight.numel()
    trainee = adapt(model, settings, "language")
    if given.compile:
        for layer in model.base_model.layers:
            layer.compile()
    draw = random.Random(0)
    rows = [Example([draw.randrange(shape["vocab_size"]) for _ in range(length)], [False] + [True] * (length - 1)) for _ in range(64)]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    stage = LanguageModelling("sft", trainee.model, tokenizer, rows, [], [], settings, 0, strategy)
    stage.begin(0)
    seconds = []
    with computing_in(given.dtype, strategy.device), attention(given.attention):
        for step in range(given.steps + 2):
            wait(strategy.device)
            started = time.perf_counter()
            stage.step(step)
            wait(strategy.device)
            seconds.append(time.perf_counter() - started)
    middle, tokens = statistics.median(seconds[2:]), length * given.rows / strategy.world
    forward = 2 * weights + 2 * shape["num_hidden_layers"] * shape["hidden_size"] * length
    rate = (2 if given.lora else 3) * forward * tokens / middle
    name = torch.cuda.get_device_name() if strategy.device.type == "cuda" else "cpu"
    peak = next((value for part, value in PEAKS.items() if part in name), None)
    memory = torch.cuda.max_memory_allocated() / 2**30 if strategy.device.type == "cuda" else None
    return {
        **vars(given),
        "device": name,
        "strategy": strategy.name,
        "seconds a step": middle,
        "tokens/s a device": tokens / middle,
        "model TFLOP/s a device": rate / 1e12,
        "share of peak": rate / peak if peak else None,
        "peak GiB": memory,
        "torch": torch.__version__,
    }


def attention(name: str) -> AbstractContextManager[None]:
    """A context in which torch's attention takes the kernel called *name*; ``auto`` leaves the choice to torch."""
    return nullcontext() if name == "auto" else sdpa_kernel(ATTENTION[name])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure one configuration and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="7b")
    parser.add_argument("--length", type=int, default=4096, help="tokens of a sequence")
    parser.add_argument("--rows", type=int, default=8, help="sequences a step, over all ranks")
    parser.add_argument("--micro-rows", type=int, default=1, help="sequences a pass")
    parser.add_argument("--steps", type=int, default=5, help="measured, after two to warm up")
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16", help="what is computed in; weights that are trained stay fp32")
    parser.add_argument("--strategy", default="single")
    parser.add_argument("--attention", choices=["auto", *ATTENTION], default="auto")
    parser.add_argument("--recompute", action="store_true", help="keep each layer's input only")
    parser.add_argument("--compile", action="store_true", help="torch.compile of every layer")
    parser.add_argument("--lora", type=int, default=0, metavar="RANK")
    given = parser.parse_args()
    set_threads()
    with joined(given.strategy, dtype_of(given.dtype)) as strategy:
        found = measure(given, strategy)
        if strategy.rank == 0:
            print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
