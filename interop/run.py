#!/usr/bin/env python3
"""`make interop`: every client with every upstream through one gateway; prints a table.

Exits 1 on any red cell. Needs only the standard library; install.sh brings the peers.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True  # the checkout stays clean

from harness import cell, peers, report
from harness.processes import reap_leftovers
from harness.scenarios import scenarios
from harness.subject import Subject
from harness.world import World

LEFTOVER_SECONDS = 5


def options():
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(os.path.dirname(peers.HERE), "target"))
    built = lambda name: os.path.join(target, "debug", name)
    parser = argparse.ArgumentParser(description=__doc__)
    gateway = os.environ.get("ENFILADE_BIN", built("enfilade"))
    parser.add_argument("--gateway", default=gateway, help="the gateway's binary (or ENFILADE_BIN)")
    rmcp = os.environ.get("INTEROP_RMCP_CLIENT", built("interop-rmcp-client"))
    parser.add_argument("--rmcp-client", default=rmcp, help="the rmcp client's binary (or INTEROP_RMCP_CLIENT)")
    parser.add_argument("--nodes", type=int, default=1, help="nodes of the gateway, behind a balancer without stickiness")
    parser.add_argument("--control", action="store_true", help="check the harness itself, without a gateway")
    parser.add_argument("--client", default="", help="only rows whose name contains this")
    parser.add_argument("--scenario", default="", help="only the column of this name")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time")
    parser.add_argument("--minutes", type=float, default=12, help="cells not begun by then are red")
    return parser.parse_args()


def pairs(chosen, rows, columns, urls):
    """The cells to play: duplex scenarios only with clients that answer requests."""
    for row in rows:
        for column in columns:
            wanted = chosen.client in row.name and chosen.scenario in ("", column.name)
            if wanted and column.path in urls and (row.duplex or not column.answers):
                yield row, column


def play(chosen, world, logs, subject):
    """Starts the subject and plays all cells; returns what the table needs."""
    rows, columns = peers.clients(chosen.rmcp_client), scenarios(world)
    if chosen.control:
        subject.start_control()
    else:
        subject.start_gateway(chosen.gateway, chosen.nodes)

    until = time.monotonic() + chosen.minutes * 60

    def one(pair):
        row, column = pair
        return cell.run(row, column, subject.urls[column.path], world, logs, chosen.control, until)

    pool = ThreadPoolExecutor(chosen.jobs)
    outcomes = []
    try:
        for outcome in pool.map(one, pairs(chosen, rows, columns, subject.urls)):
            mark = "FAIL" if outcome.reason else "ok"
            print(f"{mark:4} {outcome.client} x {outcome.scenario} ({outcome.seconds:.1f} s)", flush=True)
            outcomes.append(outcome)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return [row.name for row in rows], [column.name for column in columns], outcomes


def main():
    chosen = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interrupted"))  # still cleans up
    root = tempfile.mkdtemp(prefix="enfilade-interop-")
    red = False
    try:
        red = not run(chosen, root)
    finally:
        # The logs of a red run are wanted; those of one that was interrupted are not.
        if not red:
            shutil.rmtree(root, ignore_errors=True)
    return int(red)


def run(chosen, root):
    """Plays everything in a folder and prints what came of it; true when all is green."""
    logs = os.path.join(root, "logs")
    os.mkdir(logs)
    world = World(root)
    subject = Subject(world, logs)
    wrong, outcomes = [], []
    try:
        rows, columns, outcomes = play(chosen, world, logs, subject)
        print(f"\n{report.table(rows, columns, outcomes)}\n")
    except (OSError, RuntimeError) as error:
        wrong.append(str(error))
    finally:
        wrong += subject.stop()
        wrong += [f"left behind: {command}" for command in reap_leftovers(LEFTOVER_SECONDS)]
        world.close()
    if not outcomes:
        wrong.append("no cell was played")
    red = sum(outcome.reason is not None for outcome in outcomes)
    if red or wrong:
        print(report.reasons(outcomes))
        for reproach in wrong:
            print(f"FAIL {reproach}")
        print(f"\n{red} of {len(outcomes)} cells red; logs in {logs}")
        return False
    print(f"all {len(outcomes)} cells green")
    return True


if __name__ == "__main__":
    sys.exit(main())
