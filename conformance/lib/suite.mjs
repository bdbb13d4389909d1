// Runs the conformance suite's command line and reads what it recorded: one checks.json per scenario.
import { existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { drive, node, suiteMain } from './paths.mjs';
import { after, start, stop, tail } from './process.mjs';

const scenarioTimeoutMs = 30_000;
const serverRunTimeoutMs = 10 * 60_000;

/** Waits for the suite to end; one that hangs is ended and reported by the scenarios it left out. */
async function finish(child, timeoutMs) {
  const ended = await Promise.race([child.ended.then(() => true), after(timeoutMs)]);
  if (!ended) await stop(child);
}

/** The checks of every scenario below `dir`, by scenario; folders are named `[server-]SCENARIO-TIME`. */
function collect(dir) {
  const found = new Map();
  for (const folder of readdirSync(dir)) {
    const name = /^(?:server-)?(.+)-\d{4}-\d{2}-\d{2}T[\d-]+Z$/.exec(folder)?.[1];
    const file = join(dir, folder, 'checks.json');
    if (name && existsSync(file)) found.set(name, JSON.parse(readFileSync(file, 'utf8')));
  }
  return found;
}

/** Runs everything that a revision lists for servers against `url`. */
export async function runServerLeg(url, revision, dir) {
  mkdirSync(dir, { recursive: true });
  const args = [suiteMain, 'server', '--url', url, '--requirements', revision];
  args.push('-o', dir, '--timeout', String(scenarioTimeoutMs));
  const child = start(node, args, { logFile: join(dir, 'suite.log'), stdout: 'log' });
  await finish(child, serverRunTimeoutMs);
  const found = collect(dir);
  if (found.size === 0) throw new Error(`the suite recorded nothing:\n${tail(child.logFile)}`);
  return found;
}

/** Runs one client scenario; what our own client found wrong is added as a check. */
export async function runClientScenario(binary, scenario, revision, dir, bypass) {
  mkdirSync(dir, { recursive: true });
  const verdictFile = join(dir, 'client.json');
  const env = {
    // The suite splits the command at blanks and hands it to a shell: names survive, paths might not.
    CONFORMANCE_NODE: node,
    CONFORMANCE_DRIVE: drive,
    CONFORMANCE_DIR: dir,
    CONFORMANCE_VERDICT: verdictFile,
    CONFORMANCE_BINARY: binary,
    ENFILADE_BYPASS: bypass ? '1' : ''
  };
  const command = '"$CONFORMANCE_NODE" "$CONFORMANCE_DRIVE"';
  const args = [suiteMain, 'client', '--command', command, '--scenario', scenario];
  args.push('--spec-version', revision, '-o', dir, '--timeout', String(scenarioTimeoutMs));
  const child = start(node, args, { logFile: join(dir, 'suite.log'), stdout: 'log', env });
  await finish(child, 2 * scenarioTimeoutMs);
  const checks = collect(dir).get(scenario);
  if (!checks) return [{ id: 'suite-ran', status: 'FAILURE', errorMessage: tail(child.logFile) }];
  return [...checks, ...clientVerdict(verdictFile)];
}

/** Some of the suite's checks pass on an error text, so our clients compare what they were answered. */
function clientVerdict(file) {
  const unfinished = { error: 'the client did not finish' };
  const { error, warning } = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : unfinished;
  const status = error ? 'FAILURE' : 'SUCCESS';
  const checks = [{ id: 'client-saw-expected-answers', status, errorMessage: error }];
  if (warning) checks.push({ id: 'gateway-stops-in-order', status: 'WARNING', errorMessage: warning });
  return checks;
}
