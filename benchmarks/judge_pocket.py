"""Judge a run's stages by two judges, its own reward model and a rubric over HTTP, in both languages, and compare the judges.

    python benchmarks/judge_pocket.py runs/pocket --out results/judged

The rubric judge is a small server that speaks OpenAI's chat protocol. It scores by rule, so it needs no model and says the same every
time: 6 points for naming the reference answer, 2 for a whole sentence, 1 for the prompt's language, 1 for not repeating itself.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from evalkit.extraction import same_language
from evalkit.extraction.texts import occurring


def marked(name: str, text: str) -> str:
    """What stands between the marks called *name* in a judge's question; empty where there are none."""
    found = re.search(rf"<{name} ([0-9a-f]{{10}})>\n(.*?)\n</{name} \1>", text, flags=re.DOTALL)
    return found.group(2) if found else ""


def points(answer: str, question: str, reference: str) -> int:
    """The rubric: 1 to 10."""
    words = re.findall(r"\w+", answer.lower())
    right = 6 * bool(occurring(answer, [reference]))
    sentence = 2 * (answer.rstrip().endswith((".", "!", "。", "！")) and len(answer) > len(reference) + 3)
    return max(1, right + sentence + same_language(question, answer) + (len(words) == len(set(words)) or len(words) > 12))


def verdict(question: str) -> str:
    """The reply to a question of ours, as the JSON object that its schema asks for."""
    asked, reference = marked("conversation", question), marked("reference", question)
    if marked("answer A", question):
        a, b = (points(marked(f"answer {side}", question), asked, reference) for side in "AB")
        return json.dumps({"reason": f"{a} points against {b}", "winner": "A" if a > b else "B" if b > a else "tie"})
    total = points(marked("answer", question), asked, reference)
    names = re.findall(r"^- (\w+): ", question, flags=re.MULTILINE)
    criteria = {name: {"reason": "by the rubric", "score": total} for name in names}
    return json.dumps({"criteria": criteria, "reason": f"{total} points", "score": total})


class RubricJudge(BaseHTTPRequestHandler):
    """``POST /v1/chat/completions``."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer one question."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = body["messages"][-1]["content"]
        text = verdict(said) if "<conversation " in said else '{"ready": true}'
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": len(said) // 3, "completion_tokens": len(text) // 3, "total_tokens": (len(said) + len(text)) // 3}
        reply = json.dumps({"id": "rubric", "object": "chat.completion", "created": 0, "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep quiet."""


def judge(run: Path, out: Path, limit: int) -> None:
    """Score and battle by each judge, then compare the judges."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), RubricJudge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    prompts = run / "data" / "benchmark" / "wordings.jsonl"
    asked = ["-m", str(run), "-p", str(prompts), "--limit", str(limit), "--max-tokens", "48", "--temperature", "0"]
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    judges = {"rm": ["--judge", str(run / "rm")], "rubric": ["--judge-url", url, "--judge-model", "rubric"]}
    for mode in ("score", "battle"):
        for name, by in judges.items():
            command(mode, *asked, *by, "--out", str(out / f"{mode}-{name}"))
        command("agree", str(out / f"{mode}-rm"), str(out / f"{mode}-rubric"))
    server.shutdown()


def command(*words: str) -> None:
    """Run ``evalkit judge`` with *words*; stop where it fails."""
    print(f"\n$ evalkit judge {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "evalkit", "judge", *words], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run with a reward model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=8, help="prompts of each subject and language")
    given = parser.parse_args()
    judge(given.run, given.out, given.limit)
