"""What a run of Weights & Biases left on disk while it was offline: the file that ``wandb sync`` uploads, read back.

The file is a log in LevelDB's format (blocks of 32 KiB, each record with checksum, length and kind before it) of
protocol buffer messages, after a header of 7 bytes.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CONFIG = Path(__file__).parent.parent / "configs" / "matrix.yaml"
BLOCK, HEADER = 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class Logged:
    """A run as it would appear after ``wandb sync``.

    Args:
        file: What was read.
        name: Its name.
        group: Its group.
        job_type: Its job type.
        tags: Its tags.
        id: Its id.
        config: Its configuration.
        history: What was logged at once, in order.
        axes: The metric that each metric is drawn over.
        ended: Whether the file is whole.
    """

    file: Path
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: tuple[str, ...] = ()
    id: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    axes: dict[str, str] = field(default_factory=dict)
    ended: bool = False

    @property
    def summary(self) -> dict[str, Any]:
        """The last value of each metric."""
        return {key: value for row in self.history for key, value in row.items()}


def offline_run(algorithm: str, directory: Path) -> Logged:
    """Trains for a few updates with ``lightning fit`` and a logger that is offline, and reads the file.

    Args:
        algorithm: One that is trained in stages is so for 4, 4 and 16 updates.
        directory: With ``vaults``; it is the current one.
    """
    import wandb

    from vgm2p_cli import main

    config = yaml.safe_load(CONFIG.read_text())
    config["trainer"] |= {"max_steps": 24, "val_check_interval": 2, "log_every_n_steps": 1}
    config["trainer"] |= {"enable_progress_bar": False, "enable_model_summary": False}
    csv, weights_and_biases = config["trainer"]["logger"]
    weights_and_biases["init_args"] |= {"mode": "offline", "save_dir": f"wandb_{algorithm}"}
    csv["init_args"]["name"] = algorithm
    for callback in config["trainer"]["callbacks"]:
        if callback["class_path"] == "callbacks.RolloutEvaluation":
            callback["init_args"] = {"episodes": 8, "every_n_updates": 5, "final_episodes": 8}
        if callback["class_path"] == "callbacks.StageSwitch":
            callback["init_args"] = {"check_every": 2}
    config["model"] = {"class_path": f"lightning_modules.{algorithm}", "init_args": {"hidden_dims": [8]}}
    if algorithm == "VGM2P":
        config["model"]["init_args"] |= {"critic_updates": 4, "credit_updates": 4, "critic_hidden_dims": [8]}
        config["model"]["init_args"] |= {"critic": "expectile"}  # it has a Q, and logs all there is about it
    config["data"]["init_args"] |= {"root": str(directory / "vaults"), "batch_size": 32}
    (directory / "small.yaml").write_text(yaml.safe_dump(config))
    try:
        main(["fit", "--config", "small.yaml", "--seed_everything", "3"])
    finally:
        wandb.finish()
    (file,) = (directory / f"wandb_{algorithm}" / "wandb").glob("offline-run-*/*.wandb")
    deadline = time.monotonic() + 600
    while not (run := read_offline_run(file)).ended:  # wandb's process may write the rest a little later
        assert time.monotonic() < deadline, f"{file} is not whole"
        time.sleep(0.1)
    return run


def read_offline_run(path: Path) -> Logged:
    """Reads a ``run-<id>.wandb``."""
    from wandb.proto.wandb_internal_pb2 import Record

    run = Logged(path)
    for content in _records(path.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            told = record.run  # a later one repeats only what has changed
            run.name, run.group = told.display_name or run.name, told.run_group or run.group
            run.job_type, run.id = told.job_type or run.job_type, told.run_id or run.id
            run.tags = tuple(told.tags) or run.tags
            _update(run.config, told.config.update)
        elif kind == "config":
            _update(run.config, record.config.update)
        elif kind == "history":
            run.history.append({_key(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "exit":
            run.ended = True
        elif kind == "metric":
            run.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
    return run


def _update(config: dict[str, Any], items: Any) -> None:
    for item in items:
        config[_key(item)] = json.loads(item.value_json)


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _records(content: bytes) -> Iterator[bytes]:
    assert content[:4] == b":W&B", "the header of the file"
    position, parts = HEADER, b""
    while position + HEADER <= len(content):
        if BLOCK - position % BLOCK < HEADER:  # too little room for another record: the block ends with zeros
            position += BLOCK - position % BLOCK
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        body = content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (FULL, FIRST):
            parts = b""
        parts += body
        if kind in (FULL, LAST):
            yield parts
