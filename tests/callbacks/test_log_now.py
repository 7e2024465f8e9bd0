from typing import Any

from lightning.pytorch.loggers.logger import DummyLogger

from callbacks.log_now import log_now


class Remembering(DummyLogger):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[dict[str, float], int]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append((metrics, step))


class FakeTrainer:
    def __init__(self, global_step: int) -> None:
        self.global_step, self.callback_metrics, self.loggers = global_step, {}, [Remembering(), Remembering()]


def test_numbers_reach_every_logger_once_and_the_callbacks():
    trainer: Any = FakeTrainer(global_step=10)
    log_now(trainer, {"eval/return_mean": 1.5})
    assert [logger.rows for logger in trainer.loggers] == [[({"eval/return_mean": 1.5}, 9)]] * 2
    assert trainer.callback_metrics["eval/return_mean"].item() == 1.5


def test_before_the_first_update_the_row_is_the_first():
    trainer: Any = FakeTrainer(global_step=0)
    log_now(trainer, {"eval/return_mean": 0.0})
    assert trainer.loggers[0].rows[0][1] == 0
