// Child processes that are always cleaned up: whatever still runs is killed when this process ends or is interrupted.
// A child normally leads a group of its own, which is signalled as a whole; `group: false` keeps it in ours.
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';

const running = new Set();

function signalAll(child, signal) {
  try {
    process.kill(child.leads ? -child.pid : child.pid, signal);
  } catch {
    // Gone already: that is what was wanted.
  }
}

process.on('exit', () => running.forEach((child) => signalAll(child, 'SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => process.exit(130));
}

/** Starts a command; its stderr goes to `logFile`. `child.ended` resolves with the exit code or the signal's name. */
export function start(command, args, { logFile, env, stdout = 'pipe', group = true } = {}) {
  const log = openSync(logFile, 'a');
  const child = spawn(command, args, {
    stdio: ['ignore', stdout === 'pipe' ? 'pipe' : log, log],
    env: { ...process.env, ...env },
    detached: group
  });
  closeSync(log);
  running.add(child);
  child.logFile = logFile;
  child.leads = group;
  child.ended = new Promise((done) => {
    child.once('error', (error) => done(`could not start: ${error.message}`));
    child.once('exit', (code, signal) => done(code ?? signal));
  });
  child.ended.then(() => running.delete(child));
  return child;
}

/** Resolves with `null` after `ms`, without keeping the process alive. */
export function after(ms) {
  return new Promise((done) => setTimeout(done, ms, null).unref());
}

/** Waits for the line `ready URL` on the child's stdout; an early end or silence is an error with the log's tail. */
export async function readyUrl(child, what) {
  const [url] = await readyUrls(child, what, 1);
  return url;
}

/** The same for the first `count` such lines. */
export async function readyUrls(child, what, count, timeoutMs = 30_000) {
  const url = new Promise((found) => {
    let text = '';
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', (chunk) => {
      text += chunk;
      const urls = [...text.matchAll(/^ready (http\S+)\r?$/gm)].map((match) => match[1]);
      if (urls.length >= count) found(urls.slice(0, count));
    });
  });
  const failed = child.ended.then((how) => {
    throw new Error(`${what} ended (${how}) before it was ready\n${tail(child.logFile)}`);
  });
  const late = new Promise((_, reject) => {
    const error = new Error(`${what} printed not ${count} "ready" lines within ${timeoutMs} ms`);
    setTimeout(reject, timeoutMs, error).unref();
  });
  return Promise.race([url, failed, late]);
}

/** Ends a child with SIGTERM, after `graceMs` with SIGKILL. Says whether it went in an orderly way. */
export async function stop(child, graceMs = 5_000) {
  signalAll(child, 'SIGTERM');
  const how = await Promise.race([child.ended, after(graceMs)]);
  signalAll(child, 'SIGKILL');
  await child.ended;
  return how !== null;
}

/** The last lines of a log file, for error messages. */
export function tail(file, lines = 15) {
  return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
}
