from __future__ import annotations

import re
from pathlib import Path

from leaderboards.board import Board, make_board
from leaderboards.collect import collect
from leaderboards.views import stages
from tests.leaderboards.conftest import choice, method


def texts(board: Board) -> list[list[str]]:
    return [
        [row.name(), *(" ".join(cell.text(column)) if cell else "–" for cell, column in zip(cells, board.columns, strict=True))]
        for row, cells in zip(board.rows, board.cells, strict=True)
    ]


def test_stages_stand_in_the_run_s_order_and_the_best_of_each_column_is_marked(tmp_path: Path, make_run, write_result) -> None:
    run = make_run(tmp_path / "pocket")
    write_result(run.evaluations() / "a", {"pocket.choice": choice(0.9)}, "rl", "sha256:r")
    write_result(run.evaluations() / "b", {"pocket.choice": choice(0.25)}, "base", "sha256:b")
    write_result(run.evaluations() / "c", {"pocket.choice": choice(0.85)}, "sft", "sha256:s")

    board = make_board(collect([run.path]))

    assert board.heads() == [["pocket.choice", "perplexity", "0-shot", "n = 200", "chance 25.0 %"]]
    assert texts(board) == [
        ["pocket · BASE", "25.0 % [20.0, 30.0]"],
        ["pocket · SFT", "85.0 % ≈ [80.0, 90.0]"],
        ["pocket · RL", "90.0 % ★ [85.0, 95.0]"],
    ]
    assert [row.name("zh") for row in board.rows] == ["pocket · 基座", "pocket · 监督微调", "pocket · 强化学习"]


def test_columns_go_by_suite_and_kind_whatever_was_measured_first(tmp_path: Path, make_run, write_result) -> None:
    run = make_run(tmp_path / "pocket")
    text = {"kind": "text", "data": "sha256:t", "methods": {"rolling": method(1.2, metric="bits_per_byte")}}
    pairs = {"kind": "pairs", "data": "sha256:p", "methods": {"reward": method(0.9)}}
    answer = {"kind": "answer", "data": "sha256:q", "methods": {"generate": method(0.8, metric="exact_match")}}
    write_result(run.evaluations() / "a", {"pocket.text": text, "pocket.choice": choice(0.3)}, "base", "sha256:b")
    write_result(run.evaluations() / "b", {"mmlu@hendrycks": {**choice(0.26), "shots": 5}}, "base", "sha256:b")
    write_result(run.evaluations() / "c", {"pocket.answer": answer, "pocket.choice": choice(0.9)}, "sft", "sha256:s")
    write_result(run.evaluations() / "d", {"pocket.pairs": pairs}, "rm", "sha256:m")

    board = make_board(collect([run.path]))

    assert board.heads() == [
        ["pocket.choice", "perplexity", "0-shot", "n = 200", "chance 25.0 %"],
        ["pocket.answer", "exact match", "n = 200"],
        ["pocket.pairs", "accuracy", "n = 200", "chance 50.0 %"],
        ["pocket.text", "bits per byte", "n = 200"],
        ["mmlu@hendrycks", "perplexity", "5-shot", "n = 200", "chance 25.0 %"],
    ]


def test_fewer_bits_per_byte_are_better(tmp_path: Path, write_result) -> None:
    for name, value in (("worse", 2.5), ("better", 1.25)):
        text = {"kind": "text", "data": "sha256:t", "methods": {"rolling": method(value, metric="bits_per_byte")}}
        write_result(tmp_path / name, {"text": text}, name, f"sha256:{name}")
    assert texts(make_board(collect([tmp_path]))) == [["better", "1.250 ★ [1.200, 1.300]"], ["worse", "2.500 [2.450, 2.550]"]]


def test_a_lone_model_is_not_called_best(tmp_path: Path, write_result) -> None:
    write_result(tmp_path / "a", {"t": choice(0.5)})
    assert texts(make_board(collect([tmp_path]))) == [["sft", "50.0 % [45.0, 55.0]"]]


def test_equal_values_are_both_best(tmp_path: Path, write_result) -> None:
    write_result(tmp_path / "a", {"t": choice(0.5)}, "a", "sha256:a")
    write_result(tmp_path / "b", {"t": choice(0.5)}, "b", "sha256:b")
    assert [row[1] for row in texts(make_board(collect([tmp_path])))] == ["50.0 % ★ [45.0, 55.0]"] * 2


def test_the_result_written_last_counts_for_the_same_weights_and_settings(tmp_path: Path, write_result) -> None:
    write_result(tmp_path / "z-older", {"t": choice(0.5)})
    write_result(tmp_path / "a-newer", {"t": choice(0.6)})
    assert texts(make_board(collect([tmp_path]))) == [["sft", "60.0 % [55.0, 65.0]"]]


def test_other_settings_or_data_never_share_a_column(tmp_path: Path, write_result) -> None:
    write_result(tmp_path / "a", {"t": choice(0.5)})
    write_result(tmp_path / "b", {"t": {**choice(0.6), "shots": 5}})
    write_result(tmp_path / "c", {"t": {**choice(0.7), "data": "sha256:bbbbbbbb2"}})
    write_result(tmp_path / "d", {"t": choice(0.8, n=10)})
    write_result(tmp_path / "e", {"t": choice(0.9, subjects={"anatomy": {"n": 200, "accuracy": 0.9}})})
    board = make_board(collect([tmp_path]))
    assert [" ".join(re.sub("setting .*", "setting …", part) for part in head) for head in board.heads()] == [
        "t perplexity 0-shot n = 200 chance 25.0 % setting …",
        "t perplexity 0-shot n = 200 chance 25.0 % setting …",
        "t perplexity 0-shot n = 10 chance 25.0 %",
        "t perplexity 0-shot n = 200 chance 25.0 % setting …",
        "t perplexity 5-shot n = 200 chance 25.0 %",
    ]
    assert len({" ".join(head) for head in board.heads()}) == 5
    assert len(board.rows) == 1


def test_rewards_by_two_reward_models_never_share_a_column(tmp_path: Path, write_result) -> None:
    for judge in ("one", "two"):
        reward = {
            "kind": "reward",
            "data": "sha256:d",
            "methods": {"reward": method(-0.5, metric="reward")},
            "reward_model": f"sha256:{judge}",
        }
        write_result(tmp_path / judge, {"pocket.reward": reward}, judge, f"sha256:{judge}")
    assert [row[1:] for row in texts(make_board(collect([tmp_path])))] == [
        ["-0.500 [-0.550, -0.450]", "–"],
        ["–", "-0.500 [-0.550, -0.450]"],
    ]


def test_unscored_questions_are_shown_and_a_task_without_a_score_has_a_dash(tmp_path: Path, write_result) -> None:
    write_result(tmp_path / "a", {"t": choice(0.5, unscored=3)}, "a", "sha256:a")
    write_result(tmp_path / "b", {"t": choice(None, unscored=200)}, "b", "sha256:b")
    assert texts(make_board(collect([tmp_path]))) == [["a", "50.0 % [45.0, 55.0] 3 unscored"], ["b", "– 200 unscored"]]


def test_stages_of_two_runs_have_their_own_rows_and_a_stage_trained_anew_is_told_apart(tmp_path: Path, make_run, write_result) -> None:
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    write_result(one.evaluations() / "a", {"t": choice(0.5)}, "sft", "sha256:same")
    write_result(two.evaluations() / "a", {"t": choice(0.5)}, "sft", "sha256:same")
    write_result(two.evaluations() / "b", {"t": choice(0.6)}, "rl", "sha256:11111111aa")
    write_result(two.evaluations() / "c", {"t": choice(0.7)}, "rl", "sha256:22222222bb")
    names = [row.name() for row in make_board(collect([tmp_path])).rows]
    assert names == ["one · SFT", "two · SFT", "two · RL (11111111, fp32)", "two · RL (22222222, fp32)"]


def test_runs_of_one_name_have_their_own_rows_and_their_own_table_of_stages(tmp_path: Path, make_run, write_result) -> None:
    for folder in ("first", "second"):
        run = make_run(tmp_path / folder / "pocket")
        for stage in ("base", "sft"):
            write_result(run.evaluations() / stage, {"t": choice(0.5)}, stage, f"sha256:{folder}{stage}")
    board = make_board(collect([tmp_path / "first", tmp_path / "second"]))
    assert [row.name() for row in board.rows] == [
        "first/pocket · BASE",
        "first/pocket · SFT",
        "second/pocket · BASE",
        "second/pocket · SFT",
    ]
    assert [(grid.title.en, len(grid.heads)) for grid in stages(board)] == [("first/pocket", 3), ("second/pocket", 3)]


def test_a_result_kept_elsewhere_joins_the_stage_with_the_same_weights(tmp_path: Path, make_run, write_result) -> None:
    run = make_run(tmp_path / "runs" / "pocket")
    write_result(run.evaluations() / "a", {"t": choice(0.5)}, "sft", "sha256:s")
    write_result(tmp_path / "results" / "b", {"mmlu": choice(0.3)}, "/elsewhere/copy", "sha256:s")
    board = make_board(collect([tmp_path / "runs", tmp_path / "results"]))
    assert texts(board) == [["pocket · SFT", "50.0 % [45.0, 55.0]", "30.0 % [25.0, 35.0]"]]


def test_a_benchmark_of_one_run_says_so_and_is_not_old_because_another_run_has_a_newer_one(tmp_path: Path, make_run, write_result) -> None:
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    write_result(one.evaluations() / "a", {"t": choice(0.5)}, "sft", "sha256:1")
    write_result(two.evaluations() / "b", {"t": {**choice(0.5), "data": "sha256:b"}}, "sft", "sha256:2")
    board = make_board(collect([tmp_path]))
    assert [head[-1] for head in board.heads()] == ["one only", "two only"]
    assert board.titles("zh") == ["t · 逐选项困惑度 · 仅 one", "t · 逐选项困惑度 · 仅 two"]
    assert not [doubt for cells in board.cells for cell in cells if cell for doubt in cell.doubts]


def test_data_is_old_when_the_same_run_was_asked_on_other_data_since(tmp_path: Path, make_run, write_result) -> None:
    run = make_run(tmp_path / "one")
    write_result(run.evaluations() / "a", {"t": choice(0.5)}, "base", "sha256:1")
    write_result(run.evaluations() / "b", {"t": {**choice(0.5), "data": "sha256:b"}}, "sft", "sha256:2")
    board = make_board(collect([tmp_path]))
    assert [[doubt.name for doubt in cell.doubts] for cells in board.cells for cell in cells if cell] == [["old_data"], []]
    assert [head[-1][:7] for head in board.heads()] == ["setting", "setting"]
