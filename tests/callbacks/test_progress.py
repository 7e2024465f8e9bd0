import re

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from callbacks.progress import UpdateProgressBar


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("refresh_rate, drawn", [(2, True), (0, False)])
def test_the_bar_counts_updates_over_epochs(refresh_rate: int, drawn: bool, capsys: pytest.CaptureFixture[str]):
    trainer = Trainer(
        accelerator="cpu",
        max_steps=10,
        max_epochs=-1,
        limit_train_batches=4,
        logger=False,
        enable_checkpointing=False,
        callbacks=[UpdateProgressBar(refresh_rate)],
        enable_model_summary=False,
    )
    trainer.fit(BoringModel())
    bars = re.findall(r"train: .*?(\d+)/10 ", capsys.readouterr().out)
    assert bars[-1:] == (["10"] if drawn else [])
