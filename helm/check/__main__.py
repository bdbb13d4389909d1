"""`make helm`: python helm/check ENFILADE [ENFILADE-LOADTEST]"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from prove import prove  # noqa: E402
from render import KUBERNETES, Refused, invalid, lint, render  # noqa: E402
from sets import BAD, GOOD  # noqa: E402
from static import faults  # noqa: E402
from up import differences  # noqa: E402


def good(programs):
    """Each set of values is rendered, linted, valid, and consistent."""
    found, count = [], 0
    for name, values in GOOD.items():
        objects = render(values)
        count += len(objects)
        wrong = lint(values) + invalid(objects) + faults(objects, programs)
        found += [f"{name}: {one}" for one in wrong]
    versions = " and ".join(KUBERNETES)
    print(f"rendered, linted, valid for Kubernetes {versions}, consistent: {len(GOOD)} sets of values, {count} objects")
    return found


def bad():
    """Each wrong value is refused, with a message that names it."""
    found = []
    for values, message in BAD:
        try:
            render(values)
            found.append(f"taken: {values}")
        except Refused as refused:
            if message not in str(refused):
                found.append(f"{values}: {refused}, which does not say {message!r}")
    print(f"refused by name: {len(BAD) - len(found)} of {len(BAD)} bad values")
    return found


def main():
    paths = [pathlib.Path(path).resolve() for path in sys.argv[1:]]
    programs = {path.name: str(path) for path in paths}
    found = good(programs) + bad() + differences(programs["enfilade"])
    if not found:
        print("`enfilade up --nodes 3` has the same flags, ports and probes")
        prove(programs, print)
    for one in found:
        print(f"WRONG: {one}", file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
