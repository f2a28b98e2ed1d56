"""Every stage by itself: what the commands make, that they go on and refuse, and that bad input gets one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from modelkit import checkpoint, hub
from modelkit.checkpoint import StageInfo
from modelkit.errors import UserError
from modelkit.fingerprint import sha256_of_file
from modelkit.run import Run
from tests.trainers.conftest import World
from trainers.cli import app
from trainers.reading import load_section
from trainers.recipe import PpoStage, SftStage
from trainers.reward import from_language_model

FEW = ["steps=2", "tokens=200"]
LEARN = ["lr=1.0e-3"]
ENDLESS = "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
"""A chat template that never says where a turn ends."""


def call(command: str, *arguments: str | Path, settings: Sequence[str] = ()) -> Result:
    options = [word for setting in settings for word in ("--set", setting)]
    threads = [] if command == "merge" else ["--threads", "1"]
    return CliRunner().invoke(app, [command, *map(str, arguments), *threads, *options])


def made(command: str, *arguments: str | Path, settings: Sequence[str] = (*FEW, *LEARN)) -> str:
    done = call(command, *arguments, settings=settings)
    assert done.exit_code == 0, done.output
    return done.output


def refused(says: str, command: str, *arguments: str | Path, settings: Sequence[str] = (*FEW, *LEARN)) -> None:
    done = call(command, *arguments, settings=settings)
    assert done.exit_code not in (0, 1), done.output
    (line,) = [line for line in done.output.splitlines() if line.startswith("error: ")]
    assert says in line
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_the_stages_one_by_one_make_a_run_with_and_without_adapters(place: Path) -> None:
    data, plain, thin = place / "data", place / "plain", place / "thin"
    for out, more in ((plain, []), (thin, ["lora.rank=2", "gradient_checkpointing=true"])):
        settings = [*FEW, *LEARN, *more]
        said = made("sft", "-m", place / "base", "--data", data / "sft.jsonl", "--out", out, settings=[*settings, "neftune=5"])
        assert "neftune: 5.0" in said, "every resolved setting is printed"
        assert "weight_decay: 0.0" in said
        assert "max_length: null" in said
        assert "rows have 128 tokens at most" in said
        assert "dropped 0" in said
        made("rm", "-m", out / "sft", "--data", data / "pairs.jsonl", "--out", out, settings=[*settings, "reference_prompts=4"])
        rl = [*settings, "prompts=4", "max_tokens=6", "data=[{path: prompts.jsonl}]", "ptx=[{path: sft.jsonl}]"]
        made("ppo", "-m", out / "sft", "--reward", out / "rm", "--data", data, "--out", out, settings=rl)
        made("dpo", "-m", out / "sft", "--data", data / "pairs.jsonl", "--out", out, settings=settings)
        made("kto", "-m", out / "sft", "--data", data / "pairs.jsonl", "--out", out, settings=settings)
        rules = [*settings, "prompts=3", "samples=2", "max_tokens=6", "rewards=[{name: brief}, {name: reward_model}]"]
        made("grpo", "-m", out / "sft", "--reward", out / "rm", "--data", data / "prompts.jsonl", "--out", out, settings=rules)
        run = Run.open(out)
        assert [stage.name for stage in run.info.stages] == ["sft", "rm", "critic", "rl", "dpo", "kto", "grpo"]
        for name in ("sft", "rl", "dpo", "kto", "grpo"):
            info = checkpoint.read_stage(out / name)
            assert info is not None
            assert info.stage == name
            checkpoint.load_model(out / name)
        checkpoint.load_model(out / "critic", "reward")
    assert checkpoint.read_stage(thin / "rl").parent == "../sft"  # type: ignore[union-attr]
    assert not (thin / "rl" / "model.safetensors").exists()
    made("merge", "-m", thin / "rl", "--out", place / "merged", settings=[])
    ids = torch.arange(12)[None]
    with torch.inference_mode():
        difference = checkpoint.load_model(thin / "rl")(ids).logits - checkpoint.load_model(place / "merged")(ids).logits
    assert float(difference.abs().max()) < 1e-5


def test_one_backbone_takes_adapters_that_start_at_nothing() -> None:
    with pytest.raises(UserError, match="leave lora.init out"):
        load_section(PpoStage, None, ["data=[]", "steps=1", "lr=1", "share_backbone=true", "lora.init=pissa"], {})


def test_one_backbone_with_two_adapters_is_a_command_away_and_its_seed_decides_them(place: Path) -> None:
    out = place / "shared"
    made("sft", "-m", place / "base", "--data", place / "data" / "sft.jsonl", "--out", out)
    made("rm", "-m", out / "sft", "--data", place / "data" / "pairs.jsonl", "--out", out, settings=[*FEW, *LEARN, "reference_prompts=4"])
    rl = [*FEW, *LEARN, "prompts=4", "max_tokens=6", "lora.rank=2", "share_backbone=true"]
    for attempt, drawn_before in ((out, 1), (place / "again", 2)):
        torch.manual_seed(drawn_before)
        data = place / "data" / "prompts.jsonl"
        made("ppo", "-m", out / "sft", "--reward", out / "rm", "--data", data, "--out", attempt, settings=rl)
    checkpoint.load_model(out / "critic", "reward")
    first, second = (sha256_of_file(path / "rl" / "model.safetensors") for path in (out, place / "again"))
    assert first == second


def test_pretraining_starts_from_nothing_or_from_a_checkpoint(place: Path) -> None:
    shape = [
        "shape.hidden_size=32",
        "shape.intermediate_size=32",
        "shape.layers=1",
        "shape.heads=2",
        "shape.kv_heads=2",
        "shape.context=64",
    ]
    text, out = place / "data" / "text.jsonl", place / "pretrained"
    made("pretrain", "--tokenizer", place / "base", "--data", text, "--out", out, settings=[*FEW, *LEARN, *shape])
    assert checkpoint.load_model(out / "base").config.num_hidden_layers == 1
    made("pretrain", "-m", out / "base", "--data", text, "--out", place / "further")
    assert checkpoint.read_stage(place / "further" / "base").parent is not None  # type: ignore[union-attr]
    refused("give one of both", "pretrain", "--data", text, "--out", place / "x")
    refused("give one of both", "pretrain", "-m", place / "base", "--tokenizer", place / "base", "--data", text, "--out", place / "x")


def test_a_command_given_again_goes_on_or_finds_its_work_done(place: Path) -> None:
    data, whole, parts = place / "data" / "sft.jsonl", place / "whole", place / "parts"
    settings = ["steps=6", "tokens=200", "save_every=2", *LEARN]
    made("sft", "-m", place / "base", "--data", data, "--out", whole, settings=settings)
    before = sha256_of_file(whole / "sft" / "model.safetensors")
    assert "is there already" in made("sft", "-m", place / "base", "--data", data, "--out", whole, settings=settings)
    made("sft", "-m", place / "base", "--data", data, "--out", parts, settings=settings)
    (parts / "sft").rename(parts / "gone")
    assert (parts / "state" / "sft" / "step-000004").is_dir()
    made("sft", "-m", place / "base", "--data", data, "--out", parts, settings=settings)
    assert sha256_of_file(parts / "sft" / "model.safetensors") == before
    refused("made with other settings, data or checkpoints", "sft", "-m", place / "base", "--data", data, "--out", whole)
    refused("made with other settings", "sft", "-m", whole / "sft", "--data", data, "--out", whole, settings=settings)


def test_another_unfinished_stage_is_not_gone_on_with(place: Path) -> None:
    data, out = place / "data" / "sft.jsonl", place / "half"
    made("sft", "-m", place / "base", "--data", data, "--out", out, settings=["steps=3", "tokens=200", "save_every=2", *LEARN])
    (out / "sft").rename(out / "gone")
    refused("choose another --out", "sft", "-m", place / "base", "--data", data, "--out", out, settings=["steps=3", *LEARN])


def test_bad_input_gets_one_sentence(place: Path, world: World, tmp_path: Path) -> None:
    base, data, out = place / "base", place / "data" / "sft.jsonl", tmp_path / "out"
    config = tmp_path / "sft.yaml"
    config.write_text("stesp: 3\nlr: 0.1\n", encoding="utf-8")
    refused(
        f"{config}: stesp is no setting: did you mean steps?",
        "sft",
        "-m",
        base,
        "--data",
        data,
        "--out",
        out,
        "--config",
        config,
        settings=[],
    )
    refused(
        "lora.rnak is no setting: did you mean rank?",
        "sft",
        "-m",
        base,
        "--data",
        data,
        "--out",
        out,
        settings=[*FEW, *LEARN, "lora.rnak=3"],
    )
    refused(f"there is no settings file at {tmp_path / 'none.yaml'}", "sft", "-m", base, "--out", out, "--config", tmp_path / "none.yaml")
    refused("steps is missing", "sft", "-m", base, "--data", data, "--out", out, settings=LEARN)
    refused("there is no data to train sft on", "sft", "-m", base, "--out", out)
    refused(f"{data.parent} is a folder: name one of its files", "sft", "-m", base, "--data", data.parent, "--out", out)
    refused("is a folder, where a file is needed", "sft", "-m", base, "--data", data, "--out", out, "--config", tmp_path)
    refused("is there already, and is no folder", "sft", "-m", base, "--data", data, "--out", config)
    refused(
        "max_length is 4096, and the model was made for 128",
        "sft",
        "-m",
        base,
        "--data",
        data,
        "--out",
        out,
        settings=[*FEW, *LEARN, "max_length=4096"],
    )
    refused("set eval_every", "sft", "-m", base, "--data", data, "--out", out, settings=[*FEW, *LEARN, "keep_best=true"])
    refused("there is no data file or folder", "sft", "-m", base, "--data", tmp_path / "none.jsonl", "--out", out)
    refused("there is no checkpoint at", "sft", "-m", tmp_path / "none", "--data", data, "--out", out)
    refused("the value is not valid YAML", "sft", "-m", base, "--data", data, "--out", out, settings=["data=[{"])
    rules = [*FEW, *LEARN, "rewards=[{name: breif}]"]
    refused("there is no reward called 'breif'", "grpo", "-m", base, "--data", data, "--out", out, settings=rules)
    judged = [*FEW, *LEARN, "rewards=[{name: reward_model}]"]
    refused("give its checkpoint with --reward", "grpo", "-m", base, "--data", data, "--out", out, settings=judged)
    refused("is a language model", "ppo", "-m", base, "--reward", base, "--data", data, "--out", out)
    assert not (out / "sft").exists()


def test_a_run_named_as_a_checkpoint_is_told_from_one(place: Path, tmp_path: Path) -> None:
    data, out = place / "data" / "sft.jsonl", tmp_path / "run"
    made("sft", "-m", place / "base", "--data", data, "--out", out)
    refused(f"is a run: name one of its checkpoints, such as {out / 'sft'}", "dpo", "-m", out, "--data", data, "--out", tmp_path / "x")


def test_a_first_attempt_that_failed_does_not_stand_in_the_way(place: Path, tmp_path: Path) -> None:
    out, rows = (
        tmp_path / "run",
        [{"messages": []}, {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}],
    )
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    refused("no usable sft row", "sft", "-m", place / "base", "--data", file, "--out", out)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    refused("rows.jsonl:1", "sft", "-m", place / "base", "--data", file, "--out", out, "--strict")
    assert "used 1 · bad 1" in made("sft", "-m", place / "base", "--data", file, "--out", out, settings=["steps=1", "tokens=9", *LEARN])


def test_data_that_changed_is_neither_gone_on_with_nor_taken_for_done(place: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "sft.jsonl", tmp_path / "run"
    lines = (place / "data" / "sft.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    data.write_text("".join(lines), encoding="utf-8")
    words: list[str | Path] = ["sft", "-m", place / "base", "--data", data, "--out", out]
    settings = ["steps=3", "tokens=200", "save_every=2", *LEARN]
    made(*words, settings=settings)  # type: ignore[arg-type]
    data.write_text("".join(lines[1:]), encoding="utf-8")
    refused(f"{data} has changed since {out / 'sft'} was made of it", *words, settings=settings)  # type: ignore[arg-type]
    (out / "sft").rename(out / "gone")
    refused(f"sft.jsonl has changed since {out / 'sft'} was begun", *words, settings=settings)  # type: ignore[arg-type]
    data.write_text("".join(lines), encoding="utf-8")
    made(*words, settings=settings)  # type: ignore[arg-type]


def test_rows_are_turned_into_tokens_once_for_all_stages_of_a_run(place: Path, tmp_path: Path) -> None:
    pairs, out = place / "data" / "pairs.jsonl", tmp_path / "run"
    made("rm", "-m", place / "base", "--data", pairs, "--out", out, settings=[*FEW, *LEARN, "reference_prompts=4"])
    (cached,) = (out / "state" / "tokens").iterdir()
    before = cached.stat().st_mtime_ns
    made("dpo", "-m", place / "base", "--data", pairs, "--out", out)
    assert [file.stat().st_mtime_ns for file in (out / "state" / "tokens").iterdir()] == [before]


def test_rows_can_be_kept_shorter_than_the_models_context(place: Path, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "Why? " * n}, {"role": "assistant", "content": "So."}]} for n in (2, 20)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out, settings = tmp_path / "run", ["steps=1", "tokens=9", "max_length=32", *LEARN]
    assert "used 1 · bad 0 · dropped 1" in made("sft", "-m", place / "base", "--data", file, "--out", out, settings=settings)


def test_the_last_lines_say_where_the_checkpoint_is_and_what_to_do_with_it(place: Path, tmp_path: Path) -> None:
    said = made("sft", "-m", place / "base", "--data", place / "data" / "sft.jsonl", "--out", tmp_path / "run")
    assert said.splitlines()[-2] == f"made {tmp_path / 'run' / 'sft'}"
    assert said.splitlines()[-1].startswith(f"next: trainers rm -m {tmp_path / 'run' / 'sft'} ")


def test_models_may_be_named_as_on_the_hub(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = tmp_path / "models--someone--small" / "snapshots" / "0123"
    shutil.copytree(place / "base", cached)
    monkeypatch.setattr(hub, "find", lambda name, *rest, **more: cached if name == "someone/small" else Path(name))
    out, settings = tmp_path / "run", [*FEW, *LEARN, "lora.rank=2"]
    made("sft", "-m", "someone/small", "--data", place / "data" / "sft.jsonl", "--out", out, settings=settings)
    assert json.loads((out / "sft" / "adapter_config.json").read_text())["base_model_name_or_path"] == "someone/small"
    assert checkpoint.read_stage(out / "sft").parent == "someone/small"  # type: ignore[union-attr]
    checkpoint.load_model(out / "sft")


def test_rows_that_are_all_too_long_are_named_and_some_are_counted(place: Path, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "Why? " * n}, {"role": "assistant", "content": "So."}]} for n in (2, 400)]
    file = tmp_path / "long.jsonl"
    file.write_text(json.dumps(rows[1]) + "\n", encoding="utf-8")
    refused("context of 128 tokens", "sft", "-m", place / "base", "--data", file, "--out", tmp_path / "out")
    file.write_text("".join(json.dumps(row) + "\n" for row in (rows[0], rows[0], rows[1])), encoding="utf-8")
    assert "used 2 · bad 0 · dropped 1" in made("sft", "-m", place / "base", "--data", file, "--out", tmp_path / "some")


def test_tokenizers_that_cannot_be_trained_with_are_refused(place: Path, world: World, tmp_path: Path) -> None:
    data = place / "data" / "sft.jsonl"

    def with_tokenizer(name: str, **changes: str | None) -> Path:
        tokenizer = checkpoint.load_tokenizer(place / "base")
        for field, value in changes.items():
            setattr(tokenizer, field, value)
        checkpoint.save(world.model(), tokenizer, tmp_path / name, StageInfo(stage="base"))
        return tmp_path / name

    silent = with_tokenizer(
        "silent", chat_template="{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    )
    endless = with_tokenizer(
        "endless",
        chat_template=ENDLESS,
    )
    nameless = with_tokenizer("nameless", eos_token=None)
    for path, says in ((silent, "assistant"), (endless, "end-of-sequence"), (nameless, "no end-of-sequence token")):
        refused(says, "sft", "-m", path, "--data", data, "--out", tmp_path / "out")
    larger = world.model()
    larger.resize_token_embeddings(300)
    checkpoint.save(larger, world.tokenizer, tmp_path / "small", StageInfo(stage="base"))
    refused("they don't belong together", "sft", "-m", tmp_path / "small", "--data", data, "--out", tmp_path / "out")


def test_a_tokenizer_without_a_begin_of_sequence_serves(place: Path, world: World, tmp_path: Path) -> None:
    """As that of Qwen."""
    tokenizer = checkpoint.load_tokenizer(place / "base")
    tokenizer.bos_token = None
    checkpoint.save(world.model(), tokenizer, tmp_path / "base", StageInfo(stage="base"))
    for command, file in (("pretrain", "text.jsonl"), ("sft", "sft.jsonl")):
        made(command, "-m", tmp_path / "base", "--data", place / "data" / file, "--out", tmp_path / command)


def test_padding_with_the_end_token_does_not_unlearn_stopping(place: Path, world: World, tmp_path: Path) -> None:
    tokenizer = checkpoint.load_tokenizer(place / "base")
    tokenizer.pad_token = tokenizer.eos_token
    checkpoint.save(world.model(), tokenizer, tmp_path / "base", StageInfo(stage="base"))
    for base in (place / "base", tmp_path / "base"):
        made("sft", "-m", base, "--data", place / "data" / "sft.jsonl", "--out", tmp_path / f"from-{base.parent.name}")
    first, second = (sha256_of_file(path / "sft" / "model.safetensors") for path in sorted(tmp_path.glob("from-*")))
    assert first == second, "labels come from lengths, so the padding token is of no consequence"


def test_a_reward_model_of_another_vocabulary_is_refused(place: Path, tmp_path: Path, world: World) -> None:
    out = tmp_path / "run"
    made("rm", "-m", place / "base", "--data", place / "data" / "pairs.jsonl", "--out", out, settings=[*FEW, *LEARN, "reference_prompts=4"])
    file = out / "rm" / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    one, other = list(vocabulary)[-2:]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    file.write_text(json.dumps(content), encoding="utf-8")
    refused(
        "have different tokenizers",
        "ppo",
        "-m",
        place / "base",
        "--reward",
        out / "rm",
        "--data",
        place / "data" / "prompts.jsonl",
        "--out",
        out,
    )


def test_a_reward_model_with_another_chat_template_is_refused(place: Path, tmp_path: Path, world: World) -> None:
    reward = from_language_model(world.model(), world.tokenizer)
    tokenizer = checkpoint.load_tokenizer(place / "base")
    tokenizer.chat_template = str(tokenizer.chat_template).replace("<|user|>", "<|system|>") + " "
    checkpoint.save(reward, tokenizer, tmp_path / "rm", StageInfo(stage="rm"))
    words: list[str | Path] = ["-m", place / "base", "--reward", tmp_path / "rm", "--data", place / "data" / "prompts.jsonl"]
    refused("have different chat templates", "ppo", *words, "--out", tmp_path / "run")
    rules = [*FEW, *LEARN, "rewards=[{name: reward_model}]"]
    refused("copy chat_template.jinja", "grpo", *words, "--out", tmp_path / "run", settings=rules)


def test_the_folder_of_the_data_may_be_spelt_in_any_way(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place / "data")
    words: list[str | Path] = ["sft", "-m", place / "base", "--out", tmp_path / "run"]
    for spelt in ("sft.jsonl", place / "data" / "sft.jsonl"):
        said = made(*words, "--data", spelt)  # type: ignore[arg-type]
    assert "is there already" in said
    file = tmp_path / "sft.yaml"
    file.write_text(f"data: [{{path: {place / 'data' / 'sft.jsonl'}}}]\n", encoding="utf-8")
    words = ["sft", "-m", place / "base", "--config", file, "--out", tmp_path / "other"]
    for folder in (place, tmp_path):
        monkeypatch.chdir(folder)
        said = made(*words)  # type: ignore[arg-type]
    assert "is there already" in said, "without --data it doesn't matter where the command is given"


@pytest.mark.parametrize(("command", "file"), [("sft", "sft.jsonl"), ("rm", "pairs.jsonl"), ("kto", "pairs.jsonl")])
def test_rows_whose_gradient_is_not_finite_are_named_by_file_and_line(place: Path, tmp_path: Path, command: str, file: str) -> None:
    data = place / "data" / file
    far = ["steps=9", "tokens=200", "lr=1.0e+30", "warmup=0", "max_skipped=2"]
    refused(f"the last on rows {data}:", command, "-m", place / "base", "--data", data, "--out", tmp_path / "run", settings=far)
    lines = (tmp_path / "run" / "logs" / f"{command}.jsonl").read_text(encoding="utf-8").splitlines()
    (first, _) = [event for event in map(json.loads, lines) if event["event"] == "skipped"]
    assert all(row.startswith(f"{data}:") for row in first["rows"])


def test_settings_come_from_the_file_then_from_the_command_line(tmp_path: Path) -> None:
    config = tmp_path / "sft.yaml"
    config.write_text("steps: 3\nlr: 0.1\nlora: {rank: 8}\n", encoding="utf-8")
    loaded = load_section(SftStage, config, ["lr=0.2", "lora.alpha=4"], {"data": [{"path": "x.jsonl"}]})
    assert (loaded.steps, loaded.lr, loaded.data[0].path) == (3, 0.2, "x.jsonl")
    assert loaded.lora is not None
    assert (loaded.lora.rank, loaded.lora.alpha) == (8, 4.0)
    with pytest.raises(UserError, match="data.0.pth is no setting: did you mean path?"):
        load_section(PpoStage, None, ["steps=1", "lr=1", "data=[{pth: x}]"], {})
