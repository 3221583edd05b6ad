"""A process that owns an embedded store, for tests that end it by force: DATA_DIR.

It prints one word a line: the server's process id, `pushed` when `PUSHED` requests are in the store, `settled` when
`SETTLED` are in memory, and `flushed` after a clean end.
"""

# ruff: noqa: T201

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from proxy.meters.counters import Counters
from proxy.meters.embedded import EmbeddedStore
from proxy.meters.gpu_hours import GpuClock
from proxy.meters.ledger import Ledger
from proxy.meters.store import Store
from proxy.meters.sync import Sync
from tests.meters.examples import LLAMA, ROUTE, facts, outcome

PUSHED = 1000
SETTLED = 1300


async def serve(url: str) -> None:
    ledger = Ledger()
    sync = Sync(Store(url, timeout_s=30.0), Counters("owner", ledger), [GpuClock(lambda: [LLAMA], dict)])
    for _ in range(PUSHED):
        ledger.settle(facts(), ROUTE, outcome())
    await sync.sync()
    print("pushed", flush=True)
    sync.start()
    for _ in range(SETTLED - PUSHED):
        ledger.settle(facts(), ROUTE, outcome())
    print("settled", flush=True)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await sync.aclose()
        print("flushed", flush=True)


def main() -> None:
    with EmbeddedStore(Path(sys.argv[1])) as embedded:
        print(embedded.pid, flush=True)
        try:
            asyncio.run(serve(embedded.url))
        except KeyboardInterrupt:
            print("stopping", flush=True)


if __name__ == "__main__":
    main()
