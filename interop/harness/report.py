"""The table and the reasons below it."""


def table(clients, scenarios, outcomes):
    """Rows are clients, columns scenarios; `-` where a pair is not meant to be played."""
    marks = {(o.client, o.scenario): "FAIL" if o.reason else "ok" for o in outcomes}
    rows = [["", *scenarios]]
    for client in clients:
        rows.append([client, *(marks.get((client, name), "-") for name in scenarios)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def reasons(outcomes):
    """One paragraph per red cell."""
    red = [o for o in outcomes if o.reason]
    return "\n".join(f"FAIL {o.client} x {o.scenario}\n  {o.reason}\n  log: {o.log}" for o in red)
