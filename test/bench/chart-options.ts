import { readFileSync } from 'node:fs';

/** The `NODE_OPTIONS` with which the chart has a server run. */
export function serverNodeOptions(): string {
  const template = new URL('../../charts/signet/templates/server/deployment.yaml', import.meta.url);
  const [, options] = /name: NODE_OPTIONS, value: (\S+) \}/.exec(readFileSync(template, 'utf8')) ?? [];
  if (options === undefined) throw new Error('the chart says no NODE_OPTIONS of the server');
  return options;
}
