import type { Command } from 'commander';
import { agentsCommand } from './commands/agents.js';
import { bundleCommand } from './commands/bundle.js';
import { caCommand } from './commands/ca.js';
import { diffCommand } from './commands/diff.js';
import { explainCommand } from './commands/explain.js';
import { graphCommand } from './commands/graph.js';
import { importCommand } from './commands/import.js';
import { jwtCommand } from './commands/jwt.js';
import { lintCommand } from './commands/lint.js';
import { logsCommand } from './commands/logs.js';
import { renderCommand } from './commands/render.js';
import { resourcesCommand } from './commands/resources.js';
import { statusCommand } from './commands/status.js';
import { suggestCommand } from './commands/suggest.js';
import { svidCommand } from './commands/svid.js';
import { testCommand } from './commands/test.js';
import type { CliIo } from './io.js';
import { commandShell } from './shell.js';

export { runProgram } from './shell.js';

const EXAMPLES = `
Examples:
  # Run a server and an agent for the pods in a folder of YAML
  signet dev examples/payments

  # Get the X.509-SVID of the workload behind a socket
  SPIFFE_ENDPOINT_SOCKET=unix:///path/to/api.sock signet svid fetch

  # See the authorities, and rotate them
  signet ca show --state DIR
  signet ca rotate --state DIR

  # Check resource files before they are applied
  signet resources validate examples/payments

  # Ask who may do what, and write it as the rules of a mesh
  signet explain examples/payments --from payments/order-service --to payments/payment-service --method GET --path /api
  signet render examples/payments --mesh istio

  # Look at a cluster, as kubectl reaches it
  signet status
  signet logs --follow --to payments/

Exit codes: 0 done, 1 the answer is no (verification failed, files have problems), 2 wrong usage, 3 could not be done.`;

/**
 * The command line. `extra` are commands that main composes (they start servers, which the CLI knows nothing of).
 * Use {@link runProgram} to run it.
 */
export function buildProgram(io: CliIo, version: string, extra: readonly Command[] = []): Command {
  const commands = [
    ...extra,
    svidCommand(io),
    jwtCommand(io),
    bundleCommand(io),
    caCommand(io),
    resourcesCommand(io),
    explainCommand(io),
    testCommand(io),
    lintCommand(io),
    diffCommand(io),
    graphCommand(io),
    renderCommand(io),
    importCommand(io),
    suggestCommand(io),
    statusCommand(io),
    agentsCommand(io),
    logsCommand(io),
  ];
  return commandShell(io, version, commands).addHelpText('after', EXAMPLES);
}
