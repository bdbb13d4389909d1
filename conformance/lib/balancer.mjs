#!/usr/bin/env node
// A load balancer without stickiness: every request goes to the next target, bodies and streams pass through as they
// are. As a module it exports `balance`; as a program it prints `ready URL` (usage: balancer.mjs URL URL ...).
import { createServer, request, Agent } from 'node:http';
import { pathToFileURL } from 'node:url';

/** Starts a balancer in front of `targets` (URLs whose paths do not matter); gives its origin and `close`. */
export async function balance(targets) {
  const places = targets.map((url) => new URL(url));
  const agent = new Agent({ keepAlive: true });
  const counts = places.map(() => 0);
  let next = 0;
  const server = createServer((incoming, outgoing) => {
    const at = next++ % places.length;
    counts[at] += 1;
    pass(incoming, outgoing, places[at], agent);
  });
  // Streams may be silent for as long as they like.
  server.requestTimeout = 0;
  await new Promise((bound, failed) => server.once('error', failed).listen(0, '127.0.0.1', bound));
  const close = () => {
    server.closeAllConnections();
    agent.destroy();
    return new Promise((closed) => server.close(closed));
  };
  return { origin: `http://127.0.0.1:${server.address().port}`, counts, close };
}

/** Passes one request on, headers untouched; each side's end or loss is the other's. */
function pass(incoming, outgoing, place, agent) {
  const options = { host: place.hostname, port: place.port, method: incoming.method, path: incoming.url, agent };
  const forward = request({ ...options, headers: incoming.rawHeaders, setHost: false });
  forward.on('response', (answer) => {
    outgoing.writeHead(answer.statusCode, answer.statusMessage, answer.rawHeaders);
    outgoing.flushHeaders();
    answer.pipe(outgoing);
    answer.on('error', () => outgoing.destroy());
  });
  forward.on('error', () => {
    if (outgoing.headersSent) return outgoing.destroy();
    outgoing.writeHead(502).end('no answer from the node');
  });
  outgoing.on('close', () => {
    if (!outgoing.writableFinished) forward.destroy();
  });
  incoming.pipe(forward);
  incoming.on('error', () => forward.destroy());
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const targets = process.argv.slice(2);
  if (targets.length === 0) {
    console.error('usage: balancer.mjs URL URL ...');
    process.exit(64);
  }
  const { origin, close } = await balance(targets);
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => close().then(() => process.exit(0)));
  console.log(`ready ${origin}`);
}
