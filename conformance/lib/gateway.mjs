// The processes under test: demo upstreams and the gateway in front of them, configured as an operator would.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { balance } from './balancer.mjs';
import { readyUrl, readyUrls, start } from './process.mjs';

/** Starts `enfilade demo` of one era; the system chooses the port. */
export async function startDemo(binary, era, name, dir) {
  const args = ['demo', '--listen', '127.0.0.1:0', '--era', era, '--name', name];
  const child = start(binary, args, { logFile: join(dir, `demo-${name}.log`) });
  return { child, url: await readyUrl(child, `demo ${name}`) };
}

/** One server at /mcp with the given upstreams in order; with several, names get a prefix only on conflict. */
function configuration(upstreams) {
  const lines = [
    'listen:',
    '  - address: 127.0.0.1:0',
    '    protocol: http1',
    'servers:',
    '  - name: default',
    '    path: /mcp',
    '    prefix: on_conflict',
    `    upstreams: [${upstreams.map((one) => one.name).join(', ')}]`,
    'upstreams:'
  ];
  for (const { name, url } of upstreams) {
    lines.push(`  - name: ${name}`, `    url: ${url}`, '    era: auto', '    sessions: per_client');
  }
  return `${lines.join('\n')}\n`;
}

/** Nodes of the gateway: with several, a balancer without stickiness stands in front of them. */
const nodes = Number(process.env.ENFILADE_NODES ?? 1);

/** Starts the gateway in front of `upstreams` ([{name, url}]) with a data directory of its own under `dir`. `options` go to `start`. */
export async function startGateway(binary, upstreams, dir, options) {
  const home = mkdtempSync(join(dir, 'gateway-'));
  const file = join(home, 'enfilade.yaml');
  writeFileSync(file, configuration(upstreams));
  const args = ['up', '--nodes', String(nodes), '--config', file, '--data-dir', join(home, 'data')];
  const child = start(binary, args, { logFile: join(home, 'gateway.log'), ...options });
  if (nodes === 1) return { child, url: await readyUrl(child, 'gateway') };
  const urls = await readyUrls(child, 'gateway', nodes);
  const balancer = await balance(urls);
  child.ended.then(() => balancer.close());
  return { child, url: `${balancer.origin}${new URL(urls[0]).pathname}` };
}
