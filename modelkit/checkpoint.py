"""A checkpoint is a plain Hugging Face directory plus ``stage.json``: reading, checking and writing one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError

from modelkit import adapter, atomic
from modelkit.errors import ModelError
from modelkit.weights import read_header, weight_files

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class DataSource(BaseModel):
    """A file a checkpoint was made from."""

    path: str
    sha256: str
    rows: int


class StageInfo(BaseModel):
    """``stage.json``: how a checkpoint came about. ``parent`` is relative to the checkpoint, ``seconds`` is wall clock."""

    format: Literal[1] = 1
    stage: str
    parent: str | None = None
    recipe: str | None = None
    data: list[DataSource] = []
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    metrics: dict[str, float] = {}


def read_stage(checkpoint: Path) -> StageInfo | None:
    """The checkpoint's ``stage.json``, or ``None`` for a checkpoint from elsewhere.

    :raises ModelError: when the file is there but can't be understood.
    """
    file = checkpoint / "stage.json"
    if not file.exists():
        return None
    try:
        return StageInfo.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise ModelError(f"{file} is damaged ({_first_line(error)}): delete it or write the checkpoint again.") from None


def check(checkpoint: Path) -> dict[str, Any]:
    """Make sure that *checkpoint* can be loaded safely, without loading it, and return its ``config.json`` (an adapter's base's).

    :raises ModelError: for a missing directory or file, a truncated weights file, or weights kept as a pickle.
    """
    if not checkpoint.exists():
        raise ModelError(f"there is no checkpoint at {checkpoint}: check the path.")
    if not checkpoint.is_dir():
        raise ModelError(f"{checkpoint} is a file: name the directory that holds config.json and the weights.")
    if adapter.is_adapter(checkpoint):
        read_header(adapter.weights_of(checkpoint))
        return check(adapter.base_of(checkpoint))
    config = _config(checkpoint)
    weights = weight_files(checkpoint)
    for file in weights:
        read_header(file)
    if not _has_tokenizer(checkpoint):
        raise ModelError(f"{checkpoint} has no tokenizer (tokenizer.json or tokenizer.model): copy it from the model it was trained from.")
    return config


def load_tokenizer(checkpoint: Path) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer.

    :raises ModelError: when it is missing, unreadable, or has more tokens than the model has embeddings.
    """
    config = check(checkpoint)
    borrowed = adapter.is_adapter(checkpoint) and not _has_tokenizer(checkpoint)
    tokenizer = read_tokenizer(adapter.base_of(checkpoint) if borrowed else checkpoint)
    size = config.get("vocab_size")
    if isinstance(size, int) and len(tokenizer) > size:
        raise ModelError(
            f"the tokenizer of {checkpoint} has {len(tokenizer)} tokens but the model only {size} embeddings: "
            "they don't belong together; copy the tokenizer files of the model it was trained from."
        )
    return tokenizer


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder that need not hold a model.

    :raises ModelError: when it is missing or unreadable.
    """
    from transformers import AutoTokenizer

    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder} to read a tokenizer from: check the path.")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ModelError(f"the tokenizer of {folder} can't be read ({_first_line(error)}).") from None


def load_model(
    checkpoint: Path,
    kind: Literal["language", "reward"] = "language",
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> PreTrainedModel:
    """Load a checkpoint's weights for inference (evaluation mode; *dtype* defaults to fp32, *device* to the CPU).

    An adapter is loaded with its base (:mod:`modelkit.adapter`). The linear layers of a GPTQ checkpoint stay quantised
    (:mod:`modelkit.gptq`); the rest of it is bf16 by default.

    :raises ModelError: when it isn't whole, is of the other kind, or its weights don't match its configuration.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from transformers.utils import logging

    from modelkit.gptq.load import load as load_quantised
    from modelkit.gptq.load import quantisation_of

    config = check(checkpoint)
    if is_reward_model(checkpoint) != (kind == "reward"):
        wanted, found = ("a reward model", "a language model") if kind == "reward" else ("a language model", "a reward model")
        raise ModelError(f"{checkpoint} is {found} ({'/'.join(config.get('architectures') or ['?'])}), but {wanted} is needed here.")
    if adapter.is_adapter(checkpoint):
        return adapter.load(checkpoint, kind, dtype or torch.float32, device or torch.device("cpu"))
    loader: Any = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    quantisation = quantisation_of(checkpoint, config)
    if quantisation is not None:
        return load_quantised(checkpoint, loader, quantisation, dtype, device or torch.device("cpu"))
    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model, report = loader.from_pretrained(
            checkpoint, local_files_only=True, use_safetensors=True, dtype=dtype or torch.float32, output_loading_info=True
        )
    except Exception as error:
        raise ModelError(f"{checkpoint} can't be loaded ({_first_line(error)}).") from None
    finally:
        logging.set_verbosity(verbosity)
    missing = [str(name) for name in report["missing_keys"]] + [str(entry[0]) for entry in report["mismatched_keys"]]
    if missing:
        raise ModelError(
            f"{checkpoint} lacks {len(missing)} weights its config.json asks for (the first: {missing[0]}): they don't belong together."
        )
    return model.to(device or torch.device("cpu")).eval()


def is_quantised(checkpoint: Path) -> bool:
    """Whether the weights, of an adapter those of its base, are kept in a few bits. Such are laid out for the device they are loaded on."""
    from modelkit.gptq.load import quantisation_of

    if adapter.is_adapter(checkpoint):
        return is_quantised(adapter.base_of(checkpoint))
    return quantisation_of(checkpoint, check(checkpoint)) is not None


def is_reward_model(checkpoint: Path) -> bool:
    """Whether the checkpoint scores texts (``…ForSequenceClassification``) instead of writing them."""
    if adapter.is_adapter(checkpoint):
        return adapter.is_reward_adapter(checkpoint)
    return any(name.endswith("ForSequenceClassification") for name in _config(checkpoint).get("architectures") or [])


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: Path,
    stage: StageInfo,
    extra: dict[str, Any] | None = None,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a checkpoint atomically: weights as safetensors, config, tokenizer, chat template, ``stage.json``.

    *extra* maps further file names to JSON values, which appear together with the rest. *weights* stand in for the model's own,
    for a model whose own are in parts.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    with atomic.directory(checkpoint) as folder:
        model.save_pretrained(folder, state_dict=weights)
        tokenizer.save_pretrained(folder)
        for name, value in {"stage.json": stage.model_dump(), **(extra or {})}.items():
            (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model"))


def _config(checkpoint: Path) -> dict[str, Any]:
    file = checkpoint / "config.json"
    if not file.exists() and (checkpoint / "run.json").exists():
        stages = sorted(path.parent for name in ("config.json", "adapter_config.json") for path in checkpoint.glob(f"*/{name}"))
        such_as = f", such as {stages[-1]}" if stages else ""
        raise ModelError(f"{checkpoint} is a run: name one of its checkpoints{such_as}.")
    if not file.exists():
        raise ModelError(f"{checkpoint} has no config.json: it is not a Hugging Face checkpoint directory.")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{file} is not valid JSON ({_first_line(error)}): copy it again.") from None
    if not isinstance(config, dict):
        raise ModelError(f"{file} holds no JSON object: copy it again.")
    return config


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
