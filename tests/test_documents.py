"""What documents and messages tell the reader to open or run is there."""

import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
NAMED = re.compile(r"\b((?:configs|docs|benchmarks|notebooks)/[\w./-]*\.(?:yaml|md|py|ipynb|png))\b")
PRINTED = re.compile(r"<!-- python -m analysis\.report\.compact (\S+) (\S+)(?: --times (\S+))? -->\n\n((?:\|.*\n)+)")

OVERALL = re.compile(r"<!-- python -m analysis\.report\.scores (\S+)( --without_chance)? -->\n\n((?:\|.*\n)+)")


def shipped(*endings: str) -> list[Path]:
    """Files under version control outside the tests, by how their names end."""
    listed = subprocess.run(["git", "ls-files", *endings], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    return [PROJECT / name for name in listed.stdout.splitlines() if not name.startswith("tests/")]


def test_files_that_are_named_exist():
    sources = shipped("*.py", "*.md", "*.yaml", "*.ipynb", "*.cfg")
    named = {(path.name, name) for path in sources for name in NAMED.findall(path.read_text())}
    assert len(named) > 100, "documents and messages name many files"
    assert {(source, name) for source, name in named if not (PROJECT / name).is_file()} == set()


def test_tables_are_those_of_the_results():
    """What a document says was printed by a command is what the command prints."""
    pd = pytest.importorskip("pandas")
    from analysis.report.compact import compact, markdown
    from analysis.report.sources import read_sources

    tables = [table for path in shipped("*.md") for table in PRINTED.findall(path.read_text())]
    assert any(times for _, _, times, _ in tables), "docs/embedded.md has some of both kinds"
    for results, task, times, table in tables:
        measured = pd.read_csv(PROJECT / times) if times else None
        printed = markdown(compact(read_sources(PROJECT / results), task, measured))
        assert table.strip() == printed, f"{results} {task}"


def test_tables_of_all_tasks_are_those_of_the_results():
    pytest.importorskip("pandas")
    from analysis.report.scores import markdown, scores, without_chance
    from analysis.report.sources import read_sources
    from analysis.runs import main_rows

    tables = [table for path in shipped("*.md") for table in OVERALL.findall(path.read_text())]
    assert len(tables) == 2, "docs/embedded.md has one of policies as they act and one of policies without chance"
    for results, greedy, table in tables:
        chosen = without_chance if greedy else main_rows
        assert table.strip() == markdown(scores(chosen(read_sources(PROJECT / results).results))), results


def test_the_claims_are_those_of_the_results(capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("pandas")
    from analysis.claims import main

    main([str(PROJECT / "results/claims")])
    printed = capsys.readouterr().out.strip()
    assert printed.count("\n- (") > 6, "a sentence for each claim and task"
    document = (PROJECT / "docs/claims.md").read_text()
    assert document.endswith(f"<!-- python -m analysis.claims results/claims -->\n\n{printed}\n")


def test_the_coordination_table_is_that_of_the_results():
    table = (PROJECT / "results/coordination.md").read_text()
    assert table.count("\n") > 20, "a row for each algorithm and kind of noise"
    assert table in (PROJECT / "docs/coordination.md").read_text()
