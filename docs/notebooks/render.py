"""Runs notebooks and writes them with their pictures as Markdown, beside this file.

    python docs/notebooks/render.py                      # all four
    python docs/notebooks/render.py guidance             # this one
    VGM2P_RESULTS=runs/benchmark/embedded python docs/notebooks/render.py baselines

The notebooks themselves stay as they are: without outputs. README.md says where the copies here come from.
"""

import argparse
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

from whole_files import written_whole

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parents[1] / "notebooks"
STYLE = re.compile(r"<style scoped>.*?</style>\n*", re.DOTALL)  # of pandas' tables; GitHub would show it as text
PATIENCE = 3600  # seconds for a cell, one of which may train


def executed(name: str) -> Any:
    """A notebook with the outputs that it has when it runs now.

    Args:
        name: Such as baselines.
    """
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=PATIENCE, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    return notebook


def write(notebook: Any, name: str, folder: Path = HERE) -> Path:
    """Writes a notebook as Markdown and its pictures into a directory beside it.

    Args:
        notebook: With outputs.
        name: Of the files.
        folder: Where they go.

    Returns:
        The Markdown file.
    """
    where = {"unique_key": name, "output_files_dir": f"{name}_files"}
    text, resources = MarkdownExporter().from_notebook_node(notebook, where)
    shutil.rmtree(folder / f"{name}_files", ignore_errors=True)  # pictures of cells that are gone
    text = (
        f"<!-- Written by docs/notebooks/render.py from notebooks/{name}.ipynb -->\n\n{STYLE.sub('', text).strip()}\n"
    )
    for file, content in {f"{name}.md": text.encode(), **resources["outputs"]}.items():
        with written_whole(folder / file) as unfinished:
            unfinished.write_bytes(content)
    return folder / f"{name}.md"


def main() -> None:
    """Renders the notebooks that are named."""
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(known)}; all if none is named")
    names = parser.parse_args().names or known
    if unknown := [name for name in names if name not in known]:
        parser.error(f"expected some of {', '.join(known)}, got {', '.join(unknown)}")
    for name in names:
        print(write(executed(name), name))


if __name__ == "__main__":
    main()
