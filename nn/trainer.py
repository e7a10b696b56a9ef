"""Training: the loop, on one screen. Rows in, parameters moved, history out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from backends import Step, StepNumbers
from backends.arguments import NamedArguments, check_flag, check_kind, check_path, check_text, check_whole_number
from backends.collectives import find_collectives
from backends.typing import Array

from .around_update import AveragedParameters, Share, around_update, check_around_update, settings_around_update
from .blocks import Blocks
from .callbacks import Callback
from .callbacks.base import check_callbacks, end_all, listens
from .data import Augment, Dataset, StreamedDataset
from .data.augment import as_augment
from .data.streamed.reader import some_rows
from .data.weights import weighted
from .divergence import TrainingDiverged
from .evaluation import evaluate_rows, totals_of
from .feed import Feed, Rows
from .fitting import begin_epoch, begin_fit, record_epoch
from .given import arguments_of, training_and_validation, uploaded
from .history import History
from .losses import Loss, get_loss
from .messages import sentence
from .metrics import Metrics, get_metrics
from .model import Sequential
from .optimizers import Optimizer, get_optimizer
from .out_of_memory import allocating, memory_told, training
from .pairs import targets_apart
from .picture_shape import shape_to_distort
from .plan import Observer, Plan, compile_plan
from .sinks import takes_input_scale
from .steps import STEPS_TOGETHER, Epoch, Parts, Recordings, leave_gradients, make_step, rates_of
from .storage.checkpoint import newest_checkpoint, write_checkpoint
from .storage.fit import Fit
from .storage.training_state import Interrupted, state_of
from .streamed_feed import feed_of
from .summary import Summary

#: What a copy and a pickle of a trainer are without: it follows from the rest.
_MADE_ANEW = {"backend", "totals", "totals_of_blocks", "norm_buffer", "_parts", "_recordings", "_averaged", "_fit"}
#: What makes of an attribute, as a user gives it, that which a trainer has.
_AS_GIVEN: dict[str, Callable[[Any], Any]] = {
    "loss": get_loss,
    "optimizer": get_optimizer,
    "callbacks": check_callbacks,
    "metrics": get_metrics,
    "train_metrics": partial(check_flag, "train_metrics"),
    "augment": as_augment,
}


class Trainer(NamedArguments):
    """Trains a model by gradient descent on batches of rows.

    Args:
        model: the network; its seed also decides the shuffles.
        loss: a name such as ``"softmax_cross_entropy"``, ``"binary_cross_entropy"``, ``"mean_squared_error"``; a
            ``Loss`` such as ``nn.losses.Huber(delta=0.5)``; or a function, as ``nn.losses.CustomLoss`` says. None: the
            one that the model was trained with before, also before it was saved; softmax cross-entropy for a new one.
        optimizer: ``SGD(learning_rate=0.1, momentum=0.9)``, or a name.
        callbacks: called around every ``fit``.
        metrics: what ``evaluate``, and the history of the validation rows, tell beside loss and accuracy: names, of
            ``Metric`` objects, or of functions of (targets, predictions).
        train_metrics: whether the history tells them of the training rows, too. Loss and accuracy of these cost
            nothing, as steps count them; the others cost a pass over all training rows after each epoch.
        clip_norm: before each update all gradients together are multiplied by min(1, clip_norm / (norm + 1e-6)), as
            PyTorch's ``clip_grad_norm_`` does; NaN and infinite ones are not hidden by it.
        clip_value: before that, each of them is moved into [-clip_value, clip_value].
        accumulate: how many batches make one update, by the gradient of the mean loss over all their rows. An epoch
            ends with an update, of the batches that are left; when training is stopped, these make none. The optimizer
            and its schedule count updates; layers see, and ``model.step`` counts, single batches.
        average: keep an exponential moving average of the parameters over the updates, average + (1 - d)
            (parameters - average) with this number as d, 0.999 for instance. It begins as a copy after the first
            update, as PyTorch's ``AveragedModel`` does with ``get_ema_avg_fn``. The trainer, and the history's
            validation, then evaluate and predict by the averaged parameters: see ``averaged``.
        augment: random distortions of the pictures of training batches, ``Augment(shift=2, rotation=15)`` for instance.
            Rows must be pictures then, or have an ``image_shape``. ``evaluate``, ``predict`` and ``gradients`` see them
            as they are.
        distributed: whether the processes that were started together (by ``mpiexec``, for instance) train together:
            each on its part of every batch.
        blocks: into how many blocks of rows each batch is cut, whose gradients are added up in a fixed order: runs with
            as many blocks have the same bits on any number of processes that divides it. By default as many as there
            are processes.

    All but the model, its processes and blocks may be changed between epochs, and are checked as here. An average that
    is switched off and on again begins anew.

    Attributes:
        epoch: how many epochs have been begun, over all calls of ``fit``; two calls of 3 and 2 epochs are one of 5.
        seen: on how many rows of the current epoch steps were made; 0 between epochs.
        history: one record for each.
        columns: what a record of the current ``fit`` tells, by name.
        totals: (2,) on the device: loss sum and correct rows of the current epoch so far.
        norm_buffer: (1,) on the device: what ``gradient_norm`` reads.
        blocks: those that each batch is cut into, a ``Blocks``; None where it is not.
        totals_of_blocks: (own blocks, 2) on the device: likewise, of each block of this process; ``totals`` is their
            sum over all processes when an epoch has ended, and 0 before.
        interrupted: whether training is ended by ``interrupt``.
        first_settings: what the first call of ``fit`` was begun with, which callbacks may have changed since; None
            before it.
        diverged: in ``on_fit_end`` of callbacks, the error of a divergence by which training ends; else None.

    Raises:
        ValueError: the network's last layer does not belong to the loss.
    """

    def __init__(
        self,
        model: Sequential,
        loss: str | Loss | Callable[..., Any] | None = None,
        optimizer: str | Optimizer = "sgd",
        *,
        callbacks: Iterable[Callback] = (),
        metrics: Metrics = (),
        train_metrics: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        average: float | None = None,
        augment: Augment | None = None,
        distributed: bool = False,
        blocks: int | None = None,
    ) -> None:
        check_kind("model", model, Sequential, "a Sequential")
        check_around_update(clip_norm, clip_value, accumulate, average)
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.accumulate, self.average = accumulate, average
        self.augment = augment
        self.model, self.backend = model, model.backend
        if check_flag("distributed", distributed):
            self.backend.train_with(find_collectives())
        self._blocks_given = blocks is not None
        count = self.backend.collectives.size if blocks is None else check_whole_number("blocks", blocks)
        self.loss = model.last_loss() if loss is None else get_loss(loss)
        self.optimizer = get_optimizer(optimizer)
        self.callbacks = check_callbacks(callbacks)
        self.metrics, self.train_metrics = get_metrics(metrics), train_metrics
        self.history = History()
        self.epoch, self.seen, self.stopping, self.interrupted = 0, 0, "", False
        self.diverged: TrainingDiverged | None = None
        self.columns: tuple[str, ...] = ()
        self.first_settings: dict[str, Any] | None = None
        self._fit: Fit | None = None
        self._resumed: Interrupted | None = None  # what the next call of ``fit`` goes on with
        self._interruption = ""  # what was asked for, until it takes effect
        self._begin(count)

    def __setattr__(self, name: str, value: Any) -> None:
        """What the constructor takes as a name or a list may be set later in the same form."""
        if name in _AS_GIVEN:
            value = _AS_GIVEN[name](value)
        elif (
            not name.startswith("_")
            and not hasattr(self, name)
            and (near := get_close_matches(name, vars(self), 1, 0.8))
        ):
            raise AttributeError(f"a Trainer has no {name}; did you mean {near[0]}?")
        if name == "loss":
            self.model.accept_loss(value.output_activation)
        object.__setattr__(self, name, value)

    # ---- fit -> epoch -> step ---------------------------------------------------------------------------------------

    @targets_apart
    @memory_told
    def fit(
        self,
        train: Any,
        epochs: int = 1,
        batch_size: int | None = 32,
        *,
        shuffle: bool = True,
        validation: Any = None,
        validation_every: int = 1,
        sample_weight: Any = None,
        class_weight: str | Mapping[Any, float] | None = None,
        callbacks: Iterable[Callback] = (),
    ) -> History:
        """Train for ``epochs`` passes over the rows of ``train``, and return the history.

        Args:
            train: a ``Dataset``, or ``(x, y)`` arrays of any array library; a ``StreamedDataset``, or what makes one,
                of rows that are larger than memory; or what ``upload`` gave, which spares several calls of ``fit`` the
                way to the device. Rows and targets may also be two arguments, as in ``fit(x, y, epochs=5)``; here and
                in ``evaluate``, ``losses`` and ``gradients``.
            batch_size: rows of a batch, which makes an update (but for ``accumulate``); the last one of an epoch may be
                shorter. None means all rows at once.
            shuffle: whether each epoch visits the rows in an order of its own, decided by (seed, epoch), and of rows
                that are larger than memory by window and block. All rows at once are never shuffled: their order
                changes nothing.
            validation: rows to evaluate after each epoch, given as ``train`` is; or a number between 0 and 1, the
                fraction of ``train`` to hold out for it, stratified by class.
            validation_every: evaluate after every so many epochs only, and after the first and the last.
            sample_weight: (n,) numbers of at least 0, how much each row of ``train`` counts in the loss and in the
                metrics, relative to the others; also in those that are held out of them. A ``Dataset`` may have
                ``weights`` instead.
            class_weight: what the rows of each class count: a mapping from classes, by number or name, to weights, or
                ``"balanced"`` for all classes to count the same. Held-out rows are without it.
            callbacks: more of them, for this call.

        Raises:
            ValueError, TypeError: the data do not fit the network or the loss; nothing has been trained then.
            TrainingDiverged: a loss or a parameter became infinite or NaN; the model has the weights back that it had
                before that epoch, and the history ends with the last good one.
        """
        if self._averaged.are_in:
            raise RuntimeError("fit would train the averaged parameters; call it outside of trainer.averaged()")
        train, validation = training_and_validation(self, train, validation, sample_weight, class_weight)
        arguments = arguments_of(self, train, batch_size, shuffle, validation_every)
        epochs = check_whole_number("epochs", epochs, least=0)
        called = check_callbacks([*self.callbacks, *check_callbacks(callbacks)])
        with self.backend.use(), self._averaged.kept_out():
            fit = begin_fit(self, train, validation, arguments, epochs, called, self._resumed)
            self._fit, self.stopping, self.interrupted = fit, "", False
            begun = list[Callback]()
            try:
                for callback in fit.called:
                    callback.on_fit_begin(self, len(fit.rows), max(fit.last - self.epoch, 0))
                    begun.append(callback)
                self._resumed = None  # until here another call could go on with it
                if fit.resumed is not None:
                    fit.resumed.restore_callbacks(self, fit)
                self._epochs(fit)
                self.history.stopped = self.stopping
            except TrainingDiverged as error:
                self.diverged, self.history.stopped = error, f"divergence in epoch {error.epoch}"
                raise
            finally:
                fit.rows.close()
                end_all(begun, self)
                self._fit, self._interruption = None, ""
                self.seen = 0 if self._resumed is None else self.seen
                self.diverged = None  # or it would hold this call, and with it the trainer
        return self.history

    def _epochs(self, fit: Fit) -> None:
        """All epochs, until the last one or until training is stopped."""
        while self.epoch < fit.last and not self._is_stopped(fit):
            self.epoch += 1
            if not self.seen:
                for callback in fit.called:  # before the plan is looked at: they may change a setting
                    callback.on_epoch_begin(self, self.epoch)
            epoch = self._recordings.epoch(self, fit.rows, fit.batch_size, fit.is_shuffled, fit.keeps_gradients)
            with training(self, fit.rows, fit.batch_size, fit.watch):
                begin_epoch(self, fit)
                self._epoch(epoch, fit)

    def _epoch(self, epoch: Epoch, fit: Fit) -> None:
        """All batches of an epoch, and the record of them."""
        each_batch = [callback for callback in fit.called if listens(callback, "on_batch_end")]
        alone = not all(callback.takes_parts for callback in fit.callbacks if listens(callback, "on_batch_end"))
        rows, end = epoch.feed.size, 0
        epoch.feed.begin_epoch(self.epoch, epoch.size, self.epoch < fit.last)
        while self.seen < rows:
            end = epoch.feed.until(self.seen) if self.seen >= end else end
            count = min(epoch.size, rows - self.seen)
            made = self.steps(epoch, self.seen, count, most=1 if alone else (end - self.seen) // count)
            self.seen += made * count
            for callback in each_batch:
                callback.on_batch_end(self, made * count)
            fit.watch.look(epoch, self.seen)
            if self.seen < rows and self._is_stopped(fit):
                break
        self._agree()
        record = record_epoch(self, epoch, fit)
        self.seen = 0
        self.history.append(record)
        for callback in fit.called:
            callback.on_epoch_end(self, record)

    def steps(self, epoch: Epoch, start: int, count: int, most: int = 1) -> int:
        """Make steps on ``count`` rows each, the first on those from ``start`` on, and count them: so many as belong
        into a part of an epoch, from one to ``most``, which is returned. Where one raises an error, none is counted.
        """
        optimizer, store = self.optimizer, self.model.store
        together = self.backend.collectives.size > 1
        update, most = optimizer.steps + 1, min(most, STEPS_TOGETHER if together else self._parts[count])
        if epoch.batches == 1:
            step = epoch.step
            rate, times = rates_of(optimizer, update, most)
            updates = times
        else:  # the first of several batches that make an update, some of those in the middle, or the last one
            share = Share.of(start, count, epoch.size, epoch.batches, epoch.feed.size)
            step = epoch.step_of(share)
            rate, times = optimizer.rate(update) if share.is_last else 0.0, min(most, share.alike)
            updates = int(share.is_last)
        position = epoch.feed.position(start)
        self._parts.launch(step, StepNumbers(position, self.model.step, update, rate), count, times)
        # Said here too: a recorded step is replayed without the Python code of its plan.
        store.gradients_are_kept, store.workspace.holder = epoch.keeps_gradients, None
        self.model.step += times
        optimizer.steps += updates
        return times

    def stop(self, reason: str) -> None:
        """End training after the current batch. For callbacks."""
        self.stopping = check_text("reason", reason)

    def interrupt(self, reason: str) -> None:
        """End training after the current batch, for a reason that is not the run's own: for signal handlers, and for
        other threads. Where nothing is trained, it is the next ``fit`` that ends at once.

        Where that is the middle of an epoch, its record says ``"interrupted"``, after how many rows, and is not
        evaluated. A checkpoint of that moment is one of a run that goes on. A run that is about to end by itself is
        not interrupted.
        """
        self._interruption = check_text("reason", reason)

    def _is_stopped(self, fit: Fit) -> bool:
        """Whether training ends here, between two steps. A signal may come at any line; this is where it takes effect.
        (Not before an epoch that is resumed in its middle: the run has not gone on yet, and nothing of it is lost.)
        Processes that train together end where one of them does."""
        interruption = self._agree()
        if interruption and not self.stopping and (not self.seen or fit.watch.good is not None):
            self.interrupted, self.stopping = True, interruption
            for callback in fit.called:
                callback.on_interrupt(self)
        return bool(self.stopping)

    def _agree(self) -> str:
        """Let what one of several processes is asked for, a stop or an interruption, be asked of all; why to interrupt
        training, "" if it goes on. What a signal asks for meanwhile takes effect the next time, as on one process only
        the others would go on without it."""
        collectives, interruption = self.backend.collectives, self._interruption
        if collectives.size > 1:
            if not collectives.any(bool(self.stopping or interruption)):
                return ""
            asked = collectives.gather((self.stopping, interruption))
            self.stopping = next((stopping for stopping, _ in asked if stopping), "")
            interruption = next((interruption for _, interruption in asked if interruption), "")
            self._interruption = interruption or self._interruption
        return interruption

    # ---- a run that goes on -----------------------------------------------------------------------------------------

    def save_checkpoint(self, folder: str | Path, keep: int = 2) -> Path:
        """Write all that this run needs to go on into ``folder``, which is made if need be, and remove older
        checkpoints there but for the ``keep`` newest ones with it. ``nn.Checkpoint`` does so as training runs. After
        ``resume`` and before ``fit`` has gone on, it is what was resumed that is written.

        Returns:
            The file: whole, or not there.

        Raises:
            OSError: it cannot be written; those that are there stay.
            RuntimeError: inside of ``averaged``, or in another thread than that of ``fit``.
        """
        self._averaged.refuse_to_save()
        folder, keep = check_path("folder", folder), check_whole_number("keep", keep)
        with self.backend.use():
            state = state_of(self, self._fit) if self._resumed is None else self._resumed.state
            write = partial(write_checkpoint, folder, state, keep, self.backend.to_numpy)
            return self.backend.collectives.by_first(write)

    def resume(self, folder: str | Path, *, missing_ok: bool = False) -> bool:
        """Go on with the run of the newest whole checkpoint in ``folder``.

        Build model and trainer as for the run, call this, and then ``fit`` as for the run: it makes the steps that are
        left, as they would have been, bit for bit on the same device; with the same history but for the seconds. More
        epochs than before are trained on. After several calls of ``fit`` it is the last of these that goes on.

        >>> from tempfile import TemporaryDirectory
        >>> from nn import Checkpoint, Linear, Sequential, Trainer
        >>> def run(folder, epochs):
        ...     trainer = Trainer(Sequential(Linear(2, 2), backend="cpu"))
        ...     goes_on = trainer.resume(folder, missing_ok=True)
        ...     rows, labels = [[1.0, 2.0], [2.0, 1.0]], [0, 1]
        ...     history = trainer.fit(rows, labels, epochs, callbacks=[Checkpoint(folder)])
        ...     return goes_on, len(history)
        >>> with TemporaryDirectory() as folder:
        ...     run(folder, 2), run(folder, 5)
        ((False, 2), (True, 5))

        Args:
            missing_ok: whether there may be no checkpoint yet; nothing is done then.

        Returns:
            Whether there was one.

        Raises:
            FileNotFoundError: there is none.
            CheckpointError: (a ValueError) none is whole, or it is of a network, a loss or an optimizer that differs.
                Nothing is changed then. ``fit`` raises it, too: for other rows, arguments or callbacks.

        Warns:
            CheckpointWarning: the newest one is damaged and an older one serves, or the run was on another device,
                with which the rest will agree within rounding.
        """
        if self._averaged.are_in:
            raise RuntimeError("a run cannot be resumed inside of trainer.averaged(); do so outside")
        folder, missing_ok = check_path("folder", folder), check_flag("missing_ok", missing_ok)
        state = self.backend.collectives.by_first(partial(newest_checkpoint, folder))
        if state is None:
            if missing_ok:
                return False
            wanted = "there is no checkpoint to resume; name the folder of nn.Checkpoint"
            raise FileNotFoundError(sentence(f"{folder}: {wanted}"))
        if not self._blocks_given:  # those of the run, on however many processes it goes on
            self._set_blocks(state["settings"].get("blocks", 1))
        interrupted = Interrupted(state)
        interrupted.restore(self)
        self._resumed = interrupted if interrupted.is_in_fit else None
        return True

    def _set_blocks(self, count: int) -> None:
        self.blocks = Blocks.of(self.backend, count)
        own = 0 if self.blocks is None else len(self.blocks.own)
        self.totals_of_blocks = self.backend.zeros((own, 2), self.backend.wide)

    # ---- around updates ---------------------------------------------------------------------------------------------

    @property
    def gradient_norm(self) -> float | None:
        """The norm of all gradients together at the last update, before ``clip_norm`` clipped them; None without
        ``clip_norm``, and 0 before the first update. Waits for the device, which computes it in any case."""
        if self.clip_norm is None:
            return None
        with self.backend.use():
            return self.backend.item(self.norm_buffer)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """A context in which the model has the averaged parameters, to predict by them or to save them; where none are
        kept, or before the first update, it has its own.

        What layers keep beside parameters, such as running statistics, is that of training, an average of its own.
        Whatever is written into the parameters meanwhile is lost, and ``fit`` is refused. Of several threads one at a
        time has them.

        >>> from nn import Linear, Sequential, Trainer
        >>> trainer = Trainer(Sequential(Linear(3, 2), backend="cpu"), average=0.9)
        >>> history = trainer.fit([[1.0, 2.0, 3.0]], [1], epochs=2)
        >>> trained = trainer.model.state_dict()["0.bias"]
        >>> with trainer.averaged():
        ...     bool((trainer.model.state_dict()["0.bias"] == trained).all())
        False

        Raises:
            RuntimeError: another thread trains the parameters meanwhile.
        """
        with self._averaged.put_in(self):
            yield

    # ---- without training -------------------------------------------------------------------------------------------

    @targets_apart
    @memory_told
    def gradients(self, data: Any) -> dict[str, Any]:
        """The gradients of the mean loss over all rows of ``data``, computed as in training, as NumPy arrays by the
        parameters' names. Moves nothing."""
        with self.backend.use():
            rows = self.upload(some_rows(self.model.dataset(data), "gradients"))
            self._recordings.look_at_own_layers(self, rows, len(rows))
            leave_gradients(self, rows, len(rows))
            return {name: self.backend.to_numpy(view).copy() for name, view in self.model.gradients.items()}

    @targets_apart
    @memory_told
    def evaluate(
        self, data: Any, batch_size: int = 1024, *, sample_weight: Any = None, metrics: Metrics | None = None
    ) -> dict[str, float]:
        """The mean loss over ``data``, the accuracy for classes, and other metrics, by name.

        Args:
            sample_weight: of the rows, where they count differently and the data set has no weights of its own; the
                means are weighted then, and so are metrics whose functions take weights.
            metrics: which; the trainer's by default.
        """
        batch_size = check_whole_number("batch_size", batch_size)
        asked = self.metrics if metrics is None else get_metrics(metrics)
        with self.backend.use():
            rows = self.upload(weighted(self.model.dataset(data), sample_weight))
            with self.averaged():
                return evaluate_rows(self, rows, asked, batch_size)

    @targets_apart
    @memory_told
    def losses(self, data: Any, batch_size: int = 1024) -> Any:
        """The loss of each row of ``data``, (m,) NumPy, without its weight: where the network is most wrong."""
        batch_size = check_whole_number("batch_size", batch_size)
        with self.backend.use():
            rows = self.upload(self.model.dataset(data))
            losses = self.backend.empty((len(rows),))
            with self.averaged():
                totals_of(self, rows, batch_size, losses)
            return self.backend.to_numpy(losses)

    def predict(self, x: Any, batch_size: int = 1024, *, like: Any = None) -> Any:
        """``Sequential.predict``, by the averaged parameters where there are any."""
        with self.averaged():
            return self.model.predict(x, batch_size, like=like)

    def predict_proba(self, x: Any, batch_size: int = 1024, *, like: Any = None) -> Any:
        """``Sequential.predict_proba``, likewise."""
        with self.averaged():
            return self.model.predict_proba(x, batch_size, like=like)

    def summary(self, batch_size: int = 32) -> Summary:
        """``Sequential.summary``, with the state of this optimizer."""
        return self.model.summary(batch_size, self.optimizer)

    # ---- rows on the device, and plans ------------------------------------------------------------------------------

    @memory_told
    def upload(self, data: Dataset | StreamedDataset, keep_scaled: bool = False) -> Rows:
        """``data`` on the device, checked against the network; with ``keep_scaled`` its rows already scaled. Rows that
        are larger than memory come there window by window, when they are needed."""
        return uploaded(self, data, keep_scaled)

    def release(self) -> None:
        """``Sequential.release``, and let go of recorded steps, too. Training goes on as it would have."""
        self._recordings.forget()
        self._parts.clear()
        self.model.release()

    def feed(self, rows: Rows, shuffled: bool = False, augmented: bool = False) -> Feed:
        """Batches of ``rows`` for the plans of this trainer; ``augmented``: for its training steps, which have their
        pictures distorted where that is asked for."""
        workspace, seed, scaled = self.model.store.workspace, self.model.seed, self._input_scale(rows) != 1.0
        settings: dict[str, Any] = {"shuffled": shuffled, "seed": seed, "network_scales": scaled}
        augment = self.augment if augmented else None
        return feed_of(workspace, rows, augment, lambda: shape_to_distort(rows.data, self.model.layers), **settings)

    def make_step(self, feed: Feed, plan: Plan, share: Share | None = None) -> Step:
        """A training step on a batch of ``feed``, which is what a backend records; where several batches make an
        update, ``share`` says which one it is. Never waits for the device."""
        return make_step(feed, plan, self.totals, share)

    def plan(
        self,
        rows: Rows,
        *,
        training: bool = False,
        optimizer: Optimizer | None = None,
        keep: bool = False,
        observer: Observer | None = None,
        block: int | None = None,
        flat_gradients: Array | None = None,
    ) -> Plan:
        """The network and the loss, compiled for batches of ``rows``; with an optimizer for training steps.

        Args:
            training: whether layers behave as in training; always with an optimizer.
            keep: whether the gradients of a step can be read after its update.
            observer: who looks at every tensor.
            block, flat_gradients: as of ``compile_plan``.
        """
        return compile_plan(
            self.model.layers,
            self.model.store,
            seed=self.model.seed,
            training=training or optimizer is not None,
            loss=self.loss.with_one_answer() if rows.classes and self.model.n_outputs > 1 else self.loss,
            optimizer=optimizer,
            input_scale=self._input_scale(rows),
            keep_gradients=keep,
            observer=observer,
            block=block,
            flat_gradients=flat_gradients,
            **({} if optimizer is None else around_update(self, self.norm_buffer)),
        )

    def _input_scale(self, rows: Rows) -> float:
        """What the first product multiplies ``rows`` by: their scale, where that is all there is to do."""
        return rows.scale if rows.shift == 0.0 and takes_input_scale(self.model.layers) else 1.0

    # ---- copies and pickles -----------------------------------------------------------------------------------------

    def _begin(self, blocks: int) -> None:
        """Make what neither a copy nor a pickle has; batches are cut into so many blocks."""
        self._parts, self._recordings, self._averaged = Parts(), Recordings(), AveragedParameters()
        self._fit = None
        what = f"{type(self.optimizer).__name__}'s numbers for {self.model.parameter_count:,} parameters"
        with self.backend.use(), allocating(self.backend, what, "use a smaller network or another device"):
            self.optimizer.bind(self.model.store)
            self.totals = self.backend.zeros((2,), self.backend.wide)
            self._set_blocks(blocks)
            self.norm_buffer = self.backend.zeros((1,), self.backend.wide)
            if self.average is not None:
                settings_around_update(self)

    def __copy__(self) -> Trainer:
        """As ``copy.deepcopy``: a trainer of its own with a model of its own, on the same device, that goes on as this
        one would, bit for bit. Rows that were uploaded stay with this one."""
        return deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        if self._averaged.are_in:
            raise RuntimeError("a copy would train the averaged parameters; make it outside of trainer.averaged()")
        return {name: value for name, value in vars(self).items() if name not in _MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.backend = self.model.backend
        self._begin(1 if self.blocks is None else self.blocks.count)
