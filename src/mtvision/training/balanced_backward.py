"""The backward passes of a step in which a balancer weighs the tasks."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtvision.model import MultiTaskModel
from mtvision.ops.precision import at_least_float32
from mtvision.training.balancing.base import Balancer


def shared_parameters(model: MultiTaskModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters that several tasks use, and all others.

    The backbone's are shared, and the neck's where it stands before more than one task.

    Example:
        >>> import mtvision as mtv
        >>> shared, own = shared_parameters(mtv.build_model({"backbone": "test_resnet"}))
        >>> sum(p.numel() for p in shared)  # the neck is detection's alone
        372688
    """
    parts = [model.backbone]
    if model.neck is not None and len(model.neck_tasks) > 1:
        parts.append(model.neck)
    shared = dict.fromkeys(parameter for part in parts for parameter in part.parameters())
    return list(shared), [parameter for parameter in model.parameters() if parameter not in shared]


def _unchanged(values: Tensor) -> Tensor:
    return values


class BalancedBackward:
    """Backward passes of the tasks' losses under a balancer, over the batches of one optimizer step.

    For each batch of the step call `backward`, after the last one `finish`, or `discard` if the step shall not be made.
    After `finish` the gradients are in ``.grad``, as after ``loss.backward()``. Where ``balancer.looks_after_step``,
    compute the losses of the last batch again after the optimizer's step and give them to `after_step`.

    Under a balancer on gradients no hook of ``DistributedDataParallel`` runs: let each forward pass be within its
    ``no_sync()``, the gradients are averaged here. Each graph is walked through T times, which torch refuses for some
    compiled networks unless ``torch._functorch.config.donated_buffer`` is False when they are compiled.

    Args:
        balancer: is moved to the device of the parameters.
        task_names: the order of the balancer's tasks.
        loss_weights: fixed factors of the losses, before the balancer sees them; 1 where none is given.
        shared: parameters whose gradients are combined; see `shared_parameters`.
        own: all other parameters of the model.
        backward: of a balancer that looks at losses alone: does the backward pass of a scalar, e.g. accelerate's.
        mean_over_processes: takes what each process has and returns the mean, the same in each.
        scale: of a balancer on gradients: what multiplies a loss so that half precision does not lose its gradient, and
            is divided out by the optimizer's wrapper: ``GradScaler.scale``.

    Raises:
        ValueError: if the balancer is for another number of tasks.
    """

    def __init__(
        self,
        balancer: Balancer,
        task_names: Iterable[str],
        loss_weights: Mapping[str, float],
        shared: Sequence[nn.Parameter],
        own: Sequence[nn.Parameter],
        *,
        backward: Callable[[Tensor], object],
        mean_over_processes: Callable[[Tensor], Tensor] = _unchanged,
        scale: Callable[[Tensor], Tensor] = _unchanged,
    ) -> None:
        self.balancer = balancer.to(next(iter([*shared, *own])).device)
        self.factors = {name: loss_weights.get(name, 1.0) for name in task_names}
        self.shared, self.own = tuple(shared), tuple(own)
        self._backward, self._mean, self._scale = backward, mean_over_processes, scale
        self._weights: Tensor | None = None
        self._group: _Group | None = None
        if balancer.num_tasks != len(self.factors):
            raise ValueError(f"a balancer of {balancer.num_tasks} tasks for {len(self.factors)}: {[*self.factors]}")

    @property
    def weights(self) -> dict[str, Tensor]:
        """The last weights by task, without ``loss_weights``: scalars (reading one waits for the device) or nothing."""
        return {} if self._weights is None else dict(zip(self.factors, self._weights.unbind(), strict=True))

    def backward(self, losses: Mapping[str, Tensor], share: float) -> None:
        """Do the backward passes of one batch.

        Args:
            losses: of each task, a scalar.
            share: 1 over the number of batches of the optimizer step.
        """
        terms = self._terms(losses)
        if self.balancer.on_gradients:
            if self._group is None:
                self._group = _Group(len(terms), self.shared, self.own)
            self._group.add([term * share for term in terms], self._scale)
            return
        values = torch.stack(terms)
        seen = self._mean(values.detach())
        self._weights = self.balancer.weigh(seen)
        total, own_loss = (self._weights * values).sum(), self.balancer.own_loss(seen)
        self._backward((total if own_loss is None else total + own_loss) * share)

    def finish(self) -> None:
        """Put the gradients of the step into ``.grad``, where that is not done yet: those of a balancer on gradients.

        Gradients that are not finite are left to the plain sum, and the balancer does not see them: half precision's
        scaler leaves out such a step, and in full precision the next loss is not finite.
        """
        group, self._group = self._group, None
        if group is None:
            return
        unit = self._scale(torch.ones((), device=group.rows.device))
        losses, used = group.over_processes(self._mean)
        rows = self._mean(group.rows).div_(unit)
        finite = torch.isfinite(torch.linalg.vector_norm(rows, dim=1)).all()
        weights = self.balancer.weigh(losses, rows) if finite else torch.ones_like(losses)
        self._weights = self._mean(weights)  # processes that drew or solved differently would drift apart
        own = group.own_sum(torch.ones_like(losses) if self.balancer.shared_only else self._weights)
        group.write(_combined(rows, self._weights).mul_(unit), self._mean(own), used)

    def discard(self) -> None:
        """Forget the batches since the last `finish`: their step will not be made."""
        self._group = None

    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """Give the balancer the losses of the step's last batch, computed again after the optimizer's step."""
        self.balancer.after_step(self._mean(torch.stack(self._terms(losses)).detach()))

    def _terms(self, losses: Mapping[str, Tensor]) -> list[Tensor]:
        return [at_least_float32(losses[name]) * factor for name, factor in self.factors.items()]


class _Group:
    """The gradients of each task, summed over the batches of one optimizer step.

    Args:
        num_tasks: T.
        shared: get a row of gradients a task; those that are frozen are left out.
        own: get the gradients that there are.
    """

    def __init__(self, num_tasks: int, shared: Sequence[nn.Parameter], own: Sequence[nn.Parameter]) -> None:
        self.shared = [parameter for parameter in shared if parameter.requires_grad]
        self.own = [parameter for parameter in own if parameter.requires_grad]
        self.sizes = [parameter.numel() for parameter in self.shared]
        first = [*shared, *own][0]
        kind = functools.reduce(torch.promote_types, (parameter.dtype for parameter in shared), torch.float32)
        self.rows = torch.zeros(num_tasks, sum(self.sizes), dtype=kind, device=first.device)  # (T, P)
        self.losses = torch.zeros(num_tasks, dtype=kind, device=first.device)
        self.own_gradients: list[dict[int, Tensor]] = [{} for _ in range(num_tasks)]
        self.used = [False] * (len(self.shared) + len(self.own))

    def add(self, terms: Sequence[Tensor], scale: Callable[[Tensor], Tensor]) -> None:
        """Add the gradients of one batch; a term without a graph has none."""
        self.losses += torch.stack([term.detach() for term in terms])
        inputs = [*self.shared, *self.own]
        connected = [(row, term) for row, term in enumerate(terms) if term.requires_grad and inputs]
        for row, term in connected:
            is_last = term is connected[-1][1]
            gradients = torch.autograd.grad(scale(term), inputs, retain_graph=not is_last, allow_unused=True)
            self._add_row(row, gradients)

    def _add_row(self, row: int, gradients: Sequence[Tensor | None]) -> None:
        slots = self.rows[row].split(self.sizes)
        own = self.own_gradients[row]
        for index, gradient in enumerate(gradients):
            if gradient is None:
                continue
            self.used[index] = True
            if index < len(slots):
                slots[index].add_(gradient.reshape(-1))
            else:
                own[index] = own[index] + gradient if index in own else gradient

    def over_processes(self, mean: Callable[[Tensor], Tensor]) -> tuple[Tensor, list[bool]]:
        """Return the losses ``(T,)``, and which parameters have a gradient in any process."""
        used = torch.tensor(self.used).to(self.losses)
        losses, used = mean(torch.cat([self.losses, used])).split([len(self.losses), len(used)])
        return losses, (used > 0).tolist()

    def own_sum(self, factors: Tensor) -> Tensor:
        """Return the gradients of the own parameters one after the other, each task's times its factor."""
        pieces = [self.rows.new_zeros(0)]
        for index, parameter in enumerate(self.own, start=len(self.shared)):
            total = torch.zeros_like(parameter, requires_grad=False)
            for factor, gradients in zip(factors, self.own_gradients, strict=True):
                if index in gradients:
                    total = total + factor * gradients[index]
            pieces.append(total.reshape(-1))
        return torch.cat(pieces)

    def write(self, shared: Tensor, own: Tensor, used: Sequence[bool]) -> None:
        """Add gradients, given one after the other, to ``.grad``, in the memory format of the parameter."""
        sizes = [parameter.numel() for parameter in self.own]
        pieces = [*shared.split(self.sizes), *own.split(sizes)]
        for parameter, piece, has_gradient in zip([*self.shared, *self.own], pieces, used, strict=True):
            if has_gradient:
                gradient = torch.empty_like(parameter).copy_(piece.view(parameter.shape))
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _combined(rows: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of ``(T, P)``, ``(P,)``, row by row: a product of matrices may be rounded to TF32."""
    total = rows[0] * weights[0]
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        total.addcmul_(row, weight)
    return total
