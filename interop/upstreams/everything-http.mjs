// Runs server-everything in its Streamable HTTP mode on a loopback port that the system chooses, and
// prints it: the package itself can only be told a port, not asked for one.
import { Server } from 'node:net';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const listen = Server.prototype.listen;
Server.prototype.listen = function (_port, ...rest) {
    this.once('listening', () => {
        process.stderr.write(`ready http://127.0.0.1:${this.address().port}/mcp\n`);
    });
    return listen.call(this, 0, '127.0.0.1', ...rest);
};

const packages = `${process.env.INTEROP_PACKAGES}/package.json`;
const entry = createRequire(packages).resolve('@modelcontextprotocol/server-everything/dist/index.js');
process.argv[2] = 'streamableHttp';
await import(pathToFileURL(entry));
