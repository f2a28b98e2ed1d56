"""The loss looks at the assistant only, and accumulation gives exactly the large batch's step."""

from __future__ import annotations

import copy

import pytest
import torch

from modelkit.chat import encode_chat
from modelkit.errors import UserError
from tests.trainers.conftest import World
from trainers.data import dataset
from trainers.data.dataset import Counts, Example
from trainers.optimiser import Optimiser
from trainers.recipe import LanguageStage, Optimisation
from trainers.sft import LanguageModelling, example_loss_sum

SETTINGS = LanguageStage(steps=4, lr=1e-2, tokens=300)


def test_the_loss_equals_the_models_own_on_the_same_labels(world: World) -> None:
    model = world.model()
    for example in world.examples[:5]:
        labels = torch.tensor([[token if flag else -100 for token, flag in zip(example.ids, example.labelled, strict=True)]])
        own = model(torch.tensor([example.ids]), labels=labels, use_cache=False).loss * sum(example.labelled)
        torch.testing.assert_close(example_loss_sum(model, [example]), own, atol=1e-4, rtol=1e-5)


def test_prompt_tokens_get_no_gradient(world: World) -> None:
    """With an untied output layer, a token that occurs only in prompts is never anybody's label."""
    example = world.examples[0]
    model = world.model()
    embeddings = model.get_input_embeddings()(torch.tensor([example.ids])).detach().requires_grad_()
    first = example.labelled.index(True)
    logits = model(inputs_embeds=embeddings, use_cache=False).logits[0]
    labelled = [i for i, flag in enumerate(example.labelled) if flag]
    torch.nn.functional.cross_entropy(logits[[i - 1 for i in labelled]], torch.tensor(example.ids)[labelled]).backward()
    assert embeddings.grad is not None
    assert embeddings.grad[0, -1].eq(0).all(), "nothing follows the last label"
    assert not any(example.labelled[:first])


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_accumulated_microbatches_take_the_step_of_the_whole_batch(world: World, optimiser: str) -> None:
    if optimiser == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    weights = []
    for micro_tokens in (60, 10_000):
        model = world.model().double()
        settings = SETTINGS.model_copy(update={"micro_tokens": micro_tokens, "optimiser": optimiser, "eps": 1e-4})
        stage = LanguageModelling("sft", model, world.tokenizer, world.examples, [], [], settings, seed=0)
        stage.begin(0)
        for step in range(2):
            stage.step(step)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], atol=2e-5, rtol=0)


def test_training_lowers_the_loss(world: World) -> None:
    settings = SETTINGS.model_copy(update={"steps": 30})
    stage = LanguageModelling(
        "sft", world.model(), world.tokenizer, world.examples, world.examples[:10], world.prompts[:1], settings, seed=0
    )
    stage.begin(0)
    before = stage.evaluate()["eval_loss"]
    for step in range(30):
        stage.step(step)
    assert stage.evaluate()["eval_loss"] < 0.7 * before
    assert stage.samples()[0]["prompt"] == world.prompts[0].text


def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted(world: World) -> None:
    model = world.model()
    optimiser = Optimiser([model], SETTINGS)
    before = [p.detach().clone() for p in model.parameters()]
    for bad in (float("nan"), float("inf")):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, bad)
        optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert optimiser.skipped == optimiser.skipped_in_all == 2
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    assert (optimiser.skipped, optimiser.skipped_in_all) == (0, 2)


def test_the_schedule_warms_up_and_decays(world: World) -> None:
    optimiser = Optimiser([world.model()], Optimisation(steps=100, lr=1.0, warmup=0.1, final_lr=0.2))
    rates = []
    for optimiser.updates in (0, 9, 10, 55, 100):
        rates.append(round(optimiser.schedule(), 3))
    assert rates == [0.1, 1.0, 1.0, 0.6, 0.2]


def test_what_does_not_fit_is_cut_or_dropped_and_counted(world: World) -> None:
    chat = [{"role": "user", "content": "What is the capital of France?"}, {"role": "assistant", "content": "Paris. " * 30}]
    length = len(encode_chat(world.tokenizer, chat).ids)  # type: ignore[arg-type]
    counts = Counts()
    cut = dataset.chat_examples([{"messages": chat}, {"messages": chat}], world.tokenizer, length - 10, counts)
    assert counts.truncated == counts.used == 2
    assert len(cut[0].ids) == length - 10
    with pytest.raises(UserError, match="fits into the model's context"):
        dataset.chat_examples([{"messages": chat}], world.tokenizer, 4, counts)
    assert counts.dropped == 1
    counts = Counts()
    rows = [{"messages": chat[:1], "chosen": "Paris.", "rejected": text} for text in ("Rome.", "Rome. " * 50)]
    assert len(dataset.pairs(rows, world.tokenizer, 60, counts)) == 1
    assert counts.dropped == 1


def test_texts_of_a_tokenizer_without_a_begin_of_sequence_are_learnt_from_their_second_token(world: World) -> None:
    tokenizer = copy.deepcopy(world.tokenizer)
    tokenizer.bos_token = None
    (example,) = dataset.text_examples([{"text": "Paris is a city.", "prompt": ""}], tokenizer, 99, Counts())
    assert example.ids == [*tokenizer("Paris is a city.", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    assert example.labelled == [False] + [True] * (len(example.ids) - 1)


def test_a_texts_prompt_is_read_but_not_learnt(world: World) -> None:
    [example] = dataset.text_examples([{"prompt": "Question: 1 + 1\nAnswer:", "text": " 2"}], world.tokenizer, 128, Counts())
    learnt = [token for token, flag in zip(example.ids, example.labelled, strict=True) if flag]
    assert str(world.tokenizer.decode(learnt[:-1])).strip() == "2"
    assert learnt[-1] == world.tokenizer.eos_token_id
    pieces = dataset.text_examples([{"prompt": "", "text": "a b c d e f g h"}], world.tokenizer, 5, Counts())
    assert sum(len(piece.ids) for piece in pieces) == len(world.tokenizer("a b c d e f g h")["input_ids"]) + 1
    assert isinstance(pieces[0], Example)
    assert not any(piece.labelled[0] for piece in pieces)
