"""Does GPTQModel read our GPTQ checkpoints, and does it answer the same?

GPTQModel needs an environment of its own (it asks for the newest torch and builds extensions):

    python -m venv gptqmodel-env && gptqmodel-env/bin/pip install gptqmodel
    python benchmarks/gptq_vs_gptqmodel.py -m runs/pocket/rl --calibration runs/pocket/data/sft.jsonl --python gptqmodel-env/bin/python

Each variant is quantised by ``trainers gptq``, then loaded by both, and given the same tokens on a CPU in fp32 (GPTQModel loads in
fp16, the format's dtype, and is widened then, which loses nothing).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

VARIANTS = {
    "4 bits, group 64": ["--group-size", "64"],
    "4 bits, group 64, act-order": ["--group-size", "64", "--act-order"],
    "4 bits, group 64, act-order, static groups": ["--group-size", "64", "--act-order", "--static-groups"],
    "4 bits, group 128, asym": ["--asym"],
    "4 bits, one group": ["--group-size", "-1"],
    "3 bits, group 128": ["--bits", "3"],
    "8 bits, group 128": ["--bits", "8"],
    "2 bits, group 32": ["--bits", "2", "--group-size", "32"],
}


def ours(checkpoint: Path, ids: torch.Tensor) -> torch.Tensor:
    from modelkit.checkpoint import load_model
    from modelkit.gptq.layer import always_dequantise

    model = load_model(checkpoint, dtype=torch.float32)
    always_dequantise(model)
    with torch.no_grad():
        return model(input_ids=ids).logits


def peer(checkpoint: str, ids: str, out: str) -> None:
    """Runs in the other environment."""
    from gptqmodel import BACKEND, GPTQModel

    model = GPTQModel.load(checkpoint, device="cpu", backend=BACKEND.TORCH, dtype=torch.float16).model.float()
    with torch.no_grad():
        save_file({"logits": model(input_ids=load_file(ids)["ids"]).logits.contiguous()}, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=Path, required=True, help="an unquantised checkpoint")
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--python", required=True, help="the interpreter of the environment that has gptqmodel")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        vocabulary = 0
        print("| variant | largest difference of a log-probability | same best token | KL, nats |\n|---|---|---|---|")
        for i, (name, options) in enumerate(VARIANTS.items()):
            out = work / f"variant-{i}"
            command = [
                sys.executable,
                "-m",
                "trainers",
                "gptq",
                "-m",
                given.model,
                "--out",
                out,
                "--calibration",
                given.calibration,
                *options,
            ]
            subprocess.run(command, check=True, capture_output=True)
            if not vocabulary:
                from modelkit.checkpoint import check

                vocabulary = check(out)["vocab_size"]
            ids = torch.randint(vocabulary, (4, 64), generator=torch.Generator().manual_seed(0))
            save_file({"ids": ids}, work / "ids.safetensors")
            subprocess.run(
                [given.python, __file__, "--peer", out, work / "ids.safetensors", work / "logits.safetensors"],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            theirs = load_file(work / "logits.safetensors")["logits"]
            one, two = (logits.log_softmax(-1) for logits in (ours(out, ids), theirs))
            difference = float((one - two).abs().max())
            agreement = float((one.argmax(-1) == two.argmax(-1)).float().mean())
            divergence = float((two.exp() * (two - one)).sum(-1).mean())
            print(f"| {name} | {difference:.1e} | {agreement:.1%} | {divergence:.1e} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        peer(*sys.argv[2:5])
    else:
        main()
