"""Teams that learned online, acting in NumPy from a small file of weights.

A file holds one network that all agents share, as safetensors (https://github.com/huggingface/safetensors):

    obs_mean, obs_scale     (O,)                    input = clip((obs - obs_mean) / obs_scale, -10, 10), agent's one-hot
    layers.<k>.weight       (out, in), float32      input -> activation(layers.0) -> ... -> last layer
    layers.<k>.bias         (out,)
    log_std                 (A,)                    continuous actions only: the last layer gives the Gaussian's mean

Its metadata says for which environment it is and how it was made. The files in ``environments/weights`` are called
``<family>-<scenario>-<stage>.safetensors``; ``python -m online.ppo`` writes such files.
"""

import functools
import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from environments.vector import Array, VectorStep
from environments.workplace import workplace

#: Stages of a training that come with the project, from the best to mixtures over the whole training.
STAGES = ("good", "medium", "poor", *(f"replay-{k}" for k in range(1, 6)))
WEIGHTS = Path(__file__).with_name("weights")
INPUT_LIMIT = 10.0  # standard deviations at which inputs are cut off
ACTIVATIONS = ("tanh", "relu")
_PLAIN = ("scenario", "activation", "n_agents", "obs_dim", "action_dim", "discrete")  # metadata without which none acts


@dataclass(frozen=True)
class TeamNetwork:
    """One network that decides for every agent of a team.

    Attributes:
        scenario: Where it learned, such as "smax/3m".
        activation: Between the layers.
        n_agents: Number of agents N.
        obs_dim: Length O of an observation.
        action_dim: Number of actions, or length of an action.
        discrete: Whether an action is a choice.
        tensors: Weights by name, float32.
    """

    scenario: str
    activation: Literal["tanh", "relu"]
    n_agents: int
    obs_dim: int
    action_dim: int
    discrete: bool
    tensors: dict[str, NDArray[np.float32]]

    def __call__(self, obs: Array) -> NDArray[np.float32]:
        """What the last layer says.

        Args:
            obs: (E, N, O).

        Returns:
            Logits or means, (E, N, A) float32.
        """
        tensors = self.tensors
        shown = np.clip((obs - tensors["obs_mean"]) / tensors["obs_scale"], -INPUT_LIMIT, INPUT_LIMIT)
        identity = np.broadcast_to(np.eye(self.n_agents, dtype=np.float32), (len(obs), self.n_agents, self.n_agents))
        hidden = np.concatenate([shown, identity], axis=-1).reshape(-1, self.obs_dim + self.n_agents)
        last = self.n_layers - 1
        for k in range(self.n_layers):
            hidden = hidden @ tensors[f"layers.{k}.weight"].T + tensors[f"layers.{k}.bias"]
            if k < last:
                hidden = np.tanh(hidden) if self.activation == "tanh" else np.maximum(hidden, 0.0)
        said: NDArray[np.float32] = hidden.reshape(len(obs), self.n_agents, -1).astype(np.float32)
        return said

    @property
    def n_layers(self) -> int:
        """Number of linear layers."""
        return sum(name.endswith(".weight") for name in self.tensors)

    def check(self, where: str) -> None:
        """Make sure that the weights fit together.

        Args:
            where: File, for the message.

        Raises:
            ValueError: If a weight is missing, superfluous, or of another shape or type.
        """
        found = {name: (tensor.shape, str(tensor.dtype)) for name, tensor in self.tensors.items()}
        expected = {name: (shape, "float32") for name, shape in self._shapes().items()}
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        if wrong:
            raise ValueError(
                f"expected {wrong[0]} to be {expected.get(wrong[0], 'absent')} in '{where}', got "
                f"{found.get(wrong[0], 'none')}; the file is damaged: python -m online.ppo {self.scenario} makes one"
            )

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight."""
        inner = [self.tensors[f"layers.{k}.bias"].size for k in range(self.n_layers - 1)]
        widths = [self.obs_dim + self.n_agents, *inner, self.action_dim]
        shapes: dict[str, tuple[int, ...]] = {"obs_mean": (self.obs_dim,), "obs_scale": (self.obs_dim,)}
        for k, (width, after) in enumerate(itertools.pairwise(widths)):
            shapes |= {f"layers.{k}.weight": (after, width), f"layers.{k}.bias": (after,)}
        return shapes if self.discrete else shapes | {"log_std": (self.action_dim,)}


class LearnedTeam:
    """A team that learned, as the recorder asks for it (:class:`environments.behaviours.Behaviour`).

    Args:
        network: Who decides.
        mode: Take the likeliest action (or the Gaussian's mean) instead of drawing one.
        name: Where the network comes from, for messages.
    """

    def __init__(self, network: TeamNetwork, mode: bool = False, name: str = "learned team") -> None:
        self.network, self.mode, self.name = network, mode, name

    def reset(self, n_envs: int) -> None:
        """Nothing to forget: the decision depends on the present observation alone."""

    def act(self, shown: VectorStep, generator: np.random.Generator) -> Array:
        """Legal actions for all copies, (E, N) int64, or (E, N, A) float32 in [-1, 1].

        Raises:
            ValueError: If the environment's dimensions are not those that the team learned for.
        """
        network = self.network
        sizes = (*shown.obs.shape[1:], shown.legal_actions.shape[-1])
        learned = (network.n_agents, network.obs_dim, network.action_dim)
        if sizes != learned:
            raise ValueError(
                f"'{self.name}' expects agents, observations and actions of {learned}, as in '{network.scenario}', got "
                f"{sizes}; play it there, or train one here: python -m online.ppo"
            )
        said = network(shown.obs)
        if not network.discrete:
            noise = 0.0 if self.mode else generator.standard_normal(said.shape, np.float32)
            return np.clip(said + np.exp(network.tensors["log_std"]) * noise, -1.0, 1.0).astype(np.float32)
        # the largest of logits plus Gumbel noise is a draw from their softmax
        wishes = said if self.mode else said + generator.gumbel(size=said.shape)
        chosen: Array = np.where(shown.legal_actions, wishes, -np.inf).argmax(axis=-1)
        return chosen


def weights_file(scenario: str, stage: str) -> Path:
    """Where the weights of a stage of a scenario's training lie, whether or not they exist.

    Args:
        scenario: Such as "smax/3m".
        stage: Such as "good".
    """
    return WEIGHTS / f"{scenario.replace('/', '-')}-{stage}.safetensors"


def shipped_stages(scenario: str) -> tuple[str, ...]:
    """The stages of a scenario whose weights come with the project."""
    return tuple(stage for stage in STAGES if weights_file(scenario, stage).is_file())


def read_team(path: Path) -> tuple[TeamNetwork, dict[str, Any]]:
    """A team from a file of weights.

    Args:
        path: Written by :func:`write_team`.

    Returns:
        The network, and everything else that the file says about itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, or damaged.
    """
    from safetensors import SafetensorError, safe_open  # here, because nobody who only imports the package needs it

    if not path.is_file():
        raise FileNotFoundError(f"expected weights of a team in '{path}', found none; python -m online.ppo makes one")
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dictionary
            facts = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
        network = TeamNetwork(**{key: facts.pop(key) for key in _PLAIN}, tensors=tensors)
        assert network.activation in ACTIVATIONS
    except (SafetensorError, KeyError, TypeError, AssertionError, json.JSONDecodeError) as error:
        raise ValueError(
            f"expected weights of a team in '{path}', the file is none or damaged ({type(error).__name__}: {error}); "
            "python -m online.ppo makes one"
        ) from None
    network.check(str(path))
    return network, facts


def write_team(path: Path, network: TeamNetwork, facts: dict[str, Any]) -> None:
    """Write a team into a file, which appears under its name only when it is complete.

    Args:
        path: Where to; the directory is made.
        network: The team.
        facts: What else the file shall say, plain JSON values by name.

    Raises:
        ValueError: If the weights do not fit together.
    """
    from safetensors.numpy import save

    network.check(str(path))
    said = {key: getattr(network, key) for key in _PLAIN} | facts
    content = save(network.tensors, {key: json.dumps(value) for key, value in said.items()})
    with workplace(path) as directory:
        (directory / "draft").write_bytes(content)
        (directory / "draft").replace(path)


@functools.cache
def shipped_team(scenario: str, stage: str) -> TeamNetwork:
    """The network of a stage that comes with the project; read once per process."""
    return read_team(weights_file(scenario, stage))[0]


@functools.cache
def digest(path: Path) -> str:
    """SHA-256 of the weights in a file; not of the file, in which safetensors puts the metadata in any order."""
    network, _ = read_team(path)
    found = hashlib.sha256(network.activation.encode())
    for name, tensor in sorted(network.tensors.items()):
        found.update(name.encode() + tensor.tobytes())
    return found.hexdigest()
