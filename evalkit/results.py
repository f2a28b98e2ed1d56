"""``results.json``, ``samples/<task>.jsonl`` and ``report.html``: where they go, and writing them in one step."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalkit import report
from evalkit.types import Sample
from evalkit.validation import Finding
from modelkit import atomic
from modelkit.errors import UserError
from modelkit.fingerprint import sha256_of_text
from modelkit.records import Result


def result_id(model: str, tasks: Sequence[str], identity: dict[str, Any]) -> str:
    """``<model>-<tasks>-<8 hex digits>``; the digits change with the model's fingerprint, the data and any setting."""
    digest = sha256_of_text(json.dumps(identity, sort_keys=True, ensure_ascii=False)).removeprefix("sha256:")[:8]
    names = "+".join(Path(task).name for task in tasks)
    return "-".join([*(re.sub(r"[^\w.@+-]+", "_", part)[:60] for part in (Path(model).resolve().name, names)), digest])


def check_writable(out: Path, mark: str = "results.json") -> None:
    """Make sure, before hours of work, that *out* can be written and that nothing but a result would be replaced.

    :param mark: the file by which a folder is known as one of ours.
    :raises UserError: when it can't, or when *out* holds something else.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / mark).is_file())):
        raise UserError(f"{out} holds something else than a result: name another --out.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        probe = out.parent / f".{out.name}.{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{out} can't be written ({error.strerror}): name another --out.") from None


def write(
    out: Path,
    result: Result,
    samples: dict[str, list[Sample]],
    log_prompts: bool,
    findings: dict[str, Sequence[Finding]] | None = None,
) -> None:
    """Write the result, one line for each item and method per task, and the page of it. All appears at once, or nothing.

    :param findings: what the validation of each task's data found; ``quarantine.jsonl`` has a line for each.
    """
    with atomic.directory(out) as folder:
        (folder / "samples").mkdir()
        for task, lines in samples.items():
            with (folder / "samples" / f"{task}.jsonl").open("w", encoding="utf-8") as file:
                for sample in lines:
                    file.write(json.dumps(sample.to_json(log_prompts), ensure_ascii=False) + "\n")
        with (folder / "quarantine.jsonl").open("w", encoding="utf-8") as file:
            for task, found in (findings or {}).items():
                for finding in found:
                    file.write(json.dumps({"task": task, **finding.to_json()}, ensure_ascii=False, default=str) + "\n")
        (folder / "results.json").write_text(
            json.dumps(result.model_dump(mode="json"), ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
        )
        report.write(folder, {task: report.wording(sample.item for sample in lines) for task, lines in samples.items()})


def finished(out: Path, identity: str) -> Result | None:
    """The result in *out* if it is of the very evaluation that has this *identity*, else ``None``."""
    try:
        result = Result.read(out / "results.json")
    except UserError:
        return None
    return result if (result.model_extra or {}).get("identity") == identity else None


def environment(device: str) -> dict[str, Any]:
    """The versions and settings a number depends on."""
    import torch
    import transformers

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "device": device,
    }


def peak_memory(device: str) -> int:
    """Peak bytes: of the GPU where one is used, else the process's resident size (0 where the system doesn't tell)."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
