"""``lightning data record``: an embedded dataset, or any team in any environment.

who plays                                           where
the dataset's own scripts (embedded/...)            the dataset's scenario
--policy CKPT: a policy that was trained here       --environment: a scenario of ours, or package.module:function;
--behaviour package.module:function: the user's       by default the scenario that the dataset is named after
--behaviour good: a script of ours
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from callbacks.episodes import check_fits
from callbacks.rollout import PLAYABLE
from callbacks.stages import stage_name
from datamodules.catalogue import EMBEDDED, sources, vault_directory
from environments.behaviours import Behaviour, Uniform, make_behaviour
from environments.imported import ImportedBehaviour, is_import_path
from environments.recording import EPISODES, Player, record, record_team
from environments.registry import scenario_of
from environments.vector import Array, VectorEnv, VectorStep
from lightning_modules import OfflineModule
from lightning_modules.networks.policies import Policy

#: Options of an algorithm that decide how it acts; recording.json keeps those that it has.
ACTING = ("guidance_scale", "guidance_placement", "noise", "shared_noise", "sampling_steps", "executed_condition")


def record_dataset(
    dataset: str,
    quality: str,
    root: Path = Path("vaults"),
    seed: int = 0,
    episodes: int | None = None,
    policy: Path | None = None,
    environment: str | None = None,
    behaviour: str | None = None,
) -> Path:
    """Records an embedded dataset, or a policy or script of your own in any environment, into a vault.

    Embedded datasets need no options, and training records them by itself on first use. For a recording of your own,
    choose a source that nobody publishes under, such as my/smax/3m, and say who plays: --policy or --behaviour. What
    functions given by import path have to return is said in environments/imported.py.

    Args:
        dataset: For example embedded/smax/3m, or my/smax/3m for a recording of your own.
        quality: How well the recorded teams play: for embedded datasets what lightning data list shows, such as Mixed
            or Good; any name for your own.
        root: Directory of all vaults.
        seed: Decides every episode: equal seeds record equal data.
        episodes: Number of episodes; by default that of the embedded dataset, 1000 for your own.
        policy: Checkpoint of "lightning fit" whose policy plays, with the options it was trained with.
        environment: A scenario of ours, for example smax/3m, or package.module:function, which makes a PettingZoo
            ParallelEnv; by default the scenario that the dataset is named after.
        behaviour: package.module:function, which makes a callable (obs, legal_actions, generator) -> actions; or one of
            our teams: uniform everywhere, good and weak in SMAX and mpe/simple_spread, learned-good, learned-medium and
            learned-poor where weights come with the project (environments/weights).

    Returns:
        The vault's directory.

    Raises:
        ValueError: If the options do not go together, the dataset's name belongs to somebody else, or the checkpoint,
            the environment and the behaviour do not fit each other.
        FileNotFoundError: If there is no such checkpoint.
        FileExistsError: If there is other data under that name.
    """
    vault_directory(root, dataset, quality)  # raises on names that are none
    source = dataset.partition("/")[0]
    own = [option for option in (policy, environment, behaviour) if option is not None]
    if source == EMBEDDED and not own:
        return record(dataset, quality, root, seed=seed, episodes=episodes)
    if source in sources():
        raise ValueError(
            f"expected a dataset of a source of your own, such as my/smax/3m, got '{dataset}': '{source}' is "
            + ("for what our own scripts play, without further options" if source == EMBEDDED else "published")
        )
    if (policy is None) == (behaviour is None):
        raise ValueError(
            f"expected either --policy or --behaviour, to say who plays '{dataset}', got "
            f"{'neither' if policy is None else 'both'}; for example --policy runs/smac/version_0/checkpoints/last.ckpt"
        )
    scenario = environment or _scenario_named(dataset)
    player = trained_player(policy) if policy is not None else scripted_player(str(behaviour), scenario)
    return record_team(dataset, quality, root, scenario, player, EPISODES if episodes is None else episodes, seed)


def _scenario_named(dataset: str) -> str:
    """The scenario that a dataset is named after."""
    try:
        return scenario_of(dataset)
    except ValueError as error:
        raise ValueError(f"{error}; or name the environment: --environment") from None


def scripted_player(behaviour: str, scenario: str) -> Player:
    """A behaviour of the user's or one of ours.

    Args:
        behaviour: Import path of a function, or the name of a script.
        scenario: Where it plays.

    Returns:
        The player.

    Raises:
        ImportError: If there is no such module.
        TypeError: If what the function returns cannot be called.
        ValueError: If there is no such function or script.
    """
    if is_import_path(behaviour):
        imported = ImportedBehaviour(behaviour)
        return Player(behaviour, lambda _: imported, {"behaviour": behaviour})

    def make(env: VectorEnv) -> Behaviour:
        return Uniform(env.discrete) if behaviour == "uniform" else make_behaviour(scenario, behaviour)

    if is_import_path(scenario) and behaviour != "uniform":
        raise ValueError(
            f"expected --behaviour package.module:function or uniform in '{scenario}', got '{behaviour}', which is no "
            "script for environments of your own"
        )
    return Player(behaviour, make, {"behaviour": behaviour})


def trained_player(checkpoint: Path) -> Player:
    """The policy of a checkpoint.

    Args:
        checkpoint: Written by ``lightning fit``.

    Returns:
        The player; it refuses environments of other dimensions.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such checkpoint, or its policy is not trained yet.
    """
    module, update = load_module(checkpoint)
    stage = stage_name(module)
    if stage not in PLAYABLE:
        raise ValueError(
            f"expected a checkpoint with a trained policy, '{checkpoint}' is from the {stage}'s stage; go on with "
            "lightning fit --ckpt_path last, and record then"
        )

    def make(env: VectorEnv) -> Behaviour:
        check_fits(env.name, env, module)
        return PolicyBehaviour(module.for_environment(module.policy))

    facts = {
        "algorithm": type(module).__name__,
        "update": update,
        **{name: getattr(module, name) for name in ACTING if hasattr(module, name)},
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
    }
    return Player("trained", make, facts, {"checkpoint": _shown_path(checkpoint)}, packages=("torch", "lightning"))


def load_module(checkpoint: Path) -> tuple[OfflineModule, int]:
    """The algorithm in a checkpoint, ready to act, and the number of updates that it has trained.

    Nothing but weights and plain values is read from the file, and only algorithms that are imported already are made.

    Args:
        checkpoint: Written by ``lightning fit``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such checkpoint.
    """
    if not checkpoint.is_file():
        raise FileNotFoundError(f"--policy: expected a checkpoint of lightning fit, found no file '{checkpoint}'")
    try:
        content: Any = torch.load(checkpoint, map_location="cpu", weights_only=True)
        name, update = str(content["hyper_parameters"]["_class_path"]), int(content["global_step"])
    except Exception as error:  # torch raises whatever the bytes lead it to
        raise ValueError(
            f"--policy: expected a checkpoint of lightning fit, '{checkpoint}' is none or is damaged "
            f"({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        ) from None
    module = _algorithm(name, checkpoint).load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    return module.eval(), update


def _algorithm(class_path: str, checkpoint: Path) -> type[OfflineModule]:
    """The class that a checkpoint names, if it is imported already: a file shall not decide what is imported."""
    module_name, _, name = class_path.rpartition(".")
    algorithm = getattr(sys.modules.get(module_name), name, None)
    if not (isinstance(algorithm, type) and issubclass(algorithm, OfflineModule)):
        raise ValueError(
            f"--policy: expected a checkpoint of an algorithm of lightning_modules, '{checkpoint}' is one of "
            f"'{class_path}'; for an algorithm of your own, import it and call vgm2p_cli.main(['data', 'record', ...])"
        )
    return algorithm


def _shown_path(path: Path) -> str:
    """The path from the current directory if the file is below it, else the last parts, which name run and file."""
    whole, here = path.resolve(), Path(os.getcwd()).resolve()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else "/".join(whole.parts[-3:])


class PolicyBehaviour:
    """A trained policy as the recorder asks for it (:class:`environments.behaviours.Behaviour`).

    Args:
        policy: Who acts, for observations as the environment gives them.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._memory: Any = None

    def reset(self, n_envs: int) -> None:
        """Begin E new episodes."""
        self._memory = self._policy.initial_state(n_envs)

    @torch.no_grad()
    def act(self, shown: VectorStep, generator: np.random.Generator) -> Array:
        """One forward pass for all copies and agents; all randomness comes from the generator."""
        draws = torch.Generator().manual_seed(int(generator.integers(2**63)))
        obs, legal = torch.from_numpy(shown.obs), torch.from_numpy(shown.legal_actions)
        actions, self._memory = self._policy.act(obs, legal, self._memory, draws)
        chosen: Array = actions.numpy()
        return chosen
