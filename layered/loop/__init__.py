"""The training loop: its events, its typed state, its callbacks, checkpoints and resuming."""

from typing import TYPE_CHECKING

from layered.foundation.faces import star as _star
from layered.loop.callback import Callback as Callback
from layered.loop.durations import Duration as Duration, Every as Every
from layered.loop.essentials import (
    CastToTensor as CastToTensor,
    SkipToEpoch as SkipToEpoch,
    TrainEvalCallback as TrainEvalCallback,
)
from layered.loop.events import (
    CancelBackwardException as CancelBackwardException,
    CancelBatchException as CancelBatchException,
    CancelEpochException as CancelEpochException,
    CancelFitException as CancelFitException,
    CancelStepException as CancelStepException,
    CancelTrainException as CancelTrainException,
    CancelValidException as CancelValidException,
    Event as Event,
    declare_event as declare_event,
    event as event,
)
from layered.loop.recorder import Recorder as Recorder
from layered.loop.resume.all_fits import resume_all as resume_all
from layered.loop.resume.checkpoint import Checkpoint as Checkpoint
from layered.loop.resume.restoring import Resume as Resume

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.data import length_of as length_of
from layered.loop.batches import (
    IGNORED as IGNORED,
    call_model as call_model,
    check_has_items as check_has_items,
    generators_of as generators_of,
    iter_once as iter_once,
    loss_of as loss_of,
    set_epoch as set_epoch,
    split_batch as split_batch,
    valid_of as valid_of,
)
from layered.loop.callback import bad_state as bad_state, callbacks_of as callbacks_of
from layered.loop.contexts import replaced as replaced
from layered.loop.current_opt import use_current_opt as use_current_opt
from layered.loop.essentials import (
    Resettable as Resettable,
    modes_of as modes_of,
    set_modes as set_modes,
)
from layered.loop.events import STEP as STEP, VALIDATE as VALIDATE
from layered.loop.kept import (
    Amount as Amount,
    Count as Count,
    Kinds as Kinds,
    Numbers as Numbers,
    fits as fits,
)
from layered.loop.listeners import Cbs as Cbs, Listener as Listener
from layered.loop.loop import ESSENTIAL_CALLBACKS as ESSENTIAL_CALLBACKS, Loop as Loop
from layered.loop.lost import LostProcess as LostProcess
from layered.loop.optimizer_parts import OptFunc as OptFunc, Optimizers as Optimizers, Rate as Rate, spread as spread
from layered.loop.processes import (
    any_process as any_process,
    average_gradients as average_gradients,
    by_first as by_first,
    gathered as gathered,
    mean_of_processes as mean_of_processes,
    send_from_first as send_from_first,
    sum_of_processes as sum_of_processes,
    unwrapped as unwrapped,
)
from layered.loop.recorder import format_time as format_time
from layered.loop.resume.description import fingerprint as fingerprint, plain_text as plain_text
from layered.loop.resume.finding import Resuming as Resuming
from layered.loop.resume.resumed import ResumedFit as ResumedFit
from layered.loop.resume.signals import signal_of as signal_of
from layered.loop.resume.snapshot import pack_callback as pack_callback
from layered.loop.resume.weights import (
    SUFFIX as SUFFIX,
    check_fits as check_fits,
    find_weights as find_weights,
    read_parts as read_parts,
    write_weights as write_weights,
)
from layered.loop.rollback import Rollback as Rollback, interrupts_held as interrupts_held
from layered.loop.sharding import (
    as_made as as_made,
    inner_units as inner_units,
    load_whole as load_whole,
    write_together as write_together,
)
from layered.loop.shared_rows import SharedRows as SharedRows
from layered.loop.state import STATE_FIELDS as STATE_FIELDS, AbstractLoop as AbstractLoop, State as State
