"""Stands for ``lightning``: leaves what a run leaves, within milliseconds. Options under ``stub.`` say how it goes."""

import json
import os
import signal
import sys
import time
from pathlib import Path

EVERY = 10  # updates between two checkpoints


def main(subcommand: str, *words: str) -> None:
    options = dict(zip([word.removeprefix("--") for word in words[::2]], words[1::2], strict=True))
    run = Path("runs/stub/version_0")
    with Path("calls.json").open("a") as file:
        call = {"words": [subcommand, *words], "threads": os.environ["OMP_NUM_THREADS"]}
        told = {key: value for key, value in os.environ.items() if key.startswith("VGM2P_")}
        told |= {"group": os.environ.get("WANDB_RUN_GROUP"), "name": os.environ.get("WANDB_NAME")}
        file.write(json.dumps({**call, "wandb": os.environ.get("WANDB_MODE"), "told": told}) + "\n")
    if subcommand == "test":
        (run / "test").mkdir(exist_ok=True)
        evaluate(run / "test", 100.0 if options["ckpt_path"] == "best" else 200.0, options)
        return
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    last = run / "checkpoints" / "last.ckpt"
    first = int(last.read_text()) if "ckpt_path" in options else 0
    train(run, first, int(options["trainer.max_steps"]), options)
    if options.get("stub.table", "true") == "true":
        evaluate(run, float(options["seed_everything"]), options)


def train(run: Path, first: int, updates: int, options: dict[str, str]) -> None:
    for update in range(first, updates):
        if update == int(options.get("stub.fail_at", -1)):
            print("working on it\nerror: this one fails\n(The traceback: set JSONARGPARSE_DEBUG=1.)", file=sys.stderr)
            raise SystemExit(2)
        if update == int(options.get("stub.kill_at", -1)) and "ckpt_path" not in options:
            os.kill(os.getpid(), signal.SIGKILL)
        if update == int(options.get("stub.hang_at", -1)) and not Path("go").exists():
            Path("hangs").touch()
            time.sleep(60)
        if (update + 1) % EVERY == 0:
            rows = [f"{step},{0.5 if step > 20 else ''}" for step in range(update + 1)]
            (run / "metrics.csv").write_text("step,eval/return_mean\n" + "\n".join(rows) + "\n")
            (run / "checkpoints" / "last.ckpt").write_text(str(update + 1))
            (run / "checkpoints" / "best.ckpt").write_text(str(EVERY))


def evaluate(directory: Path, value: float, options: dict[str, str]) -> None:
    head = "policy,return,± s.e.,IQM,won,length,ms per decision,calls per decision,parameters,episodes"
    rows = ["the data,0.5,0.01,0.4,0.1,12.0,,,,4000", f'"policy, w = 1",{value - 1},0.1,0.2,0.3,10.0,1.5,1,99,256']
    rows += [f'"policy, w = 2",{value},0.1,0.2,0.3,10.0,1.5,1,99,256']
    (directory / "evaluation.csv").write_text("\n".join([head, *rows]) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "data":
        Path(sys.argv[-1]).mkdir(parents=True, exist_ok=True)
        with (Path(sys.argv[-1]) / "made").open("a") as file:
            file.write(" ".join(sys.argv[2:5]) + "\n")
        raise SystemExit(int(sys.argv[4] == "Broken"))
    main(*sys.argv[1:])
