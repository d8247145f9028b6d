"""One training from the first step, or the last checkpoint, to the end."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from mtvision.errors import TrainingError
from mtvision.training import processes
from mtvision.training.callbacks import StepInfo
from mtvision.training.evaluation import EvaluationResult, combined_score, score
from mtvision.training.history import Row
from mtvision.training.interrupts import Interruption
from mtvision.training.loss_meter import LossMeter
from mtvision.training.parameters import frozen_backbone
from mtvision.training.progress import Bar
from mtvision.training.run_folder import RunFolder
from mtvision.training.session import Session
from mtvision.training.skipped_images import SkippedImages
from mtvision.training.tracked_pictures import TrackedPictures
from mtvision.training.trackers import start_trackers
from mtvision.training.training_batches import TrainingBatches
from mtvision.types import Batch

if TYPE_CHECKING:
    from mtvision.training.trainer import Trainer

logger = logging.getLogger(__name__)


class Fit:
    """One call of `Trainer.fit`: epochs, validation, and a checkpoint wherever it can be cut off.

    A run stands at (epoch, step), the epochs and then the batches done; all steps of an epoch done and no row of the
    history for it means that its validation is left.

    Args:
        trainer: whose config, history, monitor and callbacks are used.
        session: what is trained.
        folder: where it is kept.
        loader: of the training images.
        val_loader: of those to score, None if there are none.
        interruption: tells when to leave.
    """

    def __init__(
        self,
        trainer: "Trainer",
        session: Session,
        folder: RunFolder,
        loader: DataLoader[Batch],
        val_loader: DataLoader[Batch] | None,
        interruption: Interruption,
    ) -> None:
        self.trainer, self.session, self.folder, self.interruption = trainer, session, folder, interruption
        self.loader, self.val_loader = TrainingBatches(loader), val_loader
        self.settings = trainer.config.training
        self.began = time.perf_counter()
        self.metrics: dict[str, float] = {}
        self._saved_at = 0
        self._named_images: dict[str, set[str]] = {"train": set(), "val": set()}
        self._skipped = SkippedImages(self._named_images["train"])
        self._pictures: TrackedPictures | None = None

    def run(self) -> None:
        """Do all epochs that are left."""
        trainer = self.trainer
        first, start = self._restore()
        self._begin_tracking()
        trainer.call("on_fit_start")
        for epoch in range(first, trainer.config.system.epochs):
            trainer.reason = next(filter(None, processes.gather(trainer.reason)), "")
            if trainer.monitor.is_exhausted(epoch) and not trainer.reason:
                trainer.stop(f"no better epoch in {self.settings.patience}")
            if trainer.reason and not (epoch == first and start):  # an epoch that was begun is done to its end
                trainer.reporter.say(f"stopped after epoch {epoch}: {trainer.reason}")
                break
            self._epoch(epoch, start if epoch == first else 0)
            if processes.number() > 1 and self._must_leave():
                self._leave(epoch + 1, 0)
        trainer.call("on_fit_end", trainer.history)

    def _begin_tracking(self) -> None:
        accelerator = self.session.accelerator
        start_trackers(accelerator, self.trainer.config, self.session.loop.steps_done)
        tracked = processes.gather(bool(accelerator.trackers))[0]  # the main one's: all take part in a panel, or none
        if self.val_loader is not None and tracked:
            self._pictures = TrackedPictures(self.trainer.model, len(self.val_loader))

    def _restore(self) -> tuple[int, int]:
        """Return the epoch and batch to begin with; all else is then as it was there."""
        trainer = self.trainer
        averaging = self.session.averaging
        state = self.folder.load(self.session.model, averaging.model if averaging is not None else None)
        trainer.history = self.folder.history(state)
        if state is None:
            return 0, 0
        self.session.restore(state)
        self.session.collect()
        trainer.monitor.restore(state["monitor"])
        trainer.reason = state["reason"]
        self.metrics = dict(state["metrics"])
        self._skipped.add(state.get("skipped_images", ()))
        self.began -= state["seconds"]
        return state["epoch"], state["step"]

    def _epoch(self, epoch: int, start: int) -> None:
        trainer, loop = self.trainer, self.session.loop
        trainer.call("on_epoch_start", epoch)
        if start == 0:
            loop.meter = LossMeter()
            self._skipped = SkippedImages(self._named_images["train"])
        self._train(epoch, start)
        losses = loop.meter.means_over_processes(self.session.accelerator.device)
        if not losses:
            raise TrainingError(f"no step of epoch {epoch + 1} could be made; {loop.problem}. Try a lower training.lr")
        if epoch == 0:
            _warn_of_idle_tasks(self.session.model.tasks, losses)
        row: Row = {"epoch": epoch + 1, "lr": loop.rate, "seconds": 0.0, **_named("train", losses)}
        row |= self._further_numbers()
        row |= _counted("train", self._skipped.of_all())
        if epoch + 1 < trainer.config.system.epochs:
            self.loader.prepare(epoch + 1)
        with self.session.scoring():
            result = self._validate(epoch) if self.val_loader is not None else EvaluationResult({})
        row |= self._scores(result) | _counted("val", result.skipped)
        row["seconds"] = time.perf_counter() - self.began
        row["per_class"] = result.per_class
        self.began = time.perf_counter()
        self.metrics = result.metrics
        loop.balancing.balancer.end_epoch()
        trainer.history.append(row)
        trainer.reporter.row(row)
        self._track({key: value for key, value in row.items() if key != "per_class"})
        self._keep(epoch + 1, row)

    def _train(self, epoch: int, start: int) -> None:
        """Do the steps of an epoch that are left."""
        number = len(self.loader)
        frozen = epoch < self.settings.freeze_backbone_epochs
        title = f"epoch {epoch + 1}/{self.trainer.config.system.epochs}"
        self.session.loop.network.train()
        with frozen_backbone(self.session.model, frozen), self.trainer.reporter.bar(title, number) as bar:
            bar.advance(start)
            done, batches = start, self._noted(self.loader.of_epoch(epoch, start))
            for done_now in self.session.loop.steps(epoch, batches, start, number):
                self._show(bar, done_now - done)
                done = done_now
                self._between_steps(epoch, done)

    def _noted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Pass on batches, and take note of what could not be read for them."""
        for batch in batches:
            self._skipped.add(getattr(batch, "skipped", ()))  # a foreign loader's batches may have no such field
            yield batch

    def _show(self, bar: Bar, batches: int) -> None:
        bar.advance(batches)
        loop = self.session.loop
        if bar.visible:
            losses = {name: float(value) for name, value in loop.losses.items()}
            bar.figures(losses, batches * loop.batch_images)

    def _between_steps(self, epoch: int, done: int) -> None:
        loop, every = self.session.loop, self.trainer.config.system.checkpoint_steps
        if self.trainer.callbacks:
            info = StepInfo(epoch, done, loop.steps_done, loop.rate, loop.losses, loop.weights)
            self.trainer.call("on_step_end", info)
        if self.session.accelerator.trackers:
            self._track({"train/step_loss": loop.losses["loss"], "lr": loop.rate, **_weights(loop.weights)})
        if self._must_leave():
            self._leave(epoch, done)
        due = every is not None and loop.steps_done % every == 0 and loop.steps_done > self._saved_at
        if due and done < len(self.loader):
            self._save(epoch, done)

    def _validate(self, epoch: int) -> EvaluationResult:
        loader: Any = self.val_loader
        processes.spread_buffers(self.session.scored)
        if self._pictures is not None:
            self._pictures.clear()
        with self.trainer.reporter.bar("validate", len(loader)) as bar:
            return score(
                self.session.scored,
                self._until_interrupted(bar.over(loader), epoch),
                forward=self.session.forward,
                weights=self.settings.loss_weights,
                classes=self.session.model.classes,
                shared=True,
                named=self._named_images["val"],
                observers=[self._pictures] if self._pictures is not None else (),
            )

    def _until_interrupted(self, batches: Iterator[Batch], epoch: int) -> Iterator[Batch]:
        """Pass on batches; processes that share them do not leave here, since they do not have equally many."""
        for batch in batches:
            if processes.number() == 1 and self.interruption:
                self._leave(epoch, len(self.loader))
            yield batch.to(self.session.accelerator.device)

    def _scores(self, result: EvaluationResult) -> Row:
        if not result.metrics:
            return {}
        scores = {f"val/{name}": value for name, value in result.metrics.items()}
        total = combined_score(self.session.model, result.metrics)
        return {**_named("val", result.losses), **scores, "val/score": total}

    def _further_numbers(self) -> Row:
        """Return the tasks' weights where a balancer chose them, and how many steps were skipped if any."""
        loop = self.session.loop
        chosen = self.settings.balancer.name != "fixed"
        weights = {name: float(value) for name, value in _weights(loop.weights).items()} if chosen else {}
        return {**weights, **({"train/skipped_steps": loop.skipped} if loop.skipped else {})}

    def _track(self, values: Mapping[str, Any]) -> None:
        accelerator = self.session.accelerator
        if accelerator.trackers:
            accelerator.log({key: float(value) for key, value in values.items()}, step=self.session.loop.steps_done)

    def _keep(self, epoch: int, row: Row) -> None:
        """Write the checkpoints after an epoch, counted from 1: first the best, which `last` may then rely on."""
        monitor = self.trainer.monitor
        is_best = monitor.update(epoch, row)
        if self._pictures is not None and (is_best or epoch == self.trainer.config.system.epochs):
            self._pictures.show(self.session.accelerator, self.session.loop.steps_done)
        if processes.is_main():
            self.folder.save_best(self.session.scored, epoch, self.metrics, is_best, [kept for kept, _ in monitor.kept])
        self.trainer.call("on_epoch_end", row)  # before the last checkpoint, which must know of a wish to stop
        self._save(epoch, 0)

    def _save(self, epoch: int, step: int) -> None:
        """Write the last checkpoint, from which the run can go on; every process takes part."""
        state = {
            **self.session.state(),
            "epoch": epoch,
            "step": step,
            "monitor": self.trainer.monitor.state(),
            "metrics": self.metrics,
            "reason": self.trainer.reason,
            "skipped_images": self._skipped.of_all(),
            "seconds": time.perf_counter() - self.began,
        }
        self._saved_at = self.session.loop.steps_done
        trained, averaged = self.session.weights()
        if processes.is_main():
            folder = self.folder.save_last(trained, averaged, state, self.trainer.history)
            if folder is not None:
                self.trainer.call("on_checkpoint", folder)

    def _must_leave(self) -> bool:
        if processes.number() == 1:
            return bool(self.interruption)
        return bool(processes.any_of(torch.tensor(bool(self.interruption), device=self.session.accelerator.device)))

    def _leave(self, epoch: int, step: int) -> None:
        self._save(epoch, step)
        where = f"after {step} of {len(self.loader)} batches of epoch {epoch + 1}"
        hint = f"stopped {where}; " + (
            f"the same call goes on from there: {self.folder.path}" if self.folder.path else "nothing was saved"
        )
        self.trainer.reporter.say(hint)
        processes.wait()  # a launcher ends the others as soon as one has left, also one that still writes
        self.interruption.leave(hint)


def _warn_of_idle_tasks(tasks: Iterable[str], losses: Mapping[str, float]) -> None:
    for task in tasks:
        parts = [value for name, value in losses.items() if name.startswith(f"{task}/")]
        if not any(parts):
            logger.warning("task '%s': its loss was zero in every step; is any training image annotated for it?", task)


def _named(split: str, losses: Mapping[str, float]) -> dict[str, float]:
    return {f"{split}/loss" if name == "loss" else f"{split}/loss/{name}": value for name, value in losses.items()}


def _counted(split: str, skipped: tuple[str, ...]) -> dict[str, float]:
    return {f"{split}/skipped_images": len(skipped)} if skipped else {}


def _weights(weights: Mapping[str, Any]) -> dict[str, Any]:
    return {f"train/weight/{task}": value for task, value in weights.items()}
