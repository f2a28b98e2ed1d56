from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from modelkit import checkpoint
from modelkit.checkpoint import StageInfo
from modelkit.errors import ModelError, UserError
from modelkit.generation.engine import Engine
from modelkit.generation.requests import Request
from modelkit.generation.sampling import Sampling
from modelkit.run import Run, Stage
from playground.models import Loaded, LoadedReward, Models
from playground.settings import engine_limits
from tests.playground import fake_run
from tests.playground.conftest import wait_until


def rescanned(models: Models) -> list[str]:
    models._scanned = float("-inf")
    return [entry.id for entry in models.catalogue()]


def test_checkpoints_appear_as_they_are_written_and_the_critic_never_does(tmp_path: Path) -> None:
    run = tmp_path / "pocket"
    fake_run.create(run)
    models = Models([tmp_path], 1 << 30)
    assert rescanned(models) == []
    seen = []
    for stage in fake_run.STAGES:
        fake_run.write_checkpoint(run, stage)
        seen.append(rescanned(models))
    names = ["pocket/base", "pocket/sft", "pocket/rm", "pocket/rl"]
    assert seen == [names[:1], names[:2], names[:3], names[:3], names]


def test_the_first_columns_are_base_sft_reward_model_and_rl(models: Models) -> None:
    assert models.defaults() == ["pocket/base", "pocket/sft", "pocket/rm", "pocket/rl"]


def test_a_copy_in_4_bits_is_offered_and_stands_for_nothing(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "pocket"
    shutil.copytree(finished_run, run)
    for name, kind in (("rl", "rl"), ("rm", "reward")):
        shutil.copytree(run / name, run / f"{name}-gptq4")
        Run.open(run).with_stage(Stage(name=f"{name}-gptq4", kind=kind, title={"en": "4 bits"}, copy_of=name))
    models = Models([tmp_path], 1)
    assert [entry.id for entry in models.catalogue()][-2:] == ["pocket/rl-gptq4", "pocket/rm-gptq4"]
    assert models.defaults() == ["pocket/base", "pocket/sft", "pocket/rm", "pocket/rl"]
    judge = models.sibling(models.entry("pocket/rl-gptq4"), "reward")
    assert judge is not None
    assert judge.id == "pocket/rm"


def test_an_id_that_is_not_offered_is_refused(models: Models) -> None:
    for name in ("pocket/critic", "../pocket/base", "/etc", "pocket/base/../sft", ""):
        with pytest.raises(UserError, match="not in the list"):
            models.entry(name)


def test_titles_name_the_run_only_where_there_are_several(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "one")
    assert Models([tmp_path], 1).catalogue()[2].title("zh") == "奖励模型"
    shutil.copytree(finished_run, tmp_path / "two")
    assert Models([tmp_path], 1).catalogue()[0].title("en") == "pocket · Base"


def test_a_model_is_loaded_once_and_again_when_rewritten(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "pocket"
    shutil.copytree(finished_run, run)
    models = Models([tmp_path], 1 << 30)
    entry = models.entry("pocket/sft")
    first = models.language(entry)
    assert models.language(entry) is first
    os.utime(run / "sft" / "config.json", ns=(1, 1))
    assert models.language(entry) is not first


def test_the_least_recently_used_model_leaves_when_memory_is_short(finished_run: Path) -> None:
    size = (finished_run / "sft" / "model.safetensors").stat().st_size
    models = Models([finished_run.parent], int(size * 2.5))
    base, sft, rl = (models.entry(f"pocket/{name}") for name in ("base", "sft", "rl"))
    kept, left = models.language(base), models.language(sft)
    models.language(base)
    models.language(rl)
    assert models.language(base) is kept
    assert models.language(sft) is not left


def test_a_model_larger_than_the_budget_is_refused_in_a_sentence(finished_run: Path) -> None:
    models = Models([finished_run.parent], 1000)
    with pytest.raises(UserError, match="more than the 0 MiB"):
        models.language(models.entry("pocket/base"))


def test_weights_count_in_the_dtype_they_are_loaded_in_not_as_the_file_has_them(finished_run: Path, tmp_path: Path) -> None:
    checkpoint.save(
        checkpoint.load_model(finished_run / "sft", dtype=torch.float16),
        checkpoint.load_tokenizer(finished_run / "sft"),
        tmp_path / "half",
        StageInfo(stage="sft"),
    )
    budget = int(1.2 * (tmp_path / "half" / "model.safetensors").stat().st_size)
    as_usual = Models([], budget, checkpoints=[tmp_path / "half"])
    with pytest.raises(ModelError, match="choose a smaller one"):
        as_usual.language(as_usual.entry("half"))
    in_16_bits = Models([], budget, checkpoints=[finished_run / "sft"], dtype=torch.bfloat16)
    assert in_16_bits.language(in_16_bits.entry("pocket/sft")).model.dtype == torch.bfloat16


def test_keys_and_values_that_a_model_keeps_count_as_well(finished_run: Path) -> None:
    size = (finished_run / "sft" / "model.safetensors").stat().st_size
    models = Models([finished_run.parent], 2 * size + 1000)
    base = models.language(models.entry("pocket/base"))
    assert base.engine.submit(Request(list(range(5, 40)), Sampling(max_tokens=3))).samples()[0].finish
    assert base.engine.bytes > 1000
    models.language(models.entry("pocket/sft"))
    assert list(models.loaded()) == ["pocket/sft"]
    models.close()


def test_memory_that_runs_out_while_loading_is_a_sentence_and_the_next_try_may_succeed(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(model: object) -> None:
        raise torch.OutOfMemoryError

    entry = models.entry("pocket/sft")
    with monkeypatch.context() as patched:
        patched.setattr("modelkit.linear.pack", short)
        with pytest.raises(ModelError, match="memory ran out while loading pocket/sft"):
            models.language(entry)
    assert models.loaded() == {}
    assert models.language(entry)


def test_models_can_be_asked_for_while_room_is_made_for_another(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models([finished_run.parent], 1 << 30)
    base, sft, rl = (models.entry(f"pocket/{name}") for name in ("base", "sft", "rl"))
    kept = [models.language(entry) for entry in (base, sft)]

    def asked_for_meanwhile(engine: Engine) -> int:
        assert models.language(base) is kept[0]
        return 0

    monkeypatch.setattr(Engine, "bytes", property(asked_for_meanwhile))
    assert models.language(rl) not in kept
    models.close()


def test_engines_get_the_limits_they_are_given(finished_run: Path) -> None:
    models = Models([finished_run.parent], 1 << 30, limits=engine_limits(None, 2))
    engine = models.language(models.entry("pocket/sft")).engine
    with pytest.raises(UserError, match="from 1 to 2 are possible"):
        engine.submit(Request([5, 6], n=3))
    models.close()


def test_a_model_nobody_uses_is_put_away_and_comes_back_when_asked_for(finished_run: Path) -> None:
    models = Models([finished_run.parent], 1 << 30, idle_seconds=0.2)
    entry = models.entry("pocket/sft")
    first = models.language(entry)
    assert first.engine.submit(Request([5, 6], Sampling(max_tokens=3))).samples()[0].finish
    wait_until(lambda: not models.loaded())
    again = models.language(entry)
    assert again is not first
    assert again.engine.submit(Request([5, 6], Sampling(max_tokens=3))).samples()[0].finish
    models.close()


def test_a_checkpoint_named_by_itself_stays_however_long_it_is_unused(finished_run: Path) -> None:
    models = Models([finished_run.parent], 1 << 30, idle_seconds=0.2, checkpoints=[finished_run / "sft"])
    for name in ("sft", "rl"):
        engine = models.language(models.entry(f"pocket/{name}")).engine
        assert engine.submit(Request([5, 6], Sampling(max_tokens=3))).samples()[0].finish
    wait_until(lambda: list(models.loaded()) == ["pocket/sft"])
    models.close()


def test_a_model_put_away_at_work_finishes_what_it_writes(finished_run: Path) -> None:
    size = (finished_run / "sft" / "model.safetensors").stat().st_size
    models = Models([finished_run.parent], int(size * 1.5))
    reply = models.language(models.entry("pocket/sft")).engine.submit(Request([5, 6], Sampling(max_tokens=100)))
    models.language(models.entry("pocket/base"))
    assert list(models.loaded()) == ["pocket/base"]
    [sample] = reply.samples()
    assert sample.finish in ("stop", "length")
    models.close()


def test_a_checkpoint_that_vanishes_is_a_sentence(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "pocket")
    models = Models([tmp_path], 1 << 30)
    entry = models.entry("pocket/sft")
    models.language(entry)
    shutil.rmtree(tmp_path / "pocket" / "sft")
    with pytest.raises(UserError, match="gone from the disk"):
        models.language(entry)
    models.close()


def test_a_reward_model_comes_with_its_reference_and_cannot_talk(models: Models) -> None:
    entry = models.entry("pocket/rm")
    judge = models.reward(models.entry("pocket/rl"))
    assert isinstance(judge, LoadedReward)
    assert judge.reference is not None
    assert judge.reference.percentile(10.0) == 100.0
    with pytest.raises(UserError, match="can't write"):
        models.language(entry)
    assert isinstance(models.language(models.entry("pocket/base")), Loaded)


def test_a_run_without_reward_model_has_no_judge(tmp_path: Path) -> None:
    fake_run.create(tmp_path / "pocket")
    fake_run.write_checkpoint(tmp_path / "pocket", fake_run.STAGES[0])
    models = Models([tmp_path], 1 << 30)
    assert models.reward(models.entry("pocket/base")) is None
