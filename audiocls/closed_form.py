"""The last layer in closed form: Fisher's linear discriminants, from sums over the training clips.

Where clips are few, a linear layer that is trained by gradients fits each of them long before it has found what the
classes differ in. The formula takes classes as normal distributions of one covariance, which is drawn towards a
multiple of the identity, since so many numbers cannot be estimated from so few clips.

Source: Fisher 1936, doi:10.1111/j.1469-1809.1936.tb02137.x; Friedman 1989, doi:10.1080/01621459.1989.10478752, for
the shrinkage; Hastie, Tibshirani & Friedman, "The Elements of Statistical Learning", section 4.3.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from audiocls.classifier import Classifier
from audiocls.complexity import n_trained

log = logging.getLogger(__name__)


def linear_discriminants(counts: Tensor, sums: Tensor, products: Tensor, *, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Weights of the linear layer whose logits are the log posteriors of the classes, but for a constant.

    Features are scaled to unit variance before shrinkage, so that their units do not matter.

    Args:
        counts: vectors of each class, shape (num_classes,), none of them zero.
        sums: of the vectors of each class, shape (num_classes, n).
        products: sum of the outer products of all vectors with themselves, shape (n, n).
        shrinkage: share of the identity in the covariance, above 0 and at most 1.
    Returns:
        Weight (num_classes, n) and bias (num_classes,), float64.
    Raises:
        ValueError: if `shrinkage` is out of range, or vectors of one class do not differ.

    >>> vectors, target = torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.tensor([0, 0, 1, 1])
    >>> of_class = torch.nn.functional.one_hot(target).double()
    >>> weight, bias = linear_discriminants(
    ...     of_class.sum(0), of_class.T @ vectors.double(), (vectors.T @ vectors).double(), shrinkage=0.5
    ... )
    >>> (weight @ torch.tensor([3.0]).double() + bias).diff().abs() < 1e-9  # halfway between the means, 1 and 5
    tensor([True])
    """
    check_shrinkage(shrinkage)
    counts, sums, products = counts.double(), sums.double(), products.double()
    n, means, mean = counts.sum(), sums / counts[:, None], sums.sum(0) / counts.sum()
    power = products.diagonal() / n
    variance = power - mean**2
    # a feature that never changes says nothing, whatever its unit; what is left of it are the sums' rounding errors
    scale = torch.where(variance > n * torch.finfo(n.dtype).eps * power, variance, 1.0).sqrt()
    within = (products - (counts[:, None] * means).T @ means) / n / scale[:, None] / scale
    spread = within.diagonal().mean()
    if not spread > 0:
        raise ValueError("linear discriminants need clips of one class that differ: give at least two of some class")
    centres = (means - mean) / scale
    within = (1 - shrinkage) * within + shrinkage * spread * torch.eye(len(mean), dtype=torch.float64)
    weight = torch.linalg.solve(within, centres.T).T
    bias = (counts / n).log() - (weight * centres).sum(1) / 2
    weight = weight / scale
    return weight, bias - weight @ mean


def check_shrinkage(shrinkage: float) -> None:
    """Refuse a share of the identity that leaves no covariance, or none of the identity."""
    if not 0 < shrinkage <= 1:
        raise ValueError(f"shrinkage must be above 0 and at most 1, got {shrinkage}")


class LinearDiscriminants(Callback):
    """Solves the head's last layer in closed form, from the embeddings of all crops so far; all else stands still.

    For heads that learn nothing before their last layer, such as `audiocls.heads.Moments`: one epoch is enough, and
    where augmentation draws other copies of the clips, some more are better. The layer is solved before each validation
    and at the end of each epoch, so that checkpoints hold it, and test and prediction need nothing of it. The sums are
    kept in checkpoints, and are the same on all processes.

    Args:
        shrinkage: share of the identity in the covariance of the scaled features, above 0 and at most 1.
        temperature: by which the logits are divided. Copies of a clip count as clips of their own, and the formula
            believes in the normal distribution, so that it is too sure of itself; what is right for validation, by its
            likelihood, is right here (Guo et al. 2017, arXiv:1706.04599). It never changes which class is likeliest.
    Raises:
        ValueError: if `shrinkage` is out of range or `temperature` is not positive; in training, if clips have not one
            class each, if clips are mixed, if the head has no linear last layer, or if a class has no clip.
    """

    def __init__(self, *, shrinkage: float = 0.05, temperature: float = 1.0) -> None:
        check_shrinkage(shrinkage)
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.shrinkage, self.temperature = shrinkage, temperature
        self._sums: dict[str, Tensor] = {}
        self._embedding: Tensor | None = None
        self._hook: RemovableHandle | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Hold everything but the last layer, before the optimizer is built."""
        if stage != "fit":
            return
        model = cast(Classifier, pl_module)
        if model.task != "multiclass":
            raise ValueError(
                f"LinearDiscriminants tells one class a clip, and the task is {model.task}: leave it out of "
                "trainer.callbacks"
            )
        if type(model.head.output) is not nn.Linear:
            raise ValueError(
                f"LinearDiscriminants solves a linear last layer, and that of {type(model.head).__name__} as it is set "
                f"is {type(model.head.output).__name__}: leave class_attention out"
            )
        if mixing := [type(part).__name__ for part in model.augment if part.mixes]:
            raise ValueError(
                f"LinearDiscriminants counts clips of one class each, and {', '.join(mixing)} mixes them: leave it out "
                "of model.augment"
            )
        if others := n_trained(model.head) - n_trained(model.head.output):
            log.warning(
                "LinearDiscriminants solves the last layer alone: %d other parameters of %s stay as they were drawn",
                others, type(model.head).__name__,
            )  # fmt: skip
        model.requires_grad_(False)
        model.head.output.requires_grad_(True)
        self._hook = model.head.output.register_forward_pre_hook(self._keep)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of the model."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = self._embedding = None

    def _keep(self, layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        self._embedding = given[0].detach()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let front-end and head do what they will do in prediction; augmentation goes on."""
        model = cast(Classifier, pl_module)
        model.frontend.eval()
        model.head.eval()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Leave the last layer to the formula. Zeros, not None, which a scaler of gradients would stumble over."""
        for parameter in cast(Classifier, pl_module).head.output.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add a batch of embeddings, those of all processes, to the sums."""
        assert self._embedding is not None
        model = cast(Classifier, pl_module)
        gathered: Any = model.all_gather((self._embedding, batch.target))
        # on the processor, since not every device has float64
        embedding, target = gathered[0].flatten(end_dim=-2).cpu().double(), gathered[1].flatten().cpu()
        of_class = nn.functional.one_hot(target, len(model.class_names)).double()
        batch_sums = {
            "counts": of_class.sum(0),
            "sums": of_class.T @ embedding,
            "products": embedding.T @ embedding,
        }
        self._sums = {name: self._sums.get(name, 0) + added for name, added in batch_sums.items()}

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the solution for what was heard so far."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._solve(cast(Classifier, pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the solution to the checkpoint."""
        self._solve(cast(Classifier, pl_module))

    def _solve(self, model: Classifier) -> None:
        silent = [name for name, n in zip(model.class_names, self._sums["counts"], strict=True) if not n]
        if silent:
            raise ValueError(
                f"LinearDiscriminants needs a clip of every class in training, and there is none of "
                f"{', '.join(map(repr, silent))}: add some, or take these classes out of the data"
            )
        weight, bias = linear_discriminants(**self._sums, shrinkage=self.shrinkage)
        output = cast(nn.Linear, model.head.output)
        with torch.no_grad():
            output.weight.copy_(weight / self.temperature)
            output.bias.copy_(bias / self.temperature)

    def state_dict(self) -> dict[str, Any]:
        """The sums, so that a run that is resumed goes on with them."""
        return dict(self._sums)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the sums of a checkpoint."""
        self._sums = dict(state_dict)
