"""What a user sees while a grid runs: a table that changes, or one line per event where there is no terminal."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from grid.progress import Progress, main_return
from grid.runner import Work

BETWEEN_LOOKS = 2.0  # seconds between two looks at the metrics of the running cells
STYLES = {"waiting": "dim", "running": "yellow", "done": "green", "failed": "red", "elsewhere": "magenta"}


class Display:
    """Shows the state of all cells; used as a context.

    Args:
        console: Where to.
        clock: Time in seconds; only for tests.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console or Console()
        self._clock = clock
        self._progress: dict[str, Progress] = {}
        self._returns: dict[str, float | None] = {}
        self._told: dict[str, str] = {}
        self._last = float("-inf")
        self._context = ExitStack()
        self._live: Live | None = None

    def __enter__(self) -> "Display":
        """Takes the terminal, if there is one."""
        if self.console.is_terminal:
            self._live = self._context.enter_context(Live(console=self.console, auto_refresh=False, transient=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Gives the terminal back."""
        self._context.close()

    def show(self, works: Sequence[Work]) -> None:
        """Shows what has changed, from time to time.

        Args:
            works: All cells.
        """
        changed = [work for work in works if self._told.get(work.place.cell.name) != work.state]
        if not changed and self._clock() - self._last < BETWEEN_LOOKS:
            return
        self._last = self._clock()
        for work in works:
            if work.state == "running":
                self._progress.setdefault(work.place.cell.name, Progress(work.place)).look()
        if self._live is not None:
            self._live.update(self.table(works), refresh=True)
        for work in changed:
            self._told[work.place.cell.name] = work.state
            if self._live is None and work.state != "waiting":
                done = sum(other.state == "done" for other in works)
                line = f"{work.state:9}{work.place.cell.name}  {self._news(work)}".rstrip()
                self.console.print(f"[{done}/{len(works)}] {line}", markup=False, highlight=False, soft_wrap=True)

    def table(self, works: Sequence[Work]) -> Table:
        """What is running or has failed, and as much of the newest results and the next cells as there is room for.

        Args:
            works: All cells.
        """
        counts: Counter[str] = Counter(work.state for work in works)
        title = ", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state])
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for column in ("cell", "state", "updates", "updates/s", "return", ""):
            right = column in ("updates", "updates/s", "return")
            table.add_column(column, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
        shown = _most_telling(works, room=max(3, self.console.height - 4))
        for work in works:
            if work in shown:
                table.add_row(*self._cells(work), style=STYLES[work.state])
        return table

    def _cells(self, work: Work) -> tuple[str, ...]:
        name, progress = work.place.cell.name, self._progress.get(work.place.cell.name)
        updates = rate = ""
        score = self._return_of(work) if work.state == "done" else None
        if work.state == "running" and progress is not None:
            total = f" / {work.place.updates:,}" if work.place.updates else ""
            updates = f"{progress.updates:,}{total}"
            rate = "" if progress.rate is None or work.step != "fit" else f"{progress.rate:.1f}"
            score = progress.score
        note = "playing saved weights" if work.state == "running" and work.step == "test" else work.reason
        return name, work.state, updates, rate, "" if score is None else f"{score:.3f}", note

    def _news(self, work: Work) -> str:
        if work.state != "done":
            return work.reason
        score = self._return_of(work)
        return "" if score is None else f"return {score:.3f}"

    def _return_of(self, work: Work) -> float | None:
        name = work.place.cell.name
        if name not in self._returns:
            self._returns[name] = main_return(work.place, work.place.cell.policy)
        return self._returns[name]


def _most_telling(works: Sequence[Work], room: int) -> list[Work]:
    """As many cells as there is room for: what runs or went wrong, and half of the rest each for results and plans."""
    urgent = [work for work in works if work.state in ("running", "failed", "elsewhere")][:room]
    done = [work for work in works if work.state == "done"]
    waiting = [work for work in works if work.state == "waiting"]
    rest = room - len(urgent)
    some = max(rest // 2, rest - len(waiting))
    newest = done[-some:] if some else []
    return [*urgent, *newest, *waiting[: rest - len(newest)]]
