// One table for all runs, the summary lines, and the messages of what failed or was warned about.

/** Counts of one scenario's checks; null when the suite recorded none. */
export function tally(checks) {
  if (!checks) return null;
  const count = (status) => checks.filter((check) => check.status === status).length;
  return { success: count('SUCCESS'), failure: count('FAILURE'), warning: count('WARNING') };
}

/** A scenario passes when it emitted checks that succeeded and none that failed; warnings are only shown. */
export function passes(counts) {
  return counts !== null && counts.failure === 0 && counts.success > 0;
}

function saysSomething(counts) {
  return counts !== null && counts.success + counts.failure > 0;
}

function cell(counts) {
  if (!counts) return 'no checks';
  if (!saysSomething(counts)) return counts.warning ? `${counts.warning} warn` : 'skipped';
  const parts = [`${counts.success} ok`];
  if (counts.failure) parts.push(`${counts.failure} FAIL`);
  if (counts.warning) parts.push(`${counts.warning} warn`);
  return parts.join(' ');
}

/** Rows are scenarios in the order in which the runs name them, columns are runs. */
export function table(runs) {
  const rows = new Set(runs.flatMap((run) => run.groups.flatMap((group) => group.scenarios)));
  const head = ['scenario', ...runs.map((run) => run.name)];
  const body = [...rows].map((scenario) => [
    scenario,
    ...runs.map((run) => {
      const listed = run.groups.some((group) => group.scenarios.includes(scenario));
      return listed ? cell(tally(run.checks.get(scenario))) : '';
    })
  ]);
  const widths = head.map((_, column) => Math.max(...[head, ...body].map((row) => row[column].length)));
  const line = (row) => row.map((text, column) => text.padEnd(widths[column])).join('  ').trimEnd();
  return [line(head), widths.map((width) => '-'.repeat(width)).join('  '), ...body.map(line)].join('\n');
}

/** Every failed or warned check with its message, one paragraph per run; empty when there is nothing to say. */
export function messages(runs, status) {
  const lines = [];
  for (const run of runs) {
    for (const scenario of run.groups.flatMap((group) => group.scenarios)) {
      const checks = run.checks.get(scenario);
      if (!checks && status === 'FAILURE') lines.push(`  ${run.name}  ${scenario}: the suite recorded no checks`);
      for (const check of checks ?? []) {
        if (check.status !== status) continue;
        const text = check.errorMessage ?? check.details?.message ?? check.description ?? '(no message)';
        lines.push(`  ${run.name}  ${scenario}  ${check.id}: ${shorten(text)}`);
      }
    }
  }
  return lines.join('\n');
}

function shorten(text, charsMax = 600) {
  const oneLine = String(text).replace(/\s+/g, ' ');
  return oneLine.length > charsMax ? `${oneLine.slice(0, charsMax)} ...` : oneLine;
}

/** The summary lines, and whether every group reached its pass line; nothing at all reaches none. */
export function summary(runs) {
  let good = runs.length > 0;
  const lines = [];
  for (const run of runs) {
    for (const group of run.groups) {
      const counts = group.scenarios.map((name) => tally(run.checks.get(name)));
      const passed = counts.filter(passes).length;
      // Where nothing is required, a scenario that checked nothing does not count either.
      const of = group.line === null ? counts.filter(saysSomething).length : group.scenarios.length;
      const reached = group.line === null || (of > 0 && passed === of && passed === group.line);
      good &&= reached;
      const note = run.note ? ` (${run.note})` : '';
      lines.push(`${group.label}${note}: ${passed}/${of}${reached ? '' : `  BELOW THE PASS LINE of ${group.line}`}`);
    }
  }
  return { text: lines.join('\n'), good };
}
