import type { Command } from 'commander';
import type { CliIo } from '../cli/io.js';
import { agentCommand } from './agent-command.js';
import { devCommand } from './dev-command.js';
import { proxyCaptureCommand } from './proxy-capture-command.js';
import { serverCommand } from './server-command.js';

/** The commands of servers and of what they inject, which the CLI knows nothing of. */
export function servingCommands(io: CliIo, version: string): readonly Command[] {
  return [devCommand(io), serverCommand(io, version), agentCommand(io, version), proxyCaptureCommand(io)];
}
