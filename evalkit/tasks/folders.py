"""Finding a benchmark's original layout, and its questions file by file."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from pathlib import Path

from evalkit.protocol import Protocol
from evalkit.reading import oddities, read_questions, sha256_of_files
from evalkit.types import ChoiceTask, Question
from modelkit.errors import UserError


def find_layout(data: Path | None, task: str, folders: Sequence[str]) -> Path:
    """The folder that holds *folders* (each with CSV files): *data* itself, its ``data``, or the same below ``<data>/<task>``.

    :raises UserError: when *data* is not given, is missing, or holds them nowhere.
    """
    wanted = " and ".join(f"{folder}/*.csv" for folder in folders)
    if data is None:
        raise UserError(f"{task} needs its data: give --data DIR, the folder that holds {wanted} (the benchmark's original layout).")
    if not data.is_dir():
        raise UserError(f"there is no folder {data}: --data should name the one that holds {wanted}.")
    for root in (data, data / "data", data / task, data / task / "data"):
        if all(any((root / folder).glob("*.csv")) for folder in folders):
            return root
    raise UserError(f"{data} is not laid out like {task}: {wanted} were looked for in it, in its data/ and in its {task}/.")


def choice_task(
    name: str,
    protocol: Protocol,
    root: Path,
    split: str,
    file_name: Callable[[str, str], str],
    subjects: Sequence[str],
    categories: Callable[[str], tuple[str, ...]],
    shots: int,
    methods: Sequence[str],
    header: Sequence[str] | None = None,
) -> ChoiceTask:
    """Read ``dev`` (when shots are asked for) and *split* of each subject below *root*.

    :param file_name: (subject, split) → the file's name.
    :raises UserError: for a missing or malformed file, or more shots than a subject's dev file has.
    """
    dev: dict[str, list[Question]] = {}
    items: list[Question] = []
    files: list[Path] = []
    for subject in subjects:
        file = root / split / file_name(subject, split)
        items += read_questions(file, subject, categories(subject), header)
        files.append(file)
        if shots:
            file = root / "dev" / file_name(subject, "dev")
            dev[subject] = read_questions(file, subject, categories(subject), header)
            files.append(file)
            if len(dev[subject]) < shots:
                raise UserError(f"{shots} shots were asked for, but {file} has only {len(dev[subject])}: use --shots {len(dev[subject])}.")
    return ChoiceTask(name, sha256_of_files(files, root), items, protocol, dev, shots, methods, oddities(items))


def subjects_in(folder: Path, ending: str) -> list[str]:
    """The subjects that have a file in *folder*, sorted.

    :raises UserError: when there is none.
    """
    found = sorted(file.name.removesuffix(ending) for file in folder.glob(f"*{ending}"))
    if not found:
        raise UserError(f"{folder} holds no file called <subject>{ending}.")
    return found


def known_subjects(folder: Path, ending: str, names: Container[str]) -> list[str]:
    """Like :func:`subjects_in`, for a benchmark whose header needs each subject's name.

    :raises UserError: when a file's subject is none of the benchmark's.
    """
    found = subjects_in(folder, ending)
    for subject in found:
        if subject not in names:
            raise UserError(f"{folder / (subject + ending)} is no subject of this benchmark: remove the file, or check --data.")
    return found
