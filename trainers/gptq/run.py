"""``trainers gptq``: block after block, each loaded, calibrated, quantised and put away before the next one is touched.

Within a block the linear layers are taken in the order they run, and each sees the inputs that its already quantised predecessors
give it (true-sequential). What a block has become is kept in a folder beside the output until all is written, so a killed command
goes on with the next block; the calibration inputs are computed anew from the blocks already done, to the same bits.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from modelkit import atomic, checkpoint
from modelkit.checkpoint import StageInfo
from modelkit.context import longest_sequence
from modelkit.errors import ModelError, UserError
from modelkit.fingerprint import fingerprint, sha256_of_text
from modelkit.gptq.layer import always_dequantise
from modelkit.gptq.load import OFFSETS, fill, linear_shape, quantisation_of, skeleton
from modelkit.gptq.packing import CODES_PER_PACK, Packed, unpack_zeros
from modelkit.run import Stage, run_of
from modelkit.weights import Weights
from trainers.data.dataset import Counts
from trainers.gptq import export
from trainers.gptq.blocks import Blocks, Call, enter, find_blocks, groups_in_order, hessian_of, linear_layers, returns_tuple, run_block
from trainers.gptq.calibration import sequences
from trainers.gptq.solver import DAMPING, Grid, Solution, quantise, relative_error, round_to_nearest

_LONGEST = 2048
_TOLERANCE = 2e-3
_TOKENS_PER_INPUT = 16
"""Calibration tokens per input of the widest layer below which a warning is given: a Hessian of fewer fits these tokens only."""
_TITLES = {"en": "{}, {} bits", "zh": "{}（{} 位）"}


@dataclass(frozen=True)
class Settings:
    """What to quantise, how, and on what."""

    model: Path
    out: Path
    grid: Grid
    calibration: list[Path]
    samples: int = 128
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class LayerReport:
    """What became of one layer: the share of its output that is lost, rounded by GPTQ and to nearest, and why if by the latter."""

    name: str
    error: float
    nearest_error: float
    damping: float | None
    fallback: str | None = None


@dataclass
class Report:
    """What became of a model."""

    layers: list[LayerReport] = field(default_factory=list)
    dense: list[str] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    bytes_before: int = 0
    bytes_after: int = 0
    resumed_blocks: int = 0
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True)
class At:
    """Where the work stands, for whoever shows it."""

    block: int
    blocks: int
    layer: LayerReport | None = None


def run(settings: Settings, watch: Callable[[At], None] = lambda at: None, say: Callable[[str], None] = print) -> Report:
    """Quantise a checkpoint and write it to ``settings.out``, checked by loading it again.

    :raises UserError: for settings that don't fit together, data without a usable row, or a checkpoint that can't be quantised.
    """
    started = time.time()
    source, partial = settings.model, settings.out.with_name(f"{settings.out.name}.partial")
    config = checkpoint.check(source)
    _refuse(settings, config)
    tokenizer = checkpoint.load_tokenizer(source)
    report = Report()
    length = min(_LONGEST, longest_sequence(config) or _LONGEST)
    samples = sequences(settings.calibration, tokenizer, settings.samples, length, settings.seed, report.counts)
    report.tokens = sum(map(len, samples))
    widest = max(config.get(name) or 0 for name in ("intermediate_size", "ffn_dim", "n_inner", "hidden_size", "n_embd"))
    if report.tokens < _TOKENS_PER_INPUT * widest:
        say(f"warning: {report.tokens:,} calibration tokens are few for layers of {widest:,} inputs: raise --samples")

    loader: Any = AutoModelForSequenceClassification if checkpoint.is_reward_model(source) else AutoModelForCausalLM
    worker = _Worker(settings, skeleton(source, loader, torch.float32, settings.device), Weights(source), report)
    _open_partial(partial, settings, samples, say)
    watch(At(0, len(worker.blocks)))
    for i in range(len(worker.blocks)):
        file = partial / f"block-{i:05d}.safetensors"
        done = _read_block(file)
        if i == 0:
            worker.start(samples)
        if done is None:
            for layer in worker.quantise_block(i, file):
                watch(At(i, len(worker.blocks), layer))
        else:
            worker.take_block(i, *done)
            report.resumed_blocks += 1
        worker.finish_block(i)
        watch(At(i + 1, len(worker.blocks)))
    parts = [worker.save_rest(partial / "rest.safetensors"), *sorted(partial.glob("block-*.safetensors"))]

    report.bytes_before = sum(file.stat().st_size for file in source.glob("*.safetensors"))
    report.seconds = time.time() - started
    with atomic.directory(settings.out) as folder:
        quantisation = export.quantise_config(settings.grid, DAMPING[0], report.dense)
        export.write(folder, source, parts, config, quantisation)
        stage = _stage(settings, report).model_dump()
        (folder / "stage.json").write_text(json.dumps(stage, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        _check_by_loading(folder, samples[0], worker.hidden[0], settings)
    report.bytes_after = sum(file.stat().st_size for file in settings.out.glob("*.safetensors"))
    shutil.rmtree(partial)
    _show_in_run(settings)
    return report


class _Worker:
    """The model being taken through, one block in memory at a time, and the calibration sequences' hidden states."""

    def __init__(self, settings: Settings, model: PreTrainedModel, weights: Weights, report: Report) -> None:
        self.settings, self.model, self.weights, self.report = settings, model.eval(), weights, report
        self.blocks: Blocks = find_blocks(model)
        self.hidden: list[torch.Tensor] = []
        self._calls: dict[int, list[Call]] = {}

    def start(self, samples: list[list[int]]) -> None:
        """Load all that isn't a block, and take every sequence to the first block."""
        fill(self.model, self.weights, self.model.base_model_prefix, self.settings.device, without=self.blocks.path)
        self.model.tie_weights()
        self._round({name: value for name, value in self.model.named_parameters() if not value.is_meta})
        self._load_block(0)
        as_tuple = returns_tuple(self.model, self.blocks, self._ids(samples[0][:8]))
        for ids in samples:
            hidden, calls = enter(self.model, self.blocks, self._ids(ids), as_tuple)
            self.hidden.append(hidden)
            self._calls.setdefault(len(ids), calls)

    def quantise_block(self, i: int, file: Path) -> Iterator[LayerReport]:
        """Quantise the block's layers in running order, telling of each, and write the block to *file* in the end.

        Their dequantised weights stay in the block.
        """
        path, block = self._load_block(i)
        layers = linear_layers(block)
        tensors: dict[str, torch.Tensor] = {}
        reports = []
        for group in groups_in_order(block, self.hidden[0], self._call(0, i)):
            chosen = [name for name in group if self._fits(layers[name])]
            if not chosen:
                continue
            inputs, _ = linear_shape(layers[chosen[0]]) or (0, 0)
            sequences_in = ((hidden, self._call(j, i)) for j, hidden in enumerate(self.hidden))
            hessian = hessian_of(layers[chosen[0]], block, inputs, sequences_in)
            for name in chosen:
                solution, layer_report = _solve(f"{path}.{name}", _weight(layers[name]), hessian, self.settings.grid)
                packed = export.packed(solution, self.settings.grid.bits)
                tensors |= export.tensors_of(f"{path}.{name}", packed, self.settings.grid, getattr(layers[name], "bias", None))
                _set_weight(layers[name], solution.weight())
                reports.append(layer_report)
                yield layer_report
        quantised = {key.rpartition(".")[0] for key in tensors if key.endswith(".qweight")}
        dense = {f"{path}.{name}": value for name, value in block.named_parameters()}
        tensors |= {name: value.half() for name, value in dense.items() if name.rpartition(".")[0] not in quantised}
        left = [f"{path}.{name}" for name in layers if f"{path}.{name}" not in quantised]
        notes = {"layers": json.dumps([asdict(entry) for entry in reports]), "dense": json.dumps(left)}
        beside = file.with_suffix(".tmp")
        with atomic.os_errors(file):
            save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, beside, metadata=notes)
        beside.replace(file)
        self.report.layers += reports
        self.report.dense += left

    def take_block(self, i: int, tensors: dict[str, torch.Tensor], notes: dict[str, str]) -> None:
        """Put a block that an earlier start has quantised in its place."""
        path, block = self._load_block(i)
        bits, offset = self.settings.grid.bits, OFFSETS[export.checkpoint_format(self.settings.grid)]
        for name, layer in linear_layers(block).items():
            full = f"{path}.{name}"
            if f"{full}.qweight" in tensors:
                zeros = unpack_zeros(tensors[f"{full}.qzeros"], bits, offset)
                packed = Packed(bits, tensors[f"{full}.qweight"], tensors[f"{full}.scales"], zeros, tensors[f"{full}.g_idx"])
                _set_weight(layer, packed.dequantise())
        self.report.layers += [LayerReport(**entry) for entry in json.loads(notes["layers"])]
        self.report.dense += json.loads(notes["dense"])

    def finish_block(self, i: int) -> None:
        """Take every sequence through the block and forget the block's weights."""
        block = self.blocks.modules[i]
        self.hidden = [run_block(block, hidden, self._call(j, i)) for j, hidden in enumerate(self.hidden)]
        block.to("meta")

    def save_rest(self, file: Path) -> Path:
        """Write everything outside the blocks, in 16 bits."""
        tensors = {}
        for name, value in self.model.named_parameters():
            if not value.is_meta:
                source = self.weights.find(name, self.model.base_model_prefix) or name
                kept = name if source.endswith(name) or name.endswith(source) else source
                tensors[kept] = value.half().contiguous().cpu()
        with atomic.os_errors(file):
            save_file(tensors, file)
        return file

    def _load_block(self, i: int) -> tuple[str, nn.Module]:
        """Read a block in fp32: the weights to be quantised as they are, the rest as it will be exported."""
        path, block = self.blocks.named(i)
        fill(block, self.weights, self.model.base_model_prefix, self.settings.device, path)
        kept = {id(layer.weight) for layer in linear_layers(block).values() if self._fits(layer)}
        self._round({f"{path}.{name}": value for name, value in block.named_parameters() if id(value) not in kept})
        return path, block

    def _round(self, parameters: dict[str, nn.Parameter]) -> None:
        for name, value in parameters.items():
            value.data = value.data.half().float()
            if not bool(torch.isfinite(value).all()):
                raise ModelError(f"{name} of {self.settings.model} has values that fp16, the format's dtype, can't hold.")

    def _fits(self, layer: nn.Module) -> bool:
        """Whether a layer's shape can be packed; others stay in 16 bits."""
        shape = linear_shape(layer)
        return shape is not None and all(size % CODES_PER_PACK == 0 for size in shape)

    def _call(self, sample: int, block: int) -> Call:
        return self._calls[self.hidden[sample].shape[1]][block]

    def _ids(self, ids: list[int]) -> torch.Tensor:
        return torch.tensor([ids], device=self.settings.device)


def _solve(name: str, weight: torch.Tensor, hessian: torch.Tensor, grid: Grid) -> tuple[Solution, LayerReport]:
    """GPTQ, or rounding to nearest where that is better or GPTQ can't be done."""
    nearest = round_to_nearest(weight, grid)
    nearest_error = relative_error(weight, nearest.weight(), hessian)
    if not bool(hessian.any()):
        return nearest, LayerReport(name, 0.0, 0.0, None, "no calibration token reached it")
    try:
        solution = quantise(weight, hessian, grid)
    except ValueError as problem:
        return nearest, LayerReport(name, nearest_error, nearest_error, None, str(problem))
    error = relative_error(weight, solution.weight(), hessian)
    if not error <= nearest_error:
        return nearest, LayerReport(name, nearest_error, nearest_error, None, f"GPTQ would lose more ({error:.2%})")
    return solution, LayerReport(name, error, nearest_error, solution.damping)


def _weight(layer: nn.Module) -> torch.Tensor:
    """The layer's weight as [outputs, inputs]; GPT-2's ``Conv1D`` keeps it the other way round."""
    weight: torch.Tensor = layer.get_parameter("weight").data
    return weight if isinstance(layer, nn.Linear) else weight.T.contiguous()


def _set_weight(layer: nn.Module, weight: torch.Tensor) -> None:
    parameter = layer.get_parameter("weight")
    parameter.data = (weight if isinstance(layer, nn.Linear) else weight.T.contiguous()).to(parameter.device)


def _refuse(settings: Settings, config: dict[str, Any]) -> None:
    if settings.out.exists():
        raise UserError(f"{settings.out} is there already: choose another --out, or remove it.")
    if quantisation_of(settings.model, config) is not None:
        raise UserError(f"{settings.model} is quantised already: start from the checkpoint it was made from.")
    for file in settings.calibration:
        if not file.is_file():
            raise UserError(f"there is no calibration file at {file}.")


def _open_partial(folder: Path, settings: Settings, samples: list[list[int]], say: Callable[[str], None]) -> None:
    """Make the folder of finished blocks, or go on with it where it was made by the same command on the same files."""
    wanted = {"model": fingerprint(settings.model), "grid": asdict(settings.grid), "samples": sha256_of_text(json.dumps(samples))}
    notes = folder / "settings.json"
    if folder.exists():
        found = json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() else None
        if found == wanted:
            return
        say(f"{folder} holds blocks of another model, other data or other settings: starting over")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    atomic.write_json(notes, wanted)


def _read_block(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]] | None:
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata()  # noqa: SIM118
    except SafetensorError:
        return None


def _show_in_run(settings: Settings) -> None:
    """Name the result in ``run.json`` when it lies beside the stage of a run that it was made from."""
    run = run_of(settings.out)
    model = settings.model.resolve()
    source = next((stage for stage in run.info.stages if run.checkpoint(stage.name).resolve() == model), None) if run else None
    if run and source:
        title = {language: _TITLES[language].format(source.title.get(language) or source.name, settings.grid.bits) for language in _TITLES}
        run.with_stage(Stage(name=settings.out.name, kind=source.kind, title=title, copy_of=source.name))


def _stage(settings: Settings, report: Report) -> StageInfo:
    errors = [layer.error for layer in report.layers]
    nearest = [layer.nearest_error for layer in report.layers]
    return StageInfo(
        stage="gptq",
        parent=os.path.relpath(settings.model.resolve(), settings.out.resolve()),
        data=report.counts.sources,
        tokens=report.tokens,
        seconds=round(report.seconds, 2),
        metrics={
            "bits": settings.grid.bits,
            "layer_error": sum(errors) / max(1, len(errors)),
            "layer_error_nearest": sum(nearest) / max(1, len(nearest)),
        },
    )


@torch.no_grad()
def _check_by_loading(folder: Path, ids: list[int], expected: torch.Tensor, settings: Settings) -> None:
    """Load what was written, and compare what leaves its last block with what left it while quantising.

    :raises ModelError: when they differ: a defect in writing or reading, so nothing is kept.
    """
    kind = "reward" if checkpoint.is_reward_model(folder) else "language"
    model = checkpoint.load_model(folder, kind, torch.float32, settings.device)  # type: ignore[arg-type]
    always_dequantise(model)
    seen: list[torch.Tensor] = []
    blocks = find_blocks(model)
    hook = blocks.modules[-1].register_forward_hook(lambda _m, _i, output: seen.append(output[0] if isinstance(output, tuple) else output))
    model.base_model(input_ids=torch.tensor([ids], device=settings.device), use_cache=False)
    hook.remove()
    difference = float((seen[0] - expected).abs().max() / expected.abs().max())
    if not difference < _TOLERANCE:
        raise ModelError(f"the written checkpoint answers otherwise than the quantised model (by {difference:.1e}); nothing was kept.")
