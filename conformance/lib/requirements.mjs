// What has to pass: the suite's own frozen lists, and the pass lines that this project holds itself to.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { need, requirementsDir } from './paths.mjs';

/** The scored scenarios of each leg, and how many there must be: a suite that shrinks is noticed. */
export const passLines = {
  server: { '2025-11-25': 30, '2026-07-28': 37 },
  client: { '2025-11-25': 4, '2026-07-28': 7 }
};

/** Not scored by the suite, but required here: the tasks extension. This one emits only a skipped check. */
const withoutChecks = 'tasks-status-notifications';

function load(revision) {
  return need('yaml').parse(readFileSync(join(requirementsDir, `${revision}.yaml`), 'utf8'));
}

/** Groups of scenarios of the server leg: `{label, scenarios, line}`; `line` is null for what is only shown. */
export function serverGroups(revision) {
  const { server, not_scored: rest } = load(revision);
  const extra = rest.filter((one) => one.leg === 'server').map((one) => one.scenario);
  const tasks = extra.filter((name) => name.startsWith('tasks-') && name !== withoutChecks);
  const shown = extra.filter((name) => !tasks.includes(name));
  const groups = [{ label: `server ${revision}`, scenarios: server, line: passLines.server[revision] }];
  if (tasks.length > 0) {
    groups.push({ label: `server ${revision} tasks`, scenarios: tasks, line: 9 });
  }
  groups.push({ label: `server ${revision} not scored`, scenarios: shown, line: null });
  return groups;
}

/** The client leg has one group: every scored scenario without authorisation, or `only` one of them. */
export function clientGroups(revision, only) {
  const label = `client ${revision}`;
  const scenarios = load(revision).client.filter((name) => !name.startsWith('auth/'));
  if (!only) return [{ label, scenarios, line: passLines.client[revision] }];
  const chosen = scenarios.filter((name) => name === only);
  return [{ label: `${label} (only ${only})`, scenarios: chosen, line: chosen.length }];
}
