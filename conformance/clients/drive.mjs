// The "client command" of the suite's client leg: gets the URL of the suite's mock server, puts a gateway in front of
// it, drives one scenario through the gateway, stops the gateway, and writes down what was not as expected.
import { writeFileSync } from 'node:fs';
import { startGateway } from '../lib/gateway.mjs';
import { stop } from '../lib/process.mjs';
import { legacyScenarios } from './legacy.mjs';
import { modernScenarios } from './modern.mjs';

// Below the suite's own limit: the suite ends only the shell around us, so that we could not clean up any more.
const deadlineMs = 20_000;
const env = process.env;
const bypass = env.ENFILADE_BYPASS === '1';

function finish(verdict) {
  writeFileSync(env.CONFORMANCE_VERDICT, JSON.stringify(verdict));
  if (verdict.error) console.error(verdict.error);
  process.exit(verdict.error ? 1 : 0);
}

async function run(upstreamUrl) {
  const scenarios = env.MCP_CONFORMANCE_PROTOCOL_VERSION === '2026-07-28' ? modernScenarios : legacyScenarios;
  const scenario = scenarios[env.MCP_CONFORMANCE_SCENARIO];
  if (!scenario) throw new Error(`no client for scenario ${env.MCP_CONFORMANCE_SCENARIO}`);
  const context = JSON.parse(env.MCP_CONFORMANCE_CONTEXT ?? '{}');
  if (bypass) {
    await scenario(upstreamUrl, { context, bypass });
    return {};
  }
  const upstreams = [{ name: 'suite', url: upstreamUrl }];
  const gateway = await startGateway(env.CONFORMANCE_BINARY, upstreams, env.CONFORMANCE_DIR, { group: false });
  let inOrder = true;
  try {
    await scenario(gateway.url, { context, bypass });
  } finally {
    // The suite waits until its connections are gone, so the gateway has to be gone when we end.
    inOrder = await stop(gateway.child);
  }
  return inOrder ? {} : { warning: 'the gateway had to be killed 5 s after SIGTERM' };
}

setTimeout(() => finish({ error: `the scenario took longer than ${deadlineMs} ms` }), deadlineMs).unref();
run(process.argv.at(-1)).then(finish, (error) => finish({ error: error.stack ?? String(error) }));
