#!/usr/bin/env node
// Runs the official conformance suite through the gateway, both legs at both revisions, and prints one table.
// Usage: run.mjs PATH/TO/enfilade [--leg server|client] [--revision R] [--only SCENARIO (client leg)]
// ENFILADE_NODES=3 runs it through that many nodes behind a balancer without stickiness.
import { mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startDemo, startGateway } from './lib/gateway.mjs';
import { root } from './lib/paths.mjs';
import { stop } from './lib/process.mjs';
import { messages, summary, table } from './lib/report.mjs';
import { clientGroups, serverGroups } from './lib/requirements.mjs';
import { runClientScenario, runServerLeg } from './lib/suite.mjs';

const eras = { '2025-11-25': 'legacy', '2026-07-28': 'modern' };
const bypass = process.env.ENFILADE_BYPASS === '1';
const results = join(root, '.tools', 'conformance-results');

/** The server leg once: demo upstreams of the revision's era, the gateway before them, the suite before that. */
async function serverRun(binary, revision, names) {
  const note = names.length > 1 ? 'two upstreams' : '';
  const name = `server ${revision.slice(0, 4)}${note ? ' +2nd' : ''}`;
  const dir = join(results, `server-${revision}-${names.length}`);
  mkdirSync(dir, { recursive: true });
  const children = [];
  const run = { name, note, groups: serverGroups(revision), checks: new Map() };
  try {
    const url = await target(binary, revision, names, dir, children);
    run.checks = await runServerLeg(url, revision, join(dir, 'suite'));
  } catch (error) {
    run.error = error.message;
  }
  // The gateway first, then its upstreams: it must not see them go.
  for (const child of children.reverse()) await stop(child);
  return run;
}

/** A gateway that ignores the second upstream would pass everything, so its tools have to be listed too. */
function requireMoreTools(both, single) {
  const listed = (run) => run.checks.get('tools-list')?.find((check) => check.id === 'tools-list')?.details?.tools ?? [];
  const more = listed(both).some((name) => !listed(single).includes(name));
  both.checks.get('tools-list')?.push({
    id: 'second-upstream-is-listed',
    status: more ? 'SUCCESS' : 'FAILURE',
    errorMessage: more ? undefined : 'tools/list shows no tool of the second upstream'
  });
}

/** What the suite talks to: the gateway, or with ENFILADE_BYPASS=1 the upstream itself. */
async function target(binary, revision, names, dir, children) {
  if (bypass && process.env.ENFILADE_BYPASS_UPSTREAM) return process.env.ENFILADE_BYPASS_UPSTREAM;
  const upstreams = [];
  for (const name of names) {
    const demo = await startDemo(binary, eras[revision], name, dir);
    children.push(demo.child);
    upstreams.push({ name, url: demo.url });
  }
  if (bypass) return upstreams[0].url;
  const gateway = await startGateway(binary, upstreams, dir);
  children.push(gateway.child);
  return gateway.url;
}

/** The client leg of one revision, scenario by scenario, each with a gateway of its own. */
async function clientRun(binary, revision, only) {
  const groups = clientGroups(revision, only);
  const run = { name: `client ${revision.slice(0, 4)}`, note: '', groups, checks: new Map() };
  for (const scenario of groups[0].scenarios) {
    const dir = join(results, `client-${revision}`, scenario);
    run.checks.set(scenario, await runClientScenario(binary, scenario, revision, dir, bypass));
  }
  return run;
}

/** Ends with the exit code of a command line that cannot be used. */
function refuse(why) {
  console.error(`run.mjs: ${why}`);
  console.error('usage: run.mjs PATH/TO/enfilade [--leg server|client] [--revision R] [--only SCENARIO (client leg)]');
  process.exit(64);
}

function commandLine() {
  const text = { type: 'string' };
  try {
    return parseArgs({ allowPositionals: true, options: { leg: text, revision: text, only: text } });
  } catch (error) {
    return refuse(error.message);
  }
}

/** What is to be played; refuses what would play nothing. */
function plan() {
  const { values, positionals } = commandLine();
  if (positionals.length !== 1) refuse('give the path of one binary');
  const { leg, revision, only } = values;
  if (leg !== undefined && !['server', 'client'].includes(leg)) refuse(`there is no leg ${leg}`);
  const known = Object.keys(eras);
  if (revision !== undefined && !known.includes(revision)) refuse(`there is no revision ${revision}: ${known.join(', ')}`);
  const revisions = known.filter((one) => revision === undefined || one === revision);
  // One scenario may be of one revision only.
  const played = revisions.filter((one) => leg !== 'server' && clientGroups(one, only)[0].scenarios.length > 0);
  if (only !== undefined && played.length === 0) refuse(`there is no scenario ${only} to play in the client leg`);
  return { binary: resolve(positionals[0]), only, server: leg === 'client' ? [] : revisions, client: played };
}

async function main() {
  const { binary, only, server, client } = plan();
  rmSync(results, { recursive: true, force: true });
  const runs = [];
  for (const revision of server) {
    const single = await serverRun(binary, revision, ['main']);
    runs.push(single);
    if (bypass) continue;
    const both = await serverRun(binary, revision, ['main', 'second']);
    requireMoreTools(both, single);
    runs.push(both);
  }
  for (const revision of client) runs.push(await clientRun(binary, revision, only));
  process.exitCode = print(runs) ? 0 : 1;
}

function print(runs) {
  console.log(table(runs));
  for (const run of runs.filter((one) => one.error)) console.log(`\n${run.name} could not run: ${run.error}`);
  const failures = messages(runs.filter((one) => !one.error), 'FAILURE');
  if (failures) console.log(`\nFailures:\n${failures}`);
  const warnings = messages(runs, 'WARNING');
  if (warnings) console.log(`\nWarnings (not counted):\n${warnings}`);
  const { text, good } = summary(runs);
  console.log(`\n${text}\nrecords: ${results}`);
  return good;
}

await main();
