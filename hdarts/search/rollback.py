"""Roll-back with more weight decay, where the eigenvalue shows that a search runs into a sharp minimum.

(Zela et al., Understanding and Robustifying DARTS, ICLR 2020: DARTS-ADA.) The published code can go back some epochs
further, and takes other batches when it repeats epochs.
"""

from hdarts.params import SearchParams, identity
from hdarts.runs import checkpoint
from hdarts.runs.checkpoint import CheckpointClock
from hdarts.runs.run import MEASURED, Run
from hdarts.search.log import Log
from hdarts.search.state import State, save
from hdarts.search.stopping import LAG, WINDOW, rise
from hdarts.search.weights import SGDSettings


def weight_decay(params: SearchParams, rollbacks: int) -> float:
    """Return the weight decay after so many roll-backs."""
    return params.weight_decay * params.decay_growth**rollbacks if rollbacks else params.weight_decay


def copies(params: SearchParams, epoch: int) -> list[str]:
    """Return the names of the copies that are kept of the checkpoint after an epoch (1 is the first)."""
    kept = [f"epoch-{epoch}"] if epoch in params.keep_epochs else []
    measured = bool(params.decay_growth) and epoch % params.eigenvalue_epochs == 0
    return kept + [f"{MEASURED}-{epoch}"] * measured


def remove_old_copies(params: SearchParams, run: Run, epoch: int) -> None:
    """Remove the copies of measured epochs to which no rise after `epoch` leads."""
    oldest = epoch - (LAG + WINDOW // 2 + 1) * params.eigenvalue_epochs
    for path in run.folder.glob(f"checkpoint.{MEASURED}-*.pt"):
        if int(path.stem.rpartition("-")[2]) < oldest:
            path.unlink(missing_ok=True)


def decayed(params: SearchParams, state: State) -> SGDSettings:
    """Return the settings of the weights' optimiser with the current weight decay."""
    return state.weights.settings._replace(decay=weight_decay(params, state.rollbacks))


def roll_back(params: SearchParams, run: Run, state: State, log: Log, clock: CheckpointClock) -> bool:
    """Return to the epoch before the eigenvalue grew, with more weight decay, if that is due; return whether it was.

    The rows of the epochs that are taken again move to rollbacks.csv, with the weight decay that they had. Once the
    decay has its largest value, the search continues to its end.
    """
    count = state.rollbacks + 1
    if not params.decay_growth or weight_decay(params, count) > params.most_weight_decay * (1 + 1e-9):
        return False
    epoch = rise(params, log.tables)
    if epoch is None:
        return False
    log.return_to(epoch, count, weight_decay(params, count - 1))
    state.restore(checkpoint.read(run.folder / f"checkpoint.{MEASURED}-{epoch}.pt", identity(params)))
    state.rollbacks = count
    for _ in range(2):  # the previous checkpoint is of an epoch that the tables no longer have
        save(run, params, state, clock)
    return True
