"""The clock of an instance: when it plans, and when its batches end.

Planning is due when a batch has ended and when a request arrives at an idle instance; it forms batches until as many are in
flight as there may be. A batch's end is known when it is formed, so times of tokens are written then; the end gives back
seats and blocks. At one instant batches end first, then requests arrive, then batches are planned.

A family of kernels gives `advance` its functions: those that play runs of decodes, form a batch, and end one.
"""

from . import layout as at
from .compiler import kernel


@kernel
def advance(stretch, form, finish, me, world, until_ns):
    """Play an instance: all ends not after `until_ns`, all plans before it. DONE, or what there is no room for."""
    depth = world.settings[at.DEPTH]
    status = at.DONE
    while True:
        if me[at.IS_DUE]:
            if me[at.FLIGHTS] == depth - 1:
                status = stretch(me, world, until_ns)
                if status != at.DONE:
                    break
            if me[at.NOW] >= until_ns:
                break
            formed = at.SOMETHING
            while me[at.FLIGHTS] < depth and formed == at.SOMETHING:
                formed = form(me, world)
            if formed < 0:
                status = -formed
                break
            me[at.IS_DUE] = 0
        if me[at.FLIGHTS] == 0 or me[at.END] > until_ns:
            break
        status = finish(me, world)
        if status != at.DONE:
            break
        me[at.NOW] = me[at.END]
        me[at.FLIGHTS] -= 1
        me[at.END] = me[at.LAST_END]
        me[at.IS_DUE] = 1
    _tell_queue(me, world)
    return status


@kernel
def _tell_queue(me, world):
    """For routers: how many requests are here, and until when that cannot change.

    Ends that nobody leaves at change nothing. A batch that is still to be planned can add to those who leave with the one in
    flight.
    """
    if me[at.IS_DUE]:
        change_ns = me[at.END] if me[at.FLIGHTS] else me[at.NOW] + 1
    elif me[at.FLIGHTS] == 0:
        change_ns = at.NEVER
    elif me[at.FLIGHTS] == 1 or me[at.ENDING + ((me[at.BATCH] - me[at.FLIGHTS]) & 1)] != at.NONE:
        change_ns = me[at.END]
    else:
        change_ns = me[at.LAST_END]
    queue = world.queues[me[at.ID]]
    queue[0] = change_ns
    queue[1] = me[at.WAITING] + me[at.RUNNING]
