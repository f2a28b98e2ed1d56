"""A result in other tools' formats: lm-evaluation-harness's ``results_*.json`` with its samples, or one CSV file of all answers."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from evalkit.recorded import Line, Recorded
from evalkit.types import LETTERS
from modelkit import atomic
from modelkit.records import MethodScore, SubjectScore, TaskScore

GROUPS = {"ceval": "ceval-valid"}
"""Benchmarks that lm-evaluation-harness calls otherwise."""


def to_csv(recorded: Recorded, out: Path) -> list[Path]:
    """Write one row for each question and method, with a column for each letter's natural-log probability."""
    rows = [(task, line) for task in recorded.result.tasks for line in recorded.lines(task)]
    letters = [letter for letter in LETTERS if any(letter in (line.scores or {}) for _, line in rows)]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    facts = ("id", "subject", "method", "gold", "prediction", "correct", "shots_used", "reason")
    writer.writerow(["task", *facts, *(f"score_{letter}" for letter in letters)])
    for task, line in rows:
        writer.writerow([task, *(getattr(line, name) for name in facts), *((line.scores or {}).get(letter) for letter in letters)])
    atomic.write_text(out, stream.getvalue())
    return [out]


def to_lm_eval(recorded: Recorded, out: Path) -> list[Path]:
    """Write ``<out>/<model>/results_<time>.json`` and ``samples_<task>_<time>.jsonl``, the layout of lm-evaluation-harness 0.4.

    A benchmark with several subjects is a group, each subject a task in it (``mmlu``, ``mmlu_anatomy``). ``acc,none`` is the micro
    average, as there; the macro average is ``acc_macro,none``, and a method that isn't the task's first has its name for ``none``.
    What is unscored has no place in that format and is left out of the samples. ``is_greedy`` is said among the letters.
    """
    time = datetime.fromtimestamp((recorded.folder / "results.json").stat().st_mtime)
    folder, stamp = out / _model(recorded), time.isoformat().replace(":", "-")
    names = _names(list(recorded.result.tasks))
    tasks = recorded.result.tasks
    tables = [_table(names[name], task) for name, task in tasks.items()]
    made: dict[str, Any] = {
        key: {name: value for table in tables for name, value in table[key].items()}
        for key in ("results", "groups", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples")
    }
    samples = {part: rows for name, task in tasks.items() for part, rows in _samples(recorded, name, names[name], task).items()}
    hashes = {
        part: _sha("".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows)) for part, rows in samples.items()
    }
    made |= _about(recorded, time) | {"task_hashes": hashes}
    files = []
    for part, rows in samples.items():
        files.append(folder / f"samples_{_safe(part)}_{stamp}.jsonl")
        atomic.write_text(files[-1], "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    atomic.write_json(folder / f"results_{stamp}.json", made)
    return [folder / f"results_{stamp}.json", *files]


def unscored(recorded: Recorded) -> int:
    """How many answers have a reason instead of a score."""
    return sum(found.unscored for *_, found in recorded.scores())


def _names(tasks: Sequence[str]) -> dict[str, str]:
    """Each task's name over there: the benchmark's, unless two protocols of one benchmark were measured."""
    short = [task.partition("@")[0] for task in tasks]
    return {task: task if short.count(name) > 1 else GROUPS.get(name, name) for task, name in zip(tasks, short, strict=True)}


def _subtask(name: str, subject: str) -> str:
    return f"{name}_{subject}"


def _table(name: str, task: TaskScore) -> dict[str, dict[str, Any]]:
    """What ``results.json`` says of one task, key by key."""
    subjects = list(next(iter(task.methods.values())).subjects)
    parts = {_subtask(name, subject): subject for subject in subjects} if len(subjects) > 1 else {}
    results: dict[str, dict[str, Any]] = {part: {"alias": subject, "name": part} for part, subject in parts.items()}
    results[name] = {"alias": name, "name": name}
    for place, (method, found) in enumerate(task.methods.items()):
        ending = "none" if place == 0 else method
        for part, subject in parts.items():
            results[part] |= {"sample_len": found.subjects[subject].n} | _share(_metric(method, found), ending, found.subjects[subject])
        results[name] |= {"sample_len": found.n} | _whole(method, found, ending)
    metrics = [_metric(method, found) for method, found in task.methods.items()]
    n = next(iter(task.methods.values())).n
    counts = {part: results[part]["sample_len"] for part in parts} | {name: n}
    about = {"protocol": (task.model_extra or {}).get("protocol"), "data": task.data, "chat": task.chat}
    config = {"num_fewshot": task.shots, "output_type": "multiple_choice" if task.kind == "choice" else task.kind, "metadata": about}
    leaves = list(parts) or [name]
    return {
        "results": results,
        "groups": {name: results[name]} if parts else {},
        "group_subtasks": {name: list(parts)} | {part: [] for part in parts},
        "configs": {leaf: {"task": leaf, "dataset_name": parts.get(leaf)} | config for leaf in leaves},
        "versions": dict.fromkeys(results, 1),
        "n-shot": dict.fromkeys(results, task.shots),
        "higher_is_better": {part: {metric: metric != "bits_per_byte" for metric in metrics} for part in results},
        "n-samples": {leaf: {"original": counts[leaf], "effective": counts[leaf]} for leaf in leaves},
    }


def _metric(method: str, found: MethodScore) -> str:
    if found.metric != "accuracy":
        return found.metric
    return "exact_match" if method == "generate" else "acc"


def _share(metric: str, ending: str, row: SubjectScore) -> dict[str, Any]:
    n = row.n - row.unscored
    value = "N/A" if row.accuracy is None else row.accuracy
    return {f"{metric},{ending}": value, f"{metric}_stderr,{ending}": _stderr(row.accuracy, n)}


def _whole(method: str, found: MethodScore, ending: str) -> dict[str, Any]:
    metric = _metric(method, found)
    if found.micro is None:
        return {f"{metric},{ending}": "N/A" if found.value is None else found.value, f"{metric}_stderr,{ending}": "N/A"}
    pooled = _pooled([row for row in found.subjects.values() if row.accuracy is not None])
    return {f"{metric},{ending}": found.micro, f"{metric}_stderr,{ending}": pooled, f"{metric}_macro,{ending}": found.macro}


def _stderr(share: float | None, n: int) -> float | str:
    """Sample standard deviation of right and wrong / √n."""
    return "N/A" if share is None or n < 2 else math.sqrt(share * (1 - share) / (n - 1))


def _pooled(rows: Sequence[SubjectScore]) -> float | str:
    """The standard error over all subjects from their pooled variance, as lm-evaluation-harness has it."""
    sizes = [row.n - row.unscored for row in rows]
    if sum(sizes) <= len(sizes):
        return "N/A"
    squares = sum((row.accuracy or 0.0) * (1 - (row.accuracy or 0.0)) * n for row, n in zip(rows, sizes, strict=True) if n > 1)
    return math.sqrt(squares / (sum(sizes) - len(sizes)) / sum(sizes))


def _samples(recorded: Recorded, task: str, name: str, score: TaskScore) -> dict[str, list[dict[str, Any]]]:
    """The samples by subtask."""
    first = next(iter(score.methods))
    several = len(score.methods[first].subjects) > 1
    found: dict[str, list[dict[str, Any]]] = {}
    places: dict[tuple[str, str], int] = {}
    for line in recorded.lines(task):
        place = places.get((line.method, line.subject), 0)
        places[line.method, line.subject] = place + 1
        if line.correct is not None:
            metric = _metric(line.method, score.methods[line.method])
            row = _sample(line, place, metric, "none" if line.method == first else line.method)
            found.setdefault(_subtask(name, line.subject) if several else name, []).append(row)
    return found


def _sample(line: Line, place: int, metric: str, ending: str) -> dict[str, Any]:
    """One row: a request for each letter, or one for a generated reply."""
    doc = {"id": line.id, "subject": line.subject, "gold": line.gold}
    single = line.scores is not None and line.gold in line.scores
    target = str(list(line.scores or {}).index(line.gold or "")) if single else str(line.gold)
    prompt = line.prompt or ""
    if line.scores:
        asked = [(prompt, letter) for letter in line.scores]
        answers: list[Any] = [[str(score), str(letter == line.prediction)] for letter, score in line.scores.items()]
    else:
        asked = [(prompt, "")]
        answers = [(line.model_extra or {}).get("reply", line.prediction or "")]
    return {
        "doc_id": place,
        "doc": doc,
        "target": target,
        "arguments": {f"gen_args_{i}": {"arg_0": context, "arg_1": answer} for i, (context, answer) in enumerate(asked)},
        "resps": [[answer] for answer in answers],
        "filtered_resps": answers,
        "filter": ending,
        "metrics": [metric],
        "doc_hash": _sha(json.dumps(doc, ensure_ascii=False)),
        "prompt_hash": (line.prompt_sha256 or _sha(prompt)).removeprefix("sha256:"),
        "target_hash": _sha(target),
        metric: float(line.correct is True),
    }


def _about(recorded: Recorded, time: datetime) -> dict[str, Any]:
    """What is said of the model and of how it was run; what a result doesn't keep is null."""
    result = recorded.result
    model, settings = result.model, (result.model_extra or {}).get("settings") or {}
    dtype = {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16"}.get(model.dtype, model.dtype)
    chat = any(task.chat for task in result.tasks.values())
    return {
        "config": {
            "model": "hf",
            "model_args": f"pretrained={model.path},dtype={dtype.removeprefix('torch.')}",
            "model_dtype": dtype,
            "model_revision": "main",
            "model_sha": model.fingerprint.removeprefix("sha256:"),
            "batch_size": None,
            "batch_sizes": [],
            "device": result.environment.get("device"),
            "use_cache": None,
            "limit": settings.get("limit"),
            "bootstrap_iters": 0,
            "gen_kwargs": {},
            **dict.fromkeys(("random_seed", "numpy_seed", "torch_seed", "fewshot_seed"), result.seed),
        },
        "git_hash": None,
        "date": time.timestamp(),
        "pretty_env_info": "\n".join(f"{name}: {value}" for name, value in result.environment.items()),
        "transformers_version": result.environment.get("transformers"),
        **dict.fromkeys(
            ("upper_git_hash", "tokenizer_pad_token", "tokenizer_eos_token", "tokenizer_bos_token", "eot_token_id", "max_length")
        ),
        "model_source": "hf",
        "model_name": model.path,
        "model_name_sanitized": _model(recorded),
        **dict.fromkeys(("system_instruction", "system_instruction_sha", "chat_template", "chat_template_sha")),
        "fewshot_as_multiturn": chat,
        "total_evaluation_time_seconds": str(result.speed.seconds),
    }


def _model(recorded: Recorded) -> str:
    """The model's name as a folder."""
    return _safe(recorded.result.model.path)


def _safe(name: str) -> str:
    """A name without the characters that file systems refuse, as lm-evaluation-harness writes it."""
    return re.sub(r'["<>:/|\\?*\[\]]+', "__", name)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
