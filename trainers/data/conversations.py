"""Conversations in the layouts people have → messages: user and assistant taking turns, a system prompt before them at most."""

from __future__ import annotations

import re
from typing import Any

from trainers.data.files import BadRow

Row = dict[str, Any]
_ROLES = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "bot", "model", "chatgpt"), "assistant"),
    "system": "system",
}
_TURN = re.compile(r"\n\n(Human|Assistant):")


def conversation(raw: Row) -> tuple[str, list[Row]]:
    """The messages of a row in any format (of a preference row, its prompt)."""
    if "messages" in raw:
        turns = raw["messages"]
        ours = isinstance(turns, list) and all(isinstance(turn, dict) and "role" in turn for turn in turns)
        return "messages" if ours else "colossalchat", messages_of(turns)
    if "conversations" in raw:
        return "sharegpt", _with_system(raw, messages_of(raw["conversations"]))
    if "instruction" in raw:
        return _alpaca(raw)
    if "context" in raw and ("chosen" in raw or isinstance(raw["context"], list)):
        return "colossalchat", messages_of(raw["context"])
    if isinstance(raw.get("prompt"), list):
        completion = raw.get("completion") or []
        return "prompt", messages_of([*raw["prompt"], *(completion if isinstance(completion, list) else [completion])])
    if isinstance(raw.get("prompt"), str):
        messages = _with_system(raw, [{"role": "user", "content": text_of(raw, "prompt")}])
        answer = next((raw[key] for key in ("completion", "response", "answer", "output") if isinstance(raw.get(key), str)), "")
        return "prompt", [*messages, {"role": "assistant", "content": answer}] if answer.strip() else messages
    if isinstance(raw.get("turns"), list) and raw["turns"]:
        return "fastchat", messages_of([{"role": "user", "content": raw["turns"][0]}])
    chosen = raw.get("chosen")
    if isinstance(chosen, str) and "\n\nHuman:" in chosen:
        return "hh-rlhf", transcript(chosen)[:-1]
    if isinstance(chosen, list):
        return "messages", messages_of(chosen)[:-1]
    raise BadRow(f"none of the known formats (its fields: {', '.join(sorted(map(str, raw))) or 'none'})")


def _alpaca(raw: Row) -> tuple[str, list[Row]]:
    """Alpaca with LLaMA-Factory's ``system`` and ``history``; without any answer, InstructionWild's seeds."""
    question = "\n".join(part for part in (text_of(raw, "instruction"), str(raw.get("input") or "")) if part)
    output = raw.get("output", raw.get("response"))
    answer = output[0] if isinstance(output, list) and output else output
    earlier = raw.get("history") or []
    if not isinstance(earlier, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in earlier):
        raise BadRow("the history is no list of [question, answer]")
    history = [turn for q, a in earlier for turn in ({"role": "user", "content": q}, {"role": "assistant", "content": a})]
    messages = _with_system(raw, [*(messages_of(history) if history else []), {"role": "user", "content": question}])
    if isinstance(answer, str) and answer.strip():
        messages.append({"role": "assistant", "content": answer})
    bare = not {"input", "output", "response", "chosen"} & raw.keys()
    return "instruction-wild" if bare else "alpaca", messages


def _with_system(raw: Row, messages: list[Row]) -> list[Row]:
    system = raw.get("system")
    if not system or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": text_of(raw, "system")}, *messages]


def messages_of(turns: Any) -> list[Row]:
    """Turns under any of the usual names, checked: known roles, no empty turn, user and assistant taking turns."""
    if not isinstance(turns, list) or not turns:
        raise BadRow("the conversation is empty")
    messages: list[Row] = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise BadRow("a turn is not an object")
        given = turn.get("role", turn.get("from"))
        role = _ROLES.get(str(given))
        content = _joined(turn.get("content", turn.get("value")))
        if role is None or content is None:
            raise BadRow(f"a turn with role {given!r} and no text or an unknown role")
        if not content.strip():
            raise BadRow("an empty turn")
        before = messages[-1]["role"] if messages else None
        if role == before or (role == "system" and messages):
            raise BadRow(f"the roles don't alternate ({role} after {before})")
        if role == "assistant" and before in (None, "system"):
            raise BadRow("the conversation starts with the assistant")
        messages.append({"role": role, "content": content})
    return messages


def _joined(content: Any) -> str | None:
    """A turn's text; of a list of parts, theirs joined when all of them are text."""
    if isinstance(content, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        return "".join(part["text"] for part in content)
    return content if isinstance(content, str) else None


def answered(messages: list[Row]) -> list[Row]:
    """The messages, when they end with the assistant's.

    :raises BadRow: when they don't.
    """
    if messages[-1]["role"] != "assistant":
        raise BadRow("the conversation does not end with an answer of the assistant")
    return messages


def asking(messages: list[Row]) -> list[Row]:
    """The messages up to the last user turn."""
    while messages and messages[-1]["role"] != "user":
        messages = messages[:-1]
    if not messages:
        raise BadRow("there is no user turn to answer")
    return messages


def transcript(text: str) -> list[Row]:
    """An hh-rlhf transcript as messages."""
    pieces = _TURN.split("\n\n" + text.lstrip())[1:]
    said = zip(pieces[::2], pieces[1::2], strict=True)
    return messages_of([{"role": "user" if who == "Human" else "assistant", "content": words.strip()} for who, words in said])


def text_of(raw: Row, key: str) -> str:
    """A field that must hold text.

    :raises BadRow: when it doesn't.
    """
    value = raw.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"no text in field {key!r}")
    return value
