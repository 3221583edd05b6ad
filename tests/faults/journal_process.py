"""A process that notes in a journal until it is killed: FOLDER SLOT.

For each note that is in the journal it writes one line to its output: the cell's number, the value, and how many
attempts are in flight. It writes after the fact, so what was read from it is the least that the journal must have.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from proxy.meters.journal import Journal

CELLS = 5
WIDTH = 21
IN_FLIGHT = 3
SYNC_EVERY = 50


def main() -> None:
    journal = Journal.open(Path(sys.argv[1]), sys.argv[2], attempts=64, arena_bytes=1 << 16)
    cells = [journal.cell("counters", f"cell-{number}", WIDTH) for number in range(CELLS)]
    values = [0] * CELLS
    running: list[tuple[int, int]] = []
    mark = 0
    for count in range(1, 10_000_000):
        number = count % CELLS
        running.append((number, journal.begin(cells[number], (count,))))
        if len(running) > IN_FLIGHT:
            owner, attempt = running.pop(0)
            journal.progress(running[0][1], count)
            values[owner] += 1
            journal.note(cells[owner], [values[owner]] * WIDTH, settles=attempt)
            os.write(1, b"%d %d\n" % (owner, values[owner]))
        if count % SYNC_EVERY == 0:
            journal.checkpoint(mark)
            mark = journal.mark(count)


if __name__ == "__main__":
    main()
