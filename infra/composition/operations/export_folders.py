"""Which folders exports went into, so that an erasure can be looked for in them.

One line a folder, in a file of the data folder. An export by a system that has no data folder here
is not remembered: whoever asks names its folder.
"""

from pathlib import Path

FILE = "exports"


def remember(data_folder: Path, folder: Path) -> None:
    if data_folder.is_dir() and folder.absolute() not in remembered(data_folder):
        with (data_folder / FILE).open("a", encoding="utf-8") as file:
            file.write(f"{folder.absolute()}\n")


def remembered(data_folder: Path) -> list[Path]:
    """Those that are still there."""
    file = data_folder / FILE
    if not file.is_file():
        return []
    lines = file.read_text("utf-8").splitlines()
    return [folder for line in dict.fromkeys(lines) if (folder := Path(line)).is_dir()]
