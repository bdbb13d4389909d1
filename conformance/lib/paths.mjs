// Where things are: the checkout, the installed tools, and `need`, which loads a package out of them.
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '..', '..');
/** Node 22: the suite does not start on older ones, and the `node` that runs this harness may be older. */
export const node = join(root, '.tools/node/node_modules/.bin/node');
export const tools = join(root, '.tools', 'conformance');
export const suiteMain = join(tools, 'node_modules/@modelcontextprotocol/conformance/dist/index.js');
export const requirementsDir = join(tools, 'node_modules/@modelcontextprotocol/conformance/requirements');
export const drive = join(root, 'conformance', 'clients', 'drive.mjs');

/** Loads an installed package; the harness itself lives outside the folder that holds them. */
export const need = createRequire(join(tools, 'package.json'));
